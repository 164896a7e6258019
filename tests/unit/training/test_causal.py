# ruff: noqa: E402 - what needs torch is imported where it is there
import dataclasses
import functools
import json
import math
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from didact.accounting.flops import training_flops
from didact.core.errors import ConfigError, DataError, ExecutionError, PoolMismatchError
from didact.core.scores import TrainingOrder
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, encode
from didact.models.folder import check, digest
from didact.models.language_model import open_model
from didact.training.causal import train
from didact.training.samples import Samples, StepSamples
from didact.training.settings import Seeds, TrainSettings
from didact.training.telemetry import rows_digest
from didact.training.trained import read_trained

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
        QUICK, batch_size=6, tokens_per_batch=80, dtype="float64", schedule="constant",
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
    last = trained.steps[-1]
    assert (trained.cost.flops, trained.cost.tokens) == (last.total_flops, last.total_tokens)
    assert last.total_tokens == sum(s.tokens for s in trained.steps)
    executed = sum(s.executed for s in trained.steps)
    assert 6 * spec.n_matmul * executed < trained.cost.flops < 7 * spec.n_matmul * executed
    assert executed <= 1.1 * last.total_tokens
    assert about["foretold_flops"] == pytest.approx(trained.cost.flops, rel=0.05)
    names = {p.name for p in trained.path.iterdir()}
    assert not {n for n in names if n.endswith((".bin", ".pt", ".pth"))}
    assert not list(trained.path.parent.glob(".*"))


def test_flops_are_those_that_torch_counts(sums, tiny, tmp_path, monkeypatch):
    from torch.utils.flop_counter import FlopCounterMode

    from didact.training import causal, utilization

    utilization.peak_flops_per_second("cpu", "float32")  # measured once, and not here
    eager = functools.partial(open_model, attention="eager")
    monkeypatch.setattr(causal, "open_model", eager)
    for name, more in (("whole", {}), ("lora", {"lora_rank": 4, "merge": False})):
        settings = dataclasses.replace(QUICK, tokens_per_batch=150, **more)
        with FlopCounterMode(display=False) as counter:
            done = train(sums, np.arange(20, 52), tiny, tmp_path / name, settings)
        assert done.cost.flops == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_a_sample_without_a_loss_is_left_out_and_counted(sums, tiny, tmp_path, trained, order):
    assert 7 in order  # an empty answer
    assert sum(s.skipped for s in trained.steps) == 1
    assert sum(s.samples for s in trained.steps) == 79
    with pytest.raises(DataError, match="no sample has a token"):
        train(sums, [7], tiny, tmp_path / "m", QUICK)
    assert not list(tmp_path.iterdir())  # another training may come to this place
    one = dataclasses.replace(QUICK, batch_size=1)
    done = train(sums, [8, 9, 7], tiny, tmp_path / "m", one)
    assert [s.samples for s in done.steps] == [1, 1, 0]
    assert done.facts()["last_loss"] == done.steps[1].loss > 0


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
    assert (again.cost.flops, again.cost.tokens) == (trained.cost.flops, trained.cost.tokens)
    seconds = [step.seconds for step in again.steps]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    for name in ("model.safetensors", "trained_on.npy", "config.json", "tokenizer.json"):
        assert (again.path / name).read_bytes() == (trained.path / name).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    seen.clear()
    found = train(sums, order, tiny, tmp_path / "m", QUICK, progress=lambda p: seen.append(p.done))
    assert found.reused
    assert (found.steps, found.cost, seen) == (trained.steps, again.cost, [])


def test_interrupted_before_the_model_is_saved(sums, tiny, order, tmp_path, trained, monkeypatch):
    from didact.training import causal

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(causal, "saving", killed)
        train(sums, order, tiny, tmp_path / "m", QUICK)
    seen = []
    again = train(sums, order, tiny, tmp_path / "m", QUICK, progress=lambda p: seen.append(p.done))
    assert (seen, again.steps, again.cost.flops) == ([], trained.steps, trained.cost.flops)
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
    [
        ({"max_length": 4096}, "at most 128"),
        ({"report_to": "nobody"}, "report_to='nobody': nobody is not supported"),
        ({"merge": False}, "does nothing without lora_rank"),
        ({"schedule": "constant", "final_rate": 0.1}, "nothing with schedule: constant"),
    ],
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
    with pytest.raises(DataError, match=r"are bool of shape .*integers in sequence"):
        train(sums, np.ones(len(sums), np.bool_), tiny, tmp_path / "n", QUICK)


def test_training_that_diverges_stops(sums, tiny, tmp_path):
    wild = dataclasses.replace(QUICK, learning_rate=1e30, warmup_ratio=0.0, max_grad_norm=1e30)
    with pytest.raises(ExecutionError, match=r"step \d.*lower learning_rate"):
        train(sums, np.arange(20, 60), tiny, tmp_path / "m", wild)
    assert not (tmp_path / "m").exists()


