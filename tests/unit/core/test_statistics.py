"""Ranks, rank correlations and z-scores; what they come to in selections is tested there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from didact.core.statistics import best_first, mean_ranks, spearman, zscore


def test_ties_go_to_the_lowest_row():
    assert best_first(np.array([1.0, 3, 1, 3, -np.inf, -0.0, 0.0])).tolist() == [
        1, 3, 0, 2, 5, 6, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_scipys_with_ties_too(seed):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 8, 50).astype(np.float64)
    b = a + rng.normal(0, 3, 50).round()
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-14)
    assert (mean_ranks(a) + 1).tolist() == stats.rankdata(a).tolist()
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert math.isnan(spearman(a, np.ones(50)))


def test_zscores_of_nothing_and_of_numbers_too_close_are_zero():
    assert zscore(np.empty(0)).tolist() == []
    assert zscore(np.array([0.0, 5e-324])).tolist() == [0, 0]  # their variance is no float64
