from __future__ import annotations

import numpy as np
import pytest

from didact.accounting.flops import Lengths
from didact.accounting.lengths import executed, micro_batches, typical_lengths
from didact.core.pool import LENGTH_BINS, PoolStats


def stats_of(lengths: np.ndarray) -> PoolStats:
    bins = np.floor(3 * np.log2(np.maximum(lengths, 1))).astype(int)
    counts = np.bincount(np.minimum(bins, LENGTH_BINS - 1), minlength=LENGTH_BINS)
    return PoolStats(
        len(lengths), 0, int(lengths.sum()), tuple(int(c) for c in counts), ("",), "text"
    )


@pytest.mark.parametrize("max_length", [64, 300, 2048, None])
@pytest.mark.parametrize("overhead", [0, 17])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_lengths_from_the_histogram(max_length, overhead, spread):
    rng = np.random.default_rng(0)
    lengths = np.maximum(rng.lognormal(5, spread, 20_000), 1).astype(int)
    found = typical_lengths(stats_of(lengths), overhead=overhead, max_length=max_length)
    true = np.minimum(lengths + overhead, max_length or 10**9).astype(float)
    assert len(found) == 8192
    # A bin is 26 % wide; a log-normal pool is smooth across it.
    assert found.mean() == pytest.approx(true.mean(), rel=0.01)
    assert (found.astype(float) ** 2).mean() == pytest.approx((true**2).mean(), rel=0.03)


def test_lengths_without_truncation_have_the_mean_of_the_pool():
    lengths = np.array([1, 5, 5, 77, 1000, 12_345])
    found = typical_lengths(stats_of(lengths), overhead=3, max_length=None)
    assert found.sum() == pytest.approx(lengths.sum() + 6 * 3, abs=3)  # each is rounded


def test_lengths_all_cut():
    found = typical_lengths(stats_of(np.full(10, 500)), overhead=0, max_length=100)
    assert found.tolist() == [100] * 10


def test_lengths_of_nothing():
    none = typical_lengths(stats_of(np.array([], int)), overhead=0, max_length=9)
    assert not len(none)
    whole, tokens = executed(none, scale=0.0, tokens_per_batch=10, rows=512)
    assert (whole, tokens) == (Lengths(0, 0, 0.0), 0)


def test_a_twentieth_is_padding_at_most():
    # log-normal lengths, as instruction samples have, 512 sorted together as scorers do
    lengths = np.clip(np.exp(np.random.default_rng(0).normal(5, 0.9, 512)), 8, 1024).astype(int)
    whole, tokens = executed(lengths, scale=1.0, tokens_per_batch=8192, rows=512)
    assert 1.0 < whole.tokens / tokens < 1.06


def test_what_runs_is_what_batches_of_these_lengths_hold():
    lengths = np.array([10, 9, 9, 3, 3, 3])
    whole, tokens = executed(lengths, scale=2.0, tokens_per_batch=30, rows=6)
    groups = list(micro_batches(lengths, np.arange(6), 30))
    padded = [len(g) * int(lengths[g].max()) for g in groups]
    squares = [len(g) * int(lengths[g].max()) ** 2 for g in groups]
    assert whole == Lengths(12, 2 * sum(padded), 2.0 * sum(squares))
    assert tokens == 2 * lengths.sum()
