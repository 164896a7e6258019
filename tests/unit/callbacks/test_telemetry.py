"""Telemetry counts what passes cost, against torch's own counter; and its file survives."""

from __future__ import annotations

import json

import pytest

from didact.core.errors import DataError, OrderBrokenError
from didact.training.telemetry import STEPS, Step, read_steps, step_lines

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def llama(tiny_model):
    return lambda: transformers.AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation="eager"
    )


def trained(llama, folder, rows, *, resume=None, callbacks=(), **more):
    """A plain trainer over rows of tokens, with Telemetry."""
    from didact.callbacks import Telemetry

    more = {"max_steps": -1, "save_strategy": "no", "learning_rate": 1e-3, **more}
    args = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, num_train_epochs=1, use_cpu=True,
        report_to="none", train_sampling_strategy="sequential", disable_tqdm=True,
        logging_steps=1000, **more,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=llama(), args=args,
        train_dataset=[{"input_ids": r, "labels": r, "attention_mask": [1] * len(r)} for r in rows],
    )  # fmt: skip
    telemetry = Telemetry()
    for callback in (telemetry, *callbacks):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume)
    return telemetry, trainer


def rows(n: int, length: int = 24):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, 290, (n, length), generator=generator).tolist()


def test_flops_are_torchs_own_count(llama, flop_counter):
    from didact.callbacks.pass_flops import pass_flops

    model, ids = llama(), torch.tensor(rows(2, 32))
    with flop_counter() as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    counted = pass_flops(model).count(64, 2 * 32.0**2, learning=True)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.05)
    with torch.no_grad(), flop_counter() as counter:
        model(input_ids=ids)
    counted = pass_flops(model).count(64, 2 * 32.0**2, learning=False)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_flops_of_adapters_are_torchs_own_count(llama, flop_counter):
    peft = pytest.importorskip("peft")
    from didact.callbacks.pass_flops import pass_flops

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model, ids = peft.get_peft_model(llama(), config), torch.tensor(rows(2, 32))
    with flop_counter() as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    counted = pass_flops(model).count(64, 2 * 32.0**2, learning=True)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_a_loaded_model_has_the_numbers_of_its_files(llama, tiny_model):
    from dataclasses import replace

    from didact.callbacks.pass_flops import pass_flops
    from didact.models.architecture import read_spec

    assert replace(pass_flops(llama()).spec, name="") == replace(read_spec(tiny_model), name="")


def test_losses_are_the_models_own(llama, tmp_path):
    data = rows(6)
    _, trainer = trained(llama, tmp_path, data, learning_rate=0.0)
    steps = read_steps(tmp_path)
    model = llama()
    for number, step in enumerate(steps):
        ids = torch.tensor(data[2 * number : 2 * number + 2])
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        assert step.grad_norm == pytest.approx(norm.item(), rel=1e-4)  # before it is clipped
        assert (step.tokens, step.learnt, step.samples, step.epoch) == (48, 46, 2, 1)
    assert not any("loss" in line for line in trainer.state.log_history)  # nothing more is logged


def test_a_resumed_run_goes_on_with_its_file(llama, tmp_path):
    data = rows(10)
    trained(llama, tmp_path, data, save_strategy="steps", save_steps=2, max_steps=5)
    whole = read_steps(tmp_path)
    kept = step_lines(whole[:4]) + '{"step": 5, "lo'  # killed in step 5, after a checkpoint at 2
    (tmp_path / STEPS).write_text(kept)
    trained(llama, tmp_path, data, max_steps=5, resume=str(tmp_path / "checkpoint-2"))
    again = read_steps(tmp_path)
    assert [s.step for s in again] == [1, 2, 3, 4, 5]
    assert again[-1].total_tokens == whole[-1].total_tokens
    assert again[-1].total_flops == whole[-1].total_flops
    assert again[-1].seconds > again[1].seconds == whole[1].seconds
    assert json.loads((tmp_path / "training.json").read_text())["notes"] == []


def test_evaluation_does_not_count(llama, tmp_path):
    class Evaluating(transformers.TrainerCallback):
        def on_step_end(self, *_, model=None, **__):
            model.eval()
            with torch.no_grad():
                model(input_ids=torch.tensor(rows(4)))

    plain, _ = trained(llama, tmp_path / "a", rows(4))
    with_it, _ = trained(llama, tmp_path / "b", rows(4), callbacks=[Evaluating()])
    assert plain.totals == with_it.totals


def test_a_loss_that_is_lost_is_named_by_the_reader(llama, tmp_path):
    def broken():
        model = llama()
        with torch.no_grad():
            model.lm_head.weight.fill_(float("nan"))
        return model

    trained(broken, tmp_path, rows(2))
    with pytest.raises(DataError, match="the loss of step 1 is nan"):
        read_steps(tmp_path)


def test_what_cannot_be_counted_is_said(llama, tmp_path):
    def odd():
        model = llama()
        model.cube = torch.nn.Parameter(torch.zeros(2, 2, 2))
        return model

    telemetry, _ = trained(odd, tmp_path, rows(4))
    assert telemetry.totals == (96, None)
    assert read_steps(tmp_path)[-1].total_flops is None
    (note,) = json.loads((tmp_path / "training.json").read_text())["notes"]
    assert note.startswith("FLOPs are not counted: ")


def test_a_broken_order_has_an_exit_code_of_its_own():
    assert (OrderBrokenError.exit_code, DataError.exit_code) == (4, 1)
    assert Step(step=1, loss=0.0).total_flops is None
