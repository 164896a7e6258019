# ruff: noqa: E402 - what needs torch is imported where it is there
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode

from didact.accounting.flops import Lengths, regression_flops
from didact.accounting.lengths import micro_batches
from didact.core.cost import Bill
from didact.core.entries import open_entry
from didact.core.errors import DataError, ExecutionError
from didact.core.protocols import Context, ignore_progress
from didact.core.statistics import spearman
from didact.execution.executors import serial
from didact.models.batches import collate
from didact.models.encode import Encoding, encode
from didact.models.folder import check
from didact.models.regressor import open_regressor, predict, regress
from didact.training.regression import (
    FittedRegression,
    RegressionSettings,
    best_epoch,
    fit_regression,
    read_fitted,
)

QUICK = RegressionSettings(
    epochs=3, batch_size=16, learning_rate=3e-3, warm_up=2, tokens_per_batch=512
)
HOW = Encoding(kind="chat", loss="all", max_length=64)


@pytest.fixture(scope="module")
def tokens(sums, tiny):
    with open_regressor(tiny) as model:
        return encode(sums.read(range(120), ["turns"]).column("turns"), model.tokenizer, HOW)


@pytest.fixture(scope="module")
def labels(tokens):
    """How long a sample is: what any model that reads it can learn."""
    lengths = np.asarray(tokens.lengths, np.float64)
    return (lengths - lengths.mean()) / lengths.std()


@pytest.fixture(scope="module")
def fitted(tiny, tokens, labels, tmp_path_factory):
    return fit(tiny, tokens, labels, tmp_path_factory.mktemp("fit"))


@dataclasses.dataclass(frozen=True)
class Done:
    """What a fit gave, what it cost and where it is kept."""

    value: FittedRegression
    bill: Bill
    cache: Path


def fit(model, tokens, labels, cache, settings=QUICK, progress=ignore_progress) -> Done:
    ctx = Context(executor=serial(), seed=0, cache_dir=cache, progress=progress)
    value = fit_regression(model, tokens, labels, settings, ctx=ctx)
    return Done(value, ctx.meter.bill, cache)


def test_the_best_epoch_is_the_first_of_the_highest():
    assert best_epoch([0.1, 0.5, 0.5]) == 2
    assert best_epoch([math.nan, -0.5]) == 2
    assert best_epoch([math.nan, math.nan]) == 2


def test_it_learns_what_can_be_learnt_and_opens_again(fitted, tokens, labels):
    done = fitted.value
    assert done.spearman == max(e.spearman for e in done.epochs) > 0.8
    assert done.epochs[-1].train_mse < 0.5 * done.epochs[0].train_mse
    assert (done.n_train, done.n_dev) == (108, 12)
    assert done.label_mean == pytest.approx(0, abs=1e-12)
    assert done.label_std == pytest.approx(1)
    check(done.path)
    with open_regressor(done.path) as model:
        found = predict(model, tokens).value
    assert found.dtype == np.float64
    assert spearman(found, labels) > 0.8


def test_the_kept_epoch_is_the_chosen_one(fitted, tiny, tokens, labels):
    done = fitted.value
    split = np.random.default_rng([QUICK.seed, 0]).permutation(120)
    with open_regressor(done.path) as model:
        found = predict(model, tokens, rows=split[:12])
    dev = split[:12]
    kept = done.epochs[done.chosen - 1]
    assert spearman(found.value[dev], labels[dev]) == pytest.approx(kept.spearman, abs=1e-12)
    mse = np.square(found.value[dev] - labels[dev]).mean()
    assert mse == pytest.approx(kept.dev_mse, rel=1e-6)  # float32 sums, as they were
    assert np.isnan(found.value[split[12:]]).all()


def test_a_prediction_does_not_depend_on_its_batch(fitted, tokens):
    with open_regressor(fitted.value.path, dtype="float64") as model:
        alone = predict(model, tokens, tokens_per_batch=1).value
        together = predict(model, tokens, tokens_per_batch=4096).value
        np.testing.assert_allclose(alone, together, rtol=1e-9)
        ids = torch.tensor(tokens.ids[: tokens.offsets[1]], dtype=torch.long)[None]
        states = model.module(input_ids=ids).last_hidden_state
        by_hand = states.mean(1) @ model.head.weight.T + model.head.bias
        assert alone[0] == pytest.approx(by_hand.item(), rel=1e-9)


def test_flops_are_those_a_profiler_counts(fitted, tokens):
    with open_regressor(fitted.value.path) as model:
        model.module.set_attn_implementation("eager")
        rows = np.arange(8)
        batch = collate(tokens, rows, pad_id=model.pad_id, device="cpu")
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            regress(model, batch)
        cost = predict(model, tokens, rows=rows).cost
    # the rotary angles and the head's own product are left out
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.tokens == tokens.lengths[:8].sum()


