from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn import functional  # noqa: E402

from didact.accounting.lengths import windowed_lengths  # noqa: E402
from didact.core.pool import LENGTH_BINS, PoolStats  # noqa: E402
from didact.models.language_model import open_model  # noqa: E402
from didact.models.tokens import Tokens  # noqa: E402
from didact.models.windows import (  # noqa: E402
    counted_runs,
    likelihood,
    whole_samples,
    windows,
)

# Sums of a few hundred float64 products of order 1, in tensors of another shape.
SAME = {"rtol": 1e-12, "atol": 1e-12}
VOCAB = 250  # all bytes, and less than the tokenizer has


def ragged(weights: list[list[float]], missing: dict[int, str] | None = None) -> Tokens:
    """Samples of random tokens with the given weights."""
    offsets = np.cumsum([0, *map(len, weights)])
    ids = np.random.default_rng(4).integers(3, VOCAB, int(offsets[-1])).astype(np.int32)
    flat = np.asarray([w for sample in weights for w in sample], np.float32)
    n = len(weights)
    empty = np.zeros(n, np.int64)
    return Tokens(ids, flat, offsets, empty, empty.astype(bool), missing or {})


def all_but_first(*lengths: int) -> Tokens:
    return ragged([[0.0] + [1.0] * (n - 1) for n in lengths])


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    with open_model(tiny_model, device="cpu", dtype="float64") as model:
        yield model


@given(st.lists(st.integers(1, 70), min_size=1, max_size=5), st.integers(2, 20), st.data())
def test_every_token_counts_once_and_has_enough_before_it(lengths, size, data):
    stride = data.draw(st.integers(1, size - 1))
    tokens = all_but_first(*lengths)
    pieces = windows(tokens, size, stride)
    assert int(pieces.tokens.lengths.max()) <= size
    # Tokens are told apart by their place: ids of a sample are random, so find windows by order.
    seen: dict[int, list[int]] = {row: [] for row in range(len(lengths))}
    starts: dict[int, int] = {}
    for piece, row in enumerate(pieces.owner.tolist()):
        a, b = pieces.tokens.offsets[piece : piece + 2]
        start = starts.get(row, -stride) + stride
        starts[row] = start
        base = tokens.offsets[row] + start
        assert pieces.tokens.ids[a:b].tolist() == tokens.ids[base : base + b - a].tolist()
        for at in np.flatnonzero(pieces.tokens.weights[a:b]):
            seen[row].append(start + int(at))
            assert at >= min(size - stride, start + at)  # tokens before it
    assert seen == {row: list(range(1, n)) for row, n in enumerate(lengths)}


def test_windows_in_which_nothing_counts_are_left_out():
    tokens = ragged([[0.0] * 30 + [1.0, 0.5] + [0.0] * 9, [0.0, 1.0]])
    pieces = windows(tokens, 8, 4)
    assert pieces.owner.tolist() == [0, 1]
    assert pieces.tokens.lengths.tolist() == [8, 2]
    assert pieces.tokens.weights[:8].tolist() == [0, 0, 0, 0, 0, 0, 1, 0.5]


def test_samples_without_a_loss_have_no_windows():
    tokens = ragged([[0.0] + [1.0] * 20, [0.0] + [1.0] * 20], {0: "why"})
    assert set(windows(tokens, 8, 4).owner.tolist()) == {1}


def test_runs_stand_alone_behind_the_first_token():
    tokens = ragged([[0, 0, 1, 0.5, 0, 1], [0, 1], [0, 0]], {2: "nothing"})
    pieces = counted_runs(tokens, 7)
    flat = tokens.ids.tolist()
    assert pieces.owner.tolist() == [0, 0, 1]
    assert pieces.tokens.offsets.tolist() == [0, 3, 5, 7]
    assert pieces.tokens.ids.tolist() == [7, *flat[2:4], 7, flat[5], 7, flat[7]]
    assert pieces.tokens.weights.tolist() == [0, 1, 0.5, 0, 1, 0, 1]


