# ruff: noqa: E402 - what needs torch is imported where it is there
import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from didact.accounting.flops import lora_counted
from didact.core.cost import Bill
from didact.core.errors import ConfigError, DataError
from didact.core.protocols import Context, ignore_progress
from didact.execution.executors import serial
from didact.models.architecture import default_lora_targets, read_lora, read_spec
from didact.models.batches import collate
from didact.models.encode import Encoding, encode
from didact.models.language_model import open_model
from didact.models.losses import causal_losses
from didact.training import loop
from didact.training.adapters import (
    Checkpoint,
    adapter_spec,
    moments,
    open_adapter,
    read_checkpoint,
)
from didact.training.lora import WarmUpSettings, warm_up

HOW = Encoding(kind="chat", max_length=96)
QUICK = WarmUpSettings(
    rank=4, alpha=8, epochs=3, batch_size=16, learning_rate=1e-2, tokens_per_batch=512
)
ROWS = np.random.default_rng(1).permutation(120)[:40]


@pytest.fixture(scope="module")
def warmed(sums, tiny, tmp_path_factory):
    return warm(sums, ROWS, tiny, tmp_path_factory.mktemp("warm"))


@dataclasses.dataclass(frozen=True)
class Done:
    """What a warm-up gave, what it cost and where it is kept."""

    value: tuple[Checkpoint, ...]
    bill: Bill
    cache: Path


def warm(pool, rows, model, cache, settings=QUICK, progress=ignore_progress) -> Done:
    ctx = Context(executor=serial(), seed=0, cache_dir=cache, progress=progress)
    value = warm_up(pool, rows, model, settings, how=HOW, ctx=ctx)
    return Done(value, ctx.meter.bill, cache)


def mean_loss(model, pool):
    tokens = encode(pool.read(ROWS, ["turns"]).column("turns"), model.tokenizer, HOW)
    batch = collate(tokens, tokens.scored, pad_id=model.pad_id, device="cpu")
    with torch.inference_mode():
        return causal_losses(model.module, batch).mean().item()


def test_a_checkpoint_for_every_epoch_and_the_loss_falls(warmed, sums, tiny):
    done = warmed
    assert [(c.epoch, c.steps) for c in done.value] == [(1, 3), (2, 6), (3, 9)]
    rates = [c.learning_rate for c in done.value]
    assert rates == sorted(rates, reverse=True)
    # warm-up of one step at half, then linear from the second of nine
    steps = [0.5, *(1 - k / 8 for k in range(8))]
    assert rates == pytest.approx([1e-2 * np.mean(steps[a : a + 3]) for a in (0, 3, 6)])
    with open_model(tiny, device="cpu") as model:
        losses = [mean_loss(model, sums)]
    for checkpoint in done.value:
        with open_model(tiny, device="cpu") as base:
            losses.append(mean_loss(open_adapter(base, checkpoint.path), sums))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.05


def test_an_opened_adapter_is_all_that_is_trained(warmed, tiny):
    done = warmed
    last = done.value[-1]
    with open_model(tiny, device="cpu") as base:
        model = open_adapter(base, last.path)
        trained = {n: p for n, p in model.module.named_parameters() if p.requires_grad}
        assert all(".lora_A." in n or ".lora_B." in n for n in trained)
        assert sum(p.numel() for p in trained.values()) == last.n_params
        assert not model.module.training
        kept = moments(last.path)
        assert set(kept.values) == set(trained)
        assert (kept.beta1, kept.beta2, kept.steps) == (0.9, 0.999, 9)
        for name, (m, v) in kept.values.items():
            assert m.shape == v.shape == trained[name].shape
            assert m.dtype == v.dtype == torch.float32
            assert float(v.min()) >= 0
            assert float(v.sum()) > 0
        spec = adapter_spec(model.module)
        assert spec == read_lora(tiny, rank=4, targets=default_lora_targets(tiny))
        assert spec.n_params == last.n_params