def test_micro_batches_are_of_like_lengths_and_hold_every_sample_once(sums, tiny):
    with open_model(tiny, device="cpu") as model:
        samples = Samples(
            sums, [np.arange(24)], model.tokenizer, Encoding(kind="chat", max_length=96)
        )
        items = [samples[i] for i in range(24)]
        cpu = torch.device("cpu")
        for devices in (1, 3):
            step = StepSamples(items, 200, devices=devices)
            found = [list(step.batches(d, pad_id=0, on=cpu)) for d in range(devices)]
            batches = [batch for of_device in found for batch, _ in of_device]
            assert [[last for _, last in own].index(True) for own in found] == [
                len(own) - 1 for own in found
            ]
            assert sorted(np.concatenate([b.rows for b in batches])) == [
                i for i in range(24) if i != 7
            ]
            assert all(b.input_ids.numel() <= 200 or len(b) == 1 for b in batches)
            assert step.executed.tokens == sum(b.input_ids.numel() for b in batches)
            assert step.tokens == sum(int(b.attention_mask.sum()) for b in batches)
            assert step.executed.tokens <= 1.1 * step.tokens + 20 * (devices - 1)
            assert step.weight == pytest.approx(sum(float(b.weights.sum()) for b in batches))
        ((alone, is_last),) = StepSamples([items[7]], 200).batches(0, pad_id=0, on=cpu)
    assert is_last
    assert alone.input_ids.shape == (1, 1)
    assert float(alone.weights.sum()) == 0


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


def test_a_loss_that_is_not_finite_names_the_rows(sums, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "damaged")
    with open_model(tiny, device="cpu") as model:
        (word,) = {int(i) for i in model.tokenizer("9")["input_ids"]} - {0}
        with torch.no_grad():
            model.module.get_input_embeddings().weight[word] = float("nan")
        model.module.save_pretrained(tmp_path / "damaged")
    rows = np.asarray([20, 29, 31, 33])  # the head is the embedding: every loss is lost
    with pytest.raises(ExecutionError, match=r"step 1: the loss is not finite on 4 of 4 .*sum-20"):
        train(sums, rows, tmp_path / "damaged", tmp_path / "m", QUICK)
    assert not (tmp_path / "m").exists()


def test_the_loss_of_every_source_is_its_tokens(sums, tiny, tmp_path):
    from didact.testing import make_pool

    rows = [{"id": str(i), "source": "ab"[i % 2], "text": f"{'x y' * (1 + i % 5)} {i}"}
            for i in range(24)]  # fmt: skip
    pool = make_pool(rows, tmp_path / "pool")
    settings = dataclasses.replace(QUICK, dtype="float64", learning_rate=1e-12)
    both = train(pool, np.arange(24), tiny, tmp_path / "both", settings)
    for source in "ab":
        own = np.arange("ab".index(source), 24, 2)
        alone = train(pool, own, tiny, tmp_path / source, settings)
        found = [step.loss_by_source[source] for step in both.steps]
        weight = sum(w for _, w in found)
        assert weight == sum(step.learnt for step in alone.steps)
        expected = sum(s.loss * s.learnt for s in alone.steps) / weight
        assert sum(v * w for v, w in found) / weight == pytest.approx(expected, rel=1e-6)
    assert {name for step in both.steps for name in step.loss_by_source} == {"a", "b"}
    for step in both.steps:
        parts = step.loss_by_source.values()
        assert step.loss * step.learnt == pytest.approx(sum(v * w for v, w in parts), rel=1e-12)


def test_epochs_are_told_of_and_each_has_its_order(sums, tiny, tmp_path):
    from didact.core.scores import Selection
    from didact.verbs import order as ordered

    chosen = Selection(np.arange(20, 40), sums.fingerprint, "test")
    found = ordered(sums, chosen, None, "shuffle", epochs=3)
    done = train(sums, found, tiny, tmp_path / "m", QUICK)
    assert [s.epoch for s in done.steps] == [1, 1, 1, 2, 2, 3, 3, 3]
    assert done.about["epochs"] == 3
    passes = found.rows.reshape(3, 20)
    assert all(sorted(p) == list(range(20, 40)) for p in passes)
    assert not np.array_equal(passes[0], passes[1])
    assert np.array_equal(
        np.load(done.path / "trained_on.npy"), np.unique(sums.content_hash[20:40])
    )


STEADY = dataclasses.replace(QUICK, schedule="constant", warmup_ratio=0.0)


@pytest.fixture(scope="module")
def on_the_way(sums, tiny, order, tmp_path_factory):
    """The weights after every step, from trainings that stop there."""
    weights = {}
    for steps in range(1, 11):
        short = dataclasses.replace(STEADY, max_steps=steps)
        done = train(sums, order, tiny, tmp_path_factory.mktemp("short") / "m", short)
        weights[steps] = load_file(done.path / "model.safetensors")
    return weights