def by_hand(model: Any, ids: np.ndarray, size: int, stride: int) -> list[float]:
    """NLL of every token but the first, each from its own window, one at a time."""
    out = []
    for t in range(1, len(ids)):
        start = 0
        while start + size <= t:
            start += stride
        window = torch.from_numpy(ids[start : t + 1].astype(np.int64))[None]
        with torch.no_grad():
            logits = model.module(input_ids=window[:, :-1]).logits[0, -1]
        out.append(float(functional.cross_entropy(logits[None], window[0, -1:])))
    return out


@pytest.mark.parametrize(("size", "stride"), [(16, 8), (16, 15), (9, 1), (64, 32)])
def test_windows_give_every_token_the_likelihood_of_its_own_window(size, stride, model):
    tokens = all_but_first(40, 7, 16, 17)
    found = likelihood(model, windows(tokens, size, stride), tokens_per_batch=50).value
    for row in range(4):
        ids = tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]
        expected = by_hand(model, ids, size, stride)
        np.testing.assert_allclose(found.nats[row], sum(expected), **SAME)
        np.testing.assert_allclose(found.mean[row], np.mean(expected), **SAME)
        assert found.counted[row] == len(ids) - 1


def test_the_mean_is_by_weight_and_the_sum_is_not(model):
    tokens = ragged([[0.0, 1.0, 0.25, 0.0, 0.5] * 4])
    each = np.asarray([0.0, *by_hand(model, tokens.ids, 64, 32)])
    w = tokens.weights.astype(np.float64)
    for size in (64, 10):
        if size == 10:
            each = np.asarray([0.0, *by_hand(model, tokens.ids, 10, 5)])
        found = likelihood(model, windows(tokens, size, size // 2), tokens_per_batch=30).value
        np.testing.assert_allclose(found.nats[0], each[w > 0].sum(), **SAME)
        np.testing.assert_allclose(found.mean[0], (each * w).sum() / w.sum(), **SAME)
        assert found.counted.tolist() == [12]


def test_a_sample_does_not_depend_on_its_batch(model):
    tokens = all_but_first(30, 5, 64, 11, 2)
    expected = likelihood(model, windows(tokens, 20, 10), tokens_per_batch=1).value
    for budget in (20, 63, 10_000):
        found = likelihood(model, windows(tokens, 20, 10), tokens_per_batch=budget).value
        np.testing.assert_allclose(found.nats, expected.nats, **SAME)


def test_samples_without_a_loss_have_no_likelihood(model):
    tokens = ragged([[0.0, 0.0], [0.0, 1.0]], {0: "nothing"})
    found = likelihood(model, whole_samples(tokens), tokens_per_batch=50)
    assert found.value.counted.tolist() == [0, 1]
    assert np.isnan(found.value.mean).tolist() == [True, False]
    assert found.cost.tokens == 2
    nothing = likelihood(model, whole_samples(ragged([])), tokens_per_batch=50)
    assert nothing.value.nats.shape == (0,)
    assert nothing.cost.flops == 0


def stats_of(lengths: np.ndarray) -> PoolStats:
    bins = np.bincount(np.floor(3 * np.log2(lengths) + 1e-9).astype(int), minlength=LENGTH_BINS)
    n = int(lengths.sum())
    return PoolStats(len(lengths), n, n, tuple(bins.tolist()), (), "text")


@pytest.mark.parametrize(
    ("size", "stride", "cut"), [(4096, 64, None), (128, 64, None), (128, 127, None), (100, 10, 300)]
)
def test_lengths_of_windows_are_foretold(size, stride, cut):
    lengths = np.random.default_rng(0).lognormal(5, 0.8, 4000).astype(int) + 1
    pieces = windows(all_but_first(*np.minimum(lengths + 1, cut or 10**9)), size, stride)
    found, scale = windowed_lengths(
        stats_of(lengths), size=size, stride=stride, max_length=cut, overhead=1
    )
    # Lengths are known to a bin's width of 26 %, evenly spread; 4,000 of them are close to that.
    assert scale == 1.0
    assert found.sum() == pytest.approx(pieces.tokens.lengths.sum(), rel=0.02)
    assert (found**2).sum() == pytest.approx((pieces.tokens.lengths**2).sum(), rel=0.02)


def test_lengths_of_an_empty_pool_are_none():
    empty = PoolStats(0, 0, 0, (0,) * LENGTH_BINS, (), "text")
    assert not len(windowed_lengths(empty, size=8, stride=4)[0])