def test_costs_of_the_fit_are_three_passes_an_epoch_and_one_of_the_dev_samples(fitted, tokens):
    bill, lengths = fitted.bill, np.asarray(tokens.lengths)
    assert bill.charged.flops == bill.value.flops > 0
    assert bill.charged.tokens == bill.value.tokens == QUICK.epochs * lengths.sum()
    split = np.random.default_rng([QUICK.seed, 0]).permutation(120)
    with open_regressor(fitted.value.path) as model:
        spec = model.spec
        dev = predict(model, tokens, rows=np.sort(split[:12]), tokens_per_batch=512).cost.flops
    flops = 0.0
    for epoch in range(QUICK.epochs):
        rows = np.random.default_rng([QUICK.seed, 1, epoch]).permutation(np.sort(split[12:]))
        for at in range(0, len(rows), QUICK.batch_size):
            step = rows[at : at + QUICK.batch_size]
            for part in micro_batches(tokens.lengths, step, QUICK.tokens_per_batch):
                n, longest = len(part), int(lengths[part].max())
                flops += regression_flops(spec, Lengths(n, n * longest, n * longest**2))
        flops += dev
    assert bill.charged.flops == flops
    entry = open_entry(fitted.value.path)
    assert (entry.bill.own.flops, entry.bill.own.tokens) == (flops, bill.charged.tokens)


def test_finished_is_found_and_interrupted_goes_on(fitted, tiny, tokens, labels, tmp_path):
    done = fitted.value
    seen = []
    found = fit(tiny, tokens, labels, fitted.cache, progress=lambda p: seen.append(p.done))
    assert (found.value, seen) == (done, [])
    assert (found.bill.charged.flops, found.bill.charged.tokens) == (0, 0)
    assert read_fitted(done.path) == done

    def stop(progress):
        if progress.done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny, tokens, labels, tmp_path, progress=stop)
    assert not list(tmp_path.glob("data-scorers/*"))
    kept = {p.name for p in tmp_path.glob("unfinished/data-scorers-*/epoch-*")}
    assert "epoch-2" in kept <= {"epoch-1", "epoch-2"}
    again = fit(tiny, tokens, labels, tmp_path, progress=lambda p: seen.append(p.done))
    assert seen[0] == 15  # seven updates in each of the two epochs that were finished
    assert dataclasses.replace(again.value, path=done.path) == done
    assert 0 < again.bill.charged.flops < 0.4 * fitted.bill.charged.flops
    assert again.bill.value.flops == fitted.bill.value.flops
    assert again.bill.value.tokens == fitted.bill.value.tokens
    names = sorted(p.name for p in done.path.iterdir())
    assert {"model.safetensors", "head.safetensors", "regression.json", "entry.json"} < set(names)
    assert sorted(p.name for p in again.value.path.iterdir()) == names
    for name in set(names) - {"entry.json"}:  # which tells processor time
        assert (again.value.path / name).read_bytes() == (done.path / name).read_bytes()
    assert list(tmp_path.glob("data-scorers/*")) == [again.value.path]
    assert not [p for p in tmp_path.glob("unfinished/*") if p.is_dir()]


def test_the_best_epoch_that_is_damaged_is_fitted_again(fitted, tiny, tokens, labels, tmp_path):
    def stop(progress):
        if progress.done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny, tokens, labels, tmp_path, progress=stop)
    for kept in tmp_path.glob("unfinished/data-scorers-*/epoch-*/model.safetensors"):
        kept.write_bytes(kept.read_bytes()[:-1])
    again = fit(tiny, tokens, labels, tmp_path)
    assert dataclasses.replace(again.value, path=fitted.value.path) == fitted.value
    assert again.bill.charged.flops == again.bill.value.flops == fitted.bill.value.flops


def test_another_fit_has_a_place_of_its_own(fitted, tiny, tokens, labels):
    before = {p.name: p.read_bytes() for p in fitted.value.path.iterdir()}
    other = fit(tiny, tokens, -labels, fitted.cache)
    assert other.value.path != fitted.value.path
    assert other.bill.charged.flops > 0
    assert {p.name: p.read_bytes() for p in fitted.value.path.iterdir()} == before


def test_samples_without_a_label_are_left_out(tiny, tokens, labels, tmp_path):
    some = np.where(np.arange(120) < 20, labels, np.nan)
    settings = dataclasses.replace(QUICK, epochs=1)
    done = fit(tiny, tokens, some, tmp_path, settings).value
    assert (done.n_train, done.n_dev) == (18, 2)
    assert done.label_mean == pytest.approx(labels[:20].mean())
    with pytest.raises(DataError, match="expected 4 or more"):
        fit(tiny, tokens, np.full(120, np.nan), tmp_path, settings)
    with pytest.raises(DataError, match="3 labels for 120"):
        fit(tiny, tokens, np.zeros(3), tmp_path, settings)


def test_a_fit_that_diverges_stops(tiny, tokens, labels, tmp_path):
    wild = dataclasses.replace(QUICK, learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(ExecutionError, match="lower learning_rate"):
        fit(tiny, tokens, labels * 1e30, tmp_path, wild)


def test_an_encoder_is_fitted_too_with_dropout_and_the_same_bytes_again(
    tiny, tokens, labels, tmp_path
):
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.save_pretrained(tmp_path / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    before = torch.get_rng_state()
    done = [fit(tmp_path / "bert", tokens, labels, tmp_path / name) for name in ("a", "b")]
    assert torch.equal(before, torch.get_rng_state())
    assert done[0].value.spearman > 0.5
    for name in ("model.safetensors", "head.safetensors"):
        assert len({(d.value.path / name).read_bytes() for d in done}) == 1
    assert done[0].value.path != done[1].value.path


def test_bfloat16_fits_as_well(fitted, tiny, tokens, labels, tmp_path):
    half = dataclasses.replace(QUICK, dtype="bfloat16")
    done = fit(tiny, tokens, labels, tmp_path, half).value
    assert done.spearman > 0.8
    assert done.epochs != fitted.value.epochs