@pytest.mark.parametrize("average", ["ema", "last"])
def test_an_average_is_that_of_the_weights_on_the_way(
    sums, tiny, order, tmp_path, on_the_way, average
):
    weights = on_the_way
    own = {"ema_decay": 0.5} if average == "ema" else {"average_last": 3, "average_every": 2}
    settings = dataclasses.replace(STEADY, average=average, **own)
    with pytest.raises(KeyboardInterrupt):
        train(sums, order, tiny, tmp_path / "m", settings, progress=stop_at(7))
    done = train(sums, order, tiny, tmp_path / "m", settings)
    found = load_file(done.averaged / "model.safetensors")
    start = load_file(tiny / "model.safetensors")
    for name, value in load_file(done.path / "model.safetensors").items():
        torch.testing.assert_close(value, weights[10][name])
        if average == "last":
            expected = (weights[6][name] + weights[8][name] + weights[10][name]) / 3
        else:
            expected = start[name]
            for step in range(1, 11):
                decay = min(0.5, (1 + step) / (10 + step))
                expected = decay * expected + (1 - decay) * weights[step][name]
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(found[name], value)
    check(done.averaged)


def test_adapters_are_trained_and_added_to_the_weights(sums, tiny, order, tmp_path):
    from didact.accounting.flops import lora_counted
    from didact.models.architecture import default_lora_targets, read_lora
    from didact.training.adapters import open_adapter

    settings = dataclasses.replace(
        QUICK, lora_rank=4, learning_rate=3e-2, average="ema", ema_decay=0.9
    )
    merged = train(sums, order, tiny, tmp_path / "merged", settings)
    apart = train(sums, order, tiny, tmp_path / "apart", dataclasses.replace(settings, merge=False))
    assert merged.steps == apart.steps
    assert merged.steps[-1].loss < merged.steps[0].loss - 0.3
    lora = read_lora(tiny, rank=4, targets=default_lora_targets(tiny))
    spec = read_spec(tiny)
    executed = sum(s.executed for s in merged.steps)
    least = lora_counted(spec, lora, executed, 0.0)
    assert least < merged.cost.flops < 1.2 * least < training_flops(spec, executed)
    assert {p.name for p in apart.path.glob("*.safetensors")} == {"adapter_model.safetensors"}
    ids = torch.arange(5, 25)[None]
    for a, b in ((merged.path, apart.path), (merged.averaged, apart.averaged)):
        with open_model(a, device="cpu") as whole, open_model(tiny, device="cpu") as base:
            expected = open_adapter(base, b).module(ids).logits
            torch.testing.assert_close(whole.module(ids).logits, expected, rtol=1e-4, atol=1e-5)
    other = train(sums, order, tiny, tmp_path / "other", settings, seeds=Seeds(init=1))
    assert other.steps[1].loss != merged.steps[1].loss
    assert other.about["seeds"] == {"init": 1, "draw": None, "order": None}


def test_a_seed_that_does_nothing_is_said_to(sums, tiny, trained, order, tmp_path):
    done = train(sums, order, tiny, tmp_path / "m", QUICK, seeds=Seeds(init=5))
    assert done.steps == trained.steps
    assert "init=5 changes nothing" in done.about["notes"][0]


def test_rows_that_max_steps_leaves_unread_are_not_seen(sums, tiny, order, tmp_path):
    short = dataclasses.replace(QUICK, max_steps=2)
    done = train(sums, order, tiny, tmp_path / "m", short)
    assert set(np.load(done.path / "trained_on.npy")) == set(sums.content_hash[order[:16]])
    assert done.about["rows"] == 16
    same = train(sums, order[:16], tiny, tmp_path / "n", QUICK)
    assert done.about["set"] == same.about["set"]


def test_what_a_training_stands_on_has_seen_is_seen(sums, trained, tmp_path):
    done = train(sums, np.arange(100, 108), trained.path, tmp_path / "m", QUICK)
    seen = np.load(done.path / "trained_on.npy")
    assert set(seen) == set(sums.content_hash[[*range(80), *range(100, 108)]])


def test_rows_behind_the_last_step_are_not_seen(sums, tiny, tmp_path):
    short = dataclasses.replace(QUICK, max_steps=2)
    done = train(sums, np.arange(40), tiny, tmp_path / "m", short)
    first = train(sums, np.arange(16), tiny, tmp_path / "first", QUICK)
    assert len(done.steps) == 2
    assert done.about["rows"] == 2 * QUICK.batch_size == 16
    assert done.about["set"] == first.about["set"]
    assert set(np.load(done.path / "trained_on.npy")) == set(sums.content_hash[:16])