def test_moments_and_adapters_are_adams(sums, tiny, tmp_path):
    """One epoch of two full-batch steps, against torch's own Adam on gradients made one by one."""
    settings = dataclasses.replace(
        QUICK, epochs=1, batch_size=4, dropout=0.0, dtype="float64", max_grad_norm=1e9
    )
    rows = np.array([30, 31, 32, 33, 40, 41, 42, 43])
    done = warm(sums, rows, tiny, tmp_path, settings)
    kept = moments(done.value[0].path)
    still = dataclasses.replace(settings, learning_rate=1e-30)
    again = warm(sums, rows, tiny, tmp_path, still)
    with open_model(tiny, device="cpu", dtype="float64") as base:
        model = open_adapter(base, again.value[0].path)  # as initialised: nothing moved
        trained = {n: p for n, p in model.module.named_parameters() if p.requires_grad}
        first = {n: torch.zeros_like(p) for n, p in trained.items()}
        second = {n: torch.zeros_like(p) for n, p in trained.items()}
        for step, (part, lr) in enumerate([(rows[:4], 0.5e-2), (rows[4:], 1e-2)], 1):
            turns = sums.read(part, ["turns"]).column("turns")
            tokens = encode(turns, model.tokenizer, HOW)
            total, weight = torch.zeros((), dtype=torch.float64), 0.0
            for i in range(4):
                batch = collate(tokens, np.array([i]), pad_id=0, device="cpu")
                n = batch.weights.sum().item()
                total, weight = total + causal_losses(model.module, batch).sum() * n, weight + n
            grads = torch.autograd.grad(total / weight, list(trained.values()))
            with torch.no_grad():
                for (name, p), g in zip(trained.items(), grads, strict=True):
                    first[name] = 0.9 * first[name] + 0.1 * g
                    second[name] = 0.999 * second[name] + 0.001 * g * g
                    m, v = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                    p.sub_(lr * m / (v.sqrt() + 1e-8))
        with open_model(tiny, device="cpu", dtype="float64") as other:
            after = dict(open_adapter(other, done.value[0].path).module.named_parameters())
            for name, (m, v) in kept.values.items():
                torch.testing.assert_close(m, first[name], rtol=1e-6, atol=1e-14)
                torch.testing.assert_close(v, second[name], rtol=1e-6, atol=1e-20)
                torch.testing.assert_close(after[name], trained[name], rtol=1e-6, atol=1e-9)


def test_costs_are_those_of_a_frozen_base(warmed, sums, tiny, tmp_path, monkeypatch):
    seen = []
    own = loop.train_in_place

    def watched(*arguments, **more):
        seen.append(own(*arguments, **more))
        return seen[-1]

    monkeypatch.setattr(loop, "train_in_place", watched)
    done = warm(sums, ROWS, tiny, tmp_path)
    ((steps, earlier),) = seen
    assert (len(steps), earlier) == (9, 0)
    lora = read_lora(tiny, rank=4, targets=default_lora_targets(tiny))
    executed = sum(s.executed for s in steps)
    flops, tokens = steps[-1].total_flops, sum(s.tokens for s in steps)
    least, most = (lora_counted(read_spec(tiny), lora, executed, executed * n) for n in (0, 96))
    assert least < flops < most
    for bill in (done.bill, warmed.bill):
        assert (bill.charged.flops, bill.charged.tokens) == (flops, tokens)
        assert (bill.value.flops, bill.value.tokens) == (flops, tokens)


