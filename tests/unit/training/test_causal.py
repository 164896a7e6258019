# ruff: noqa: E402 - what needs torch is imported where it is there
import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from didact.accounting.flops import training_flops
from didact.accounting.lengths import micro_batch_size
from didact.core.errors import ConfigError, DataError, ExecutionError, PoolMismatchError
from didact.core.scores import TrainingOrder
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, encode
from didact.models.folder import check, digest
from didact.models.language_model import open_model
from didact.training.causal import TrainSettings, read_trained, train
from didact.training.samples import Samples, padded_micro_batches, rows_digest

QUICK = TrainSettings(batch_size=8, learning_rate=3e-3, device="cpu", max_length=96)


@pytest.fixture(scope="module")
def order():
    return np.random.default_rng(0).permutation(80)


@pytest.fixture(scope="module")
def trained(sums, tiny, order, tmp_path_factory):
    return train(sums, order, tiny, tmp_path_factory.mktemp("out") / "model", QUICK)


def test_the_loss_falls_from_that_of_knowing_nothing(trained, tiny):
    losses = [step.loss for step in trained.steps]
    assert len(losses) == 10
    # logits of an untrained model have a standard deviation of 0.02 √width, which adds under 0.1
    assert losses[0] == pytest.approx(math.log(read_spec(tiny).vocab), abs=0.1)
    assert losses[-1] < losses[0] - 0.5
    assert all(math.isfinite(s.grad_norm) and s.learning_rate > 0 for s in trained.steps)


def test_every_step_read_its_part_of_the_order(trained, order):
    assert [s.rows for s in trained.steps] == [
        rows_digest(order[i : i + 8]) for i in range(0, 80, 8)
    ]
    assert rows_digest(order[:8]) != rows_digest(order[:8][::-1])


def test_rows_become_their_own_tokens_in_sequence(sums, tiny, order, monkeypatch):
    from didact.training import samples as module

    monkeypatch.setattr(module, "BLOCK", 7)
    with open_model(tiny, device="cpu") as model:
        how = Encoding(kind="chat", max_length=96)
        samples = Samples(sums, [order, order[::-1]], model.tokenizer, how)
        for epoch, rows in enumerate([order, order[::-1]]):
            samples.set_epoch(epoch)
            for i in range(len(samples)):
                row, tokens, at = samples[i]
                assert row == rows[i]
                turns = sums.read([row], ["turns"]).column("turns")
                (expected,) = [encode(turns, model.tokenizer, how)]
                span = slice(tokens.offsets[at], tokens.offsets[at + 1])
                assert tokens.ids[span].tolist() == expected.ids.tolist()
                assert tokens.weights[span].tolist() == expected.weights.tolist()


