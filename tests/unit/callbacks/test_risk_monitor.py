"""RiskMonitor: three lines in a script, flags while it trains, for objectives of every kind."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import pytest

from didact.analysis.risk.flags import read_risk
from didact.core.errors import DataError
from didact.training.telemetry import STEPS, read_steps, step_lines

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def train(tiny_model):
    """A plain trainer over rows of tokens, with a RiskMonitor; one step may be of other text."""

    def trained(folder, *given, n=64, strange=None, seed=0, settings=None, resume=None, **more):
        from didact.callbacks import RiskMonitor

        generator = torch.Generator().manual_seed(seed)
        rows = [(torch.arange(24) * 7 % 90 + 10 + i % 5).tolist() for i in range(2 * n)]
        if strange is not None:
            for i in (2 * strange, 2 * strange + 1):
                rows[i] = torch.randint(200, 280, (24,), generator=generator).tolist()
        args = transformers.TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=2,
            **{"num_train_epochs": 1, "learning_rate": 3e-3, **(settings or {})},
            use_cpu=True, report_to="none", train_sampling_strategy="sequential",
            disable_tqdm=True, logging_steps=1000,
            **({} if settings and "save_steps" in settings else {"save_strategy": "no"}),
        )  # fmt: skip
        transformers.set_seed(0)
        trainer = transformers.Trainer(
            model=transformers.AutoModelForCausalLM.from_pretrained(tiny_model), args=args,
            train_dataset=[{"input_ids": r, "labels": r} for r in rows],
        )  # fmt: skip
        monitor = RiskMonitor(*given, **more)
        trainer.add_callback(monitor)
        trainer.train(resume_from_checkpoint=resume)
        return monitor, trainer

    return trained


def test_a_training_like_the_last_one_is_clean(train, tmp_path):
    train(tmp_path / "v1")
    monitor, _ = train(tmp_path / "v2", tmp_path / "v1", seed=1)
    assert monitor.flags == []
    (found,) = read_risk(tmp_path / "v2")
    assert (found.version, found.seen, found.verdict) == ("v2", 1.0, "clean")
    assert {one.kind for one in found.judged} == {"loss", "spike"}
    assert len(read_steps(tmp_path / "v2" / STEPS)) == 64


def test_a_spike_is_warned_of_when_it_comes_and_may_end_the_training(train, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "didact.callbacks.risk_monitor")
    monitor, trainer = train(tmp_path / "v1", strange=40, stop=True)
    assert [(f.kind, f.advice.split(":")[0]) for f in monitor.flags] == [("spike", "step 41")]
    assert trainer.state.global_step == 41
    assert caplog.messages[0].startswith("risk: spike is ")
    told = json.loads((tmp_path / "v1" / "risk.json").read_text())["versions"][0]
    assert told["verdict"] == "flagged"
    assert told["seen"] == pytest.approx(41 / 64)


def test_a_training_that_goes_on_keeps_its_flags(train, tmp_path):
    out = tmp_path / "v1"
    settings = {"save_steps": 48, "save_only_model": False}
    before, _ = train(out, strange=40, settings=settings)
    monitor, trainer = train(
        out, strange=40, settings=settings, resume=str(out / "checkpoint-48"), stop=True
    )
    assert [f.advice for f in monitor.flags] == [f.advice for f in before.flags] != []
    assert trainer.state.global_step == 64  # no new one ends it
    assert read_risk(out)[0].verdict == "flagged"


def test_a_loss_that_is_not_the_last_versions_is_flagged(train, tmp_path):
    train(tmp_path / "v1")
    before = [replace(s, loss=s.loss + 1) for s in read_steps(tmp_path / "v1" / STEPS)]
    (tmp_path / "v1" / STEPS).write_text(step_lines(before))
    monitor, _ = train(tmp_path / "v2", tmp_path / "v1")
    assert [f.kind for f in monitor.flags] == ["loss"]
    assert monitor.flags[0].z < 0


def test_what_is_not_comparable_is_said(train, tmp_path):
    train(tmp_path / "v1")
    about = json.loads((tmp_path / "v1" / "training.json").read_text())
    other = json.dumps({**about, "objective": "dpo", "loss": "the trainer's own"})
    (tmp_path / "v1" / "training.json").write_text(other)
    monitor, _ = train(tmp_path / "v2", tmp_path / "v1", n=24)
    assert monitor.flags == []
    (found,) = read_risk(tmp_path / "v2")
    assert "loss: the losses are in" in found.cannot[0]
    with pytest.raises(DataError, match="no steps.jsonl and no trainer_state.json"):
        train(tmp_path / "v3", tmp_path / "nowhere", n=2)


@pytest.mark.parametrize(("steps", "seen"), [(6, 0.5), (24, 1.0)])
def test_max_steps_is_no_epoch(train, tmp_path, steps, seen):
    """The share that was seen is of the data, whether the training ends before or after it."""
    train(tmp_path / "v1", n=12, settings={"max_steps": steps})
    (found,) = read_risk(tmp_path / "v1")
    assert found.seen == seen
    train(tmp_path / "v2", tmp_path / "v1", n=12, settings={"num_train_epochs": 2})
    (found,) = read_risk(tmp_path / "v2")
    assert found.cannot[0].startswith(f"loss: max_steps is -1, and was {steps}")


def test_a_training_that_is_lost_is_not_clean(train, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "didact.callbacks.risk_monitor")
    more = {"learning_rate": 1e30, "max_grad_norm": 0.0}
    train(tmp_path / "v1", n=24, settings=more)
    (found,) = read_risk(tmp_path / "v1")
    assert (found.verdict, found.judged) == ("cannot_tell", ())
    assert "everything after it is lost" in found.cannot[-1]
    assert "NaN" not in (tmp_path / "v1" / "risk.json").read_text()
    assert len(caplog.messages) == 1


def test_another_number_of_epochs_has_other_learning_rates(train, tmp_path):
    train(tmp_path / "v1", n=12)
    train(tmp_path / "v2", tmp_path / "v1", n=12, settings={"num_train_epochs": 2})
    (found,) = read_risk(tmp_path / "v2")
    assert found.cannot == ("loss: num_train_epochs is 2, and was 1",)


def test_a_step_costs_next_to_nothing(train, tmp_path):
    """The judgement of a step, timed on its own: under 3 ms on a busy core."""
    monitor, _ = train(tmp_path / "v1", n=24)
    step = read_steps(tmp_path / "v1" / STEPS)[-1]
    began = time.process_time()
    for _ in range(20):
        monitor._note(monitor._spikes(step))
    assert (time.process_time() - began) / 20 < 3e-3