def test_finished_is_found_and_interrupted_goes_on(warmed, sums, tiny, tmp_path):
    done, seen = warmed, []
    found = warm(sums, ROWS, tiny, done.cache, progress=lambda p: seen.append(p.done))
    assert (found.value, seen) == (done.value, [])
    assert (found.bill.charged.flops, found.bill.charged.tokens) == (0, 0)

    def stop(progress):
        if progress.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm(sums, ROWS, tiny, tmp_path, progress=stop)
    assert not list(tmp_path.glob("adapters/*"))
    kept = sorted(p.name for p in tmp_path.glob("unfinished/adapters-*/epoch-*"))
    assert kept == ["epoch-1", "epoch-2"]
    again = warm(sums, ROWS, tiny, tmp_path, progress=lambda p: seen.append(p.done))
    assert seen == [7, 8, 9]
    assert again.bill.value.flops == done.bill.value.flops
    assert again.bill.value.tokens == done.bill.value.tokens
    assert 0 < again.bill.charged.flops < 0.4 * done.bill.charged.flops
    for mine, theirs in zip(again.value, done.value, strict=True):
        for name in ("adapter_model.safetensors", "moments.safetensors", "checkpoint.json"):
            assert (mine.path / name).read_bytes() == (theirs.path / name).read_bytes()
    (entry,) = tmp_path.glob("adapters/*")
    assert sorted(p.name for p in entry.iterdir()) == [
        "entry.json",
        "epoch-1",
        "epoch-2",
        "epoch-3",
    ]
    assert not [p for p in tmp_path.glob("unfinished/*") if p.is_dir()]


def test_other_rows_have_a_place_of_their_own(warmed, sums, tiny):
    before = {p: p.read_bytes() for p in warmed.value[0].path.iterdir()}
    other = warm(sums, ROWS[:9], tiny, warmed.cache)
    assert other.value[0].path.parent != warmed.value[0].path.parent
    assert [c.steps for c in other.value] == [1, 2, 3]
    assert {p: p.read_bytes() for p in warmed.value[0].path.iterdir()} == before


def test_what_does_not_fit_is_refused(sums, tiny, tmp_path):
    with pytest.raises(ConfigError, match="no such modules"):
        bad = dataclasses.replace(QUICK, targets=("c_attn",))
        warm(sums, ROWS, tiny, tmp_path, bad)
    with pytest.raises(DataError, match="no row"):
        warm(sums, ROWS[:0], tiny, tmp_path)
    with pytest.raises(DataError, match="no checkpoint"):
        read_checkpoint(tmp_path)
    with open_model(tiny, device="cpu") as base, pytest.raises(DataError, match="cannot be put on"):
        open_adapter(base, tmp_path)


def test_fewer_samples_than_a_batch_still_give_every_epoch(sums, tiny, tmp_path):
    done = warm(sums, ROWS[:3], tiny, tmp_path)
    assert [c.steps for c in done.value] == [1, 2, 3]
    assert all(c.learning_rate > 0 for c in done.value)


def test_gpt2_is_adapted_in_all_its_matrices(sums, tiny, tmp_path):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.save_pretrained(tmp_path / "gpt2")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    assert default_lora_targets(tmp_path / "gpt2") == ("c_attn", "c_fc", "c_proj")
    settings = dataclasses.replace(QUICK, epochs=1)
    done = warm(sums, ROWS[:8], tmp_path / "gpt2", tmp_path, settings)
    with open_model(tmp_path / "gpt2", device="cpu") as base:
        model = open_adapter(base, done.value[0].path)
        assert adapter_spec(model.module).n_params == done.value[0].n_params
        assert set(moments(done.value[0].path).values) == {
            n for n, p in model.module.named_parameters() if p.requires_grad
        }


def test_a_bfloat16_model_has_float32_adapters_and_moments(warmed, sums, tiny, tmp_path):
    half = dataclasses.replace(QUICK, dtype="bfloat16")
    done = warm(sums, ROWS, tiny, tmp_path, half)
    with open_model(tiny, device="cpu", dtype="bfloat16") as base:
        model = open_adapter(base, done.value[-1].path)
        kinds = {(p.requires_grad, p.dtype) for p in model.module.parameters()}
        assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
        after = mean_loss(model, sums)
    with open_model(tiny, device="cpu") as base:
        full = mean_loss(open_adapter(base, warmed.value[-1].path), sums)
    assert after == pytest.approx(full, rel=0.02)  # 8 bits of mantissa in the frozen weights