def test_a_step_does_what_adam_does_to_the_mean_loss_of_its_tokens(sums, tiny, tmp_path):
    rows = np.arange(20, 26)
    settings = dataclasses.replace(
        QUICK, batch_size=6, micro_batch_size=2, dtype="float64", schedule="constant",
        warmup_ratio=0.0, weight_decay=0.0, max_grad_norm=1e9,
    )  # fmt: skip
    done = train(sums, rows, tiny, tmp_path / "m", settings)
    with open_model(tiny, device="cpu", dtype="float64") as model:
        turns = sums.read(rows, ["turns"]).column("turns")
        tokens = encode(turns, model.tokenizer, Encoding(kind="chat", max_length=96))
        total, weight = torch.zeros((), dtype=torch.float64), 0.0
        for i in range(len(rows)):  # one by one, without padding
            span = slice(tokens.offsets[i], tokens.offsets[i + 1])
            ids = torch.tensor(tokens.ids[span], dtype=torch.long)
            w = torch.tensor(tokens.weights[span], dtype=torch.float64)[1:]
            logits = model.module(ids[None]).logits[0, :-1]
            nll = -logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
            total, weight = total + (nll * w).sum(), weight + float(w.sum())
        loss = total / weight
        parameters = dict(model.module.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        assert done.steps[0].loss == pytest.approx(loss.item(), rel=1e-6)  # Trainer adds in float32
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert done.steps[0].grad_norm == pytest.approx(norm, rel=1e-9)
        with open_model(done.path, device="cpu", dtype="float64") as after:
            for (name, old), g in zip(parameters.items(), gradients, strict=True):
                new = dict(after.module.named_parameters())[name]
                expected = old - 3e-3 * g / (g.abs() + 1e-8)  # Adam's first step, bias corrected
                torch.testing.assert_close(new, expected, rtol=1e-6, atol=1e-9)


def test_the_model_opens_and_says_how_it_was_made(trained, tiny, sums):
    check(trained.path)
    about = json.loads((trained.path / "training.json").read_text())
    assert about["pool"] == sums.fingerprint
    assert about["model"] == digest(tiny)
    assert read_trained(trained.path).steps == trained.steps
    spec = read_spec(tiny)
    flops = training_flops(
        spec, sum(s.executed for s in trained.steps), sum(s.squares for s in trained.steps)
    )
    assert trained.cost.flops == flops > 6 * spec.n_matmul * trained.cost.tokens
    names = {p.name for p in trained.path.iterdir()}
    assert not {n for n in names if n.endswith((".bin", ".pt", ".pth"))}
    assert not list(trained.path.parent.glob(".*"))


def test_a_sample_without_a_loss_is_left_out_and_counted(sums, tiny, tmp_path, trained, order):
    assert 7 in order  # an empty answer
    assert sum(s.skipped for s in trained.steps) == 1
    assert sum(s.samples for s in trained.steps) == 79
    with pytest.raises(DataError, match="no sample has a token"):
        train(sums, [7], tiny, tmp_path / "m", QUICK)
    assert not (tmp_path / "m").exists()


def stop_at(step):
    def watch(progress):
        if progress.done == step:
            raise KeyboardInterrupt

    return watch


def test_interrupted_and_started_again_gives_the_same_bytes(
    sums, tiny, order, tmp_path, trained, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        train(sums, order, tiny, tmp_path / "m", QUICK, progress=stop_at(6))
    assert not (tmp_path / "m").exists()
    work = tmp_path / ".m.training"
    # The one before it is there too, for the case that the last one is damaged.
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-5"]
    (work / "checkpoint-6").mkdir()  # killed while it wrote this one
    (work / "checkpoint-6" / "trainer_state.json").write_text('{"glob')
    seen = []
    again = train(sums, order, tiny, tmp_path / "m", QUICK, progress=lambda p: seen.append(p.done))
    assert seen == [6, 7, 8, 9, 10]
    assert again.steps == trained.steps
    assert again.cost == trained.cost
    for name in ("model.safetensors", "steps.jsonl", "config.json", "tokenizer.json"):
        assert (again.path / name).read_bytes() == (trained.path / name).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    seen.clear()
    found = train(sums, order, tiny, tmp_path / "m", QUICK, progress=lambda p: seen.append(p.done))
    assert found.reused
    assert (found.steps, found.cost, seen) == (trained.steps, trained.cost, [])


def test_interrupted_before_the_model_is_saved(sums, tiny, order, tmp_path, trained, monkeypatch):
    from didact.training import causal

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(causal, "saving", killed)
        train(sums, order, tiny, tmp_path / "m", QUICK)
    seen = []
    again = train(sums, order, tiny, tmp_path / "m", QUICK, progress=lambda p: seen.append(p.done))
    assert (seen, again.steps, again.cost) == ([], trained.steps, trained.cost)
    weights = "model.safetensors"
    assert (again.path / weights).read_bytes() == (trained.path / weights).read_bytes()


def test_a_damaged_result_is_an_error_that_says_so(trained, sums, tiny, order, tmp_path):
    shutil.copytree(trained.path, tmp_path / "m")
    (tmp_path / "m" / "training.json").write_text("{")
    with pytest.raises(DataError, match="remove it and train again"):
        train(sums, order, tiny, tmp_path / "m", QUICK)


def test_another_training_to_the_same_place_is_refused(sums, tiny, order, trained, tmp_path):
    with pytest.raises(ConfigError, match="trained on other data"):
        train(sums, order[::-1], tiny, trained.path, QUICK)
    with pytest.raises(KeyboardInterrupt):
        train(sums, order, tiny, tmp_path / "m", QUICK, progress=stop_at(2))
    with pytest.raises(ConfigError, match="checkpoints of another training"):
        train(sums, order[::-1], tiny, tmp_path / "m", QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        train(sums, order, tiny, tmp_path / "mine", QUICK)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"micro_batch_size": 3}, "divisor of batch_size=8"), ({"max_length": 4096}, "at most 128")],
)
def test_settings_that_do_not_fit(sums, tiny, tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        train(sums, [1, 2], tiny, tmp_path / "m", dataclasses.replace(QUICK, **settings))


def test_an_order_is_checked_and_brings_its_batch_size(sums, tiny, tmp_path):
    rows = np.arange(10, 19)
    with pytest.raises(PoolMismatchError):
        train(sums, TrainingOrder(rows, "another", "keep"), tiny, tmp_path / "m")
    order = TrainingOrder(rows, sums.fingerprint, "keep", batch_size=4)
    with pytest.raises(ConfigError, match="steps of 4"):
        train(sums, order, tiny, tmp_path / "m", QUICK)
    done = train(sums, order, tiny, tmp_path / "m", dataclasses.replace(QUICK, batch_size=None))
    assert [s.samples for s in done.steps] == [4, 4, 1]
    with pytest.raises(DataError, match="no row"):
        train(sums, [], tiny, tmp_path / "n", QUICK)


def test_training_that_diverges_stops(sums, tiny, tmp_path):
    wild = dataclasses.replace(QUICK, learning_rate=1e30, warmup_ratio=0.0, max_grad_norm=1e30)
    with pytest.raises(ExecutionError, match="lower learning_rate"):
        train(sums, np.arange(20, 60), tiny, tmp_path / "m", wild)
    assert not (tmp_path / "m").exists()


def test_micro_batches_are_of_like_lengths_and_hold_every_sample_once(sums, tiny):
    with open_model(tiny, device="cpu") as model:
        samples = Samples(
            sums, [np.arange(24)], model.tokenizer, Encoding(kind="chat", max_length=96)
        )
        items = [samples[i] for i in range(24)]
        batches = padded_micro_batches(items, 4, model.pad_id)
    sizes = [len(b) for b in batches]
    assert (sum(sizes), max(sizes) - min(sizes)) == (23, 1)
    longest = [b.input_ids.shape[1] for b in batches]
    assert longest == sorted(longest, reverse=True)
    tokens = samples[0][1]
    assert sum(int(b.attention_mask.sum()) for b in batches) == sum(
        int(tokens.lengths[i]) for i in range(24) if i != 7
    )
    (alone,) = padded_micro_batches([items[7]], 1, model.pad_id)
    assert alone.input_ids.shape == (1, 1)
    assert float(alone.weights.sum()) == 0


def test_micro_batch_is_the_largest_divisor_that_fits():
    assert micro_batch_size(128, None, 8192, 1024) == 8
    assert micro_batch_size(100, None, 8192, 256) == 25
    assert micro_batch_size(7, None, 8192, 4096) == 1
    assert micro_batch_size(8, None, 10, 4096) == 1
    assert micro_batch_size(8, 4, 1, 1) == 4


def test_bfloat16_is_of_arithmetic_and_not_of_weights(sums, tiny, tmp_path, trained, order):
    half = dataclasses.replace(QUICK, dtype="bfloat16")
    done = train(sums, order, tiny, tmp_path / "m", half)
    ours, theirs = ([s.loss for s in t.steps] for t in (done, trained))
    assert ours != theirs
    # bfloat16 has 8 bits: 0.4 % a product, which sums of hundreds of them average down
    assert ours == pytest.approx(theirs, rel=0.02)
    with open_model(done.path, device="cpu") as model:
        weights = {p.dtype for p in model.module.parameters()}
    assert weights == {torch.float32}
    assert json.loads((done.path / "config.json").read_text())["dtype"] == "float32"
