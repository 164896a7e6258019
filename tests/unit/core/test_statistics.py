"""Ranks, rank correlations and z-scores; what they come to in selections is tested there."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from didact.core.statistics import auc, best_first, mean_ranks, spearman, spearman_interval, zscore


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


def test_auc_by_hand() -> None:
    # pairs won of each positive value against 0, 3, 2: 1, 2 ½, 2 ½
    area, _, _ = auc(np.array([1.0, 3, 3]), np.array([0.0, 3, 2]))
    assert area == pytest.approx(6 / 9)
    # Hanley and McNeil 1982: 51 abnormal and 58 normal images, area 0.893, standard error 0.032
    above = np.repeat([52.0, 51], [41, 10]) - 0.5  # so many of the 58 are below
    area, low, high = auc(above, np.arange(58.0))
    assert area == pytest.approx(0.893, abs=0.0005)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.0006)
    _, lower, _ = auc(above, np.arange(58.0), variance=4)
    assert area - lower == pytest.approx(2 * (area - low))


def test_an_area_of_few_values_is_not_certain_at_the_ends() -> None:
    # by hand, of 1 above 4: half a value of the smaller class plus one is 1/4, so at 3/4
    spread = 3 / 16 + 3 * (2 * 0.75**2 / 1.75 - 0.75**2)
    low = 1 - 1.959964 * np.sqrt(spread / 4)
    assert auc(np.array([5.0]), np.arange(4.0)) == pytest.approx((1, low, 1), abs=1e-6)
    assert auc(np.array([501.0, 500]), np.arange(500.0))[1] < 0.7
    assert auc(np.array([-1.0, -2]), np.arange(500.0))[2] > 0.1
    assert auc(np.arange(300.0) + 400, np.arange(300.0))[1] > 0.99


@pytest.mark.parametrize("true", [0.8, 0.95])
@pytest.mark.parametrize("m", [2, 5])
def test_the_interval_of_an_area_holds_the_true_one(m: int, true: float) -> None:
    rng = np.random.default_rng(1)
    apart = np.sqrt(2) * NormalDist().inv_cdf(true)
    ends = [auc(rng.normal(size=m) + apart, rng.normal(size=200))[1:] for _ in range(300)]
    assert np.mean([low <= true <= high for low, high in ends]) > 0.94


def test_the_interval_of_a_rank_correlation() -> None:
    # by hand: z = atanh 0.5 ± 1.959964 · √(1.125 / 97)
    assert spearman_interval(0.5, 100) == pytest.approx((0.3259, 0.6414), abs=1e-4)
    # atanh 0.5 ± 1.959964 · √(2 · 1.125 / 97)
    assert spearman_interval(0.5, 100, variance=2) == pytest.approx((0.2457, 0.6899), abs=1e-4)
    # no nearer to 1 than 20/21: tanh(atanh(20/21) - 1.959964 · √((1 + (20/21)² / 2) / 17))
    low, high = spearman_interval(1.0, 20)
    assert (low, high) == (pytest.approx(0.8575, abs=1e-4), 1)
    assert spearman_interval(-1.0, 20) == (-1, -low)
    low, high = spearman_interval(-0.2, 20)
    assert low < -0.5 < 0.2 < high


def test_copies_make_no_area_more_certain() -> None:
    ours, theirs = np.array([1.0, 4, 5, 6, 7]), np.array([0.0, 3, 2, 8, 9])
    once = auc(ours, theirs)
    copies = auc(np.repeat(ours, 9), np.repeat(theirs, 9), independent=(5, 5))
    assert copies == pytest.approx(once, abs=1e-12)
