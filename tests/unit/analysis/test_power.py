"""What is detectable and what it takes: the evidence's numbers, scipy's power, themselves back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from didact.analysis.power import MOST_SEEDS, detectable, power_constant, seeds_needed
from didact.analysis.spread import Spread


def test_the_constants_of_one_comparison_and_of_ten():
    assert power_constant() == pytest.approx(2.80, abs=0.005)
    assert power_constant(10) == pytest.approx(3.65, abs=0.005)


@pytest.mark.parametrize(
    ("sd", "runs", "comparisons", "known"),
    [(0.0037, 3, 10, 0.012), (0.048, 3, 10, 0.15), (0.0037, 5, 1, 0.007)],
)
def test_small_models_detect_what_was_measured(sd, runs, comparisons, known):
    # SDs of 272k-parameter models continued from one base; known to two digits, 10 % at most apart
    assert detectable(sd, runs, comparisons=comparisons) == pytest.approx(known, rel=0.1)


@pytest.mark.parametrize("runs", [2, 3, 5, 20])
def test_what_is_detectable_is_found_in_80_percent(runs):
    stats = pytest.importorskip("scipy.stats")
    df = 2 * (runs - 1)
    away = detectable(1.0, runs, df=df) / math.sqrt(2 / runs)
    limit = stats.t.ppf(0.975, df)
    power = stats.nct.sf(limit, df, away) + stats.nct.cdf(-limit, df, away)
    assert power == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("sets", [2, 4])
def test_seeds_needed_are_the_fewest_that_detect(sets):
    for wanted in (0.5, 1.0, 3.0):
        needed = seeds_needed(wanted, 1.0, sets=sets, comparisons=3)
        least = [
            detectable(1.0, m, comparisons=3, df=sets * (m - 1)) for m in (needed - 1, needed)
            if m > 1
        ]  # fmt: skip
        assert least[-1] <= wanted
        assert len(least) == 1 or least[0] > wanted


def test_no_number_of_seeds_makes_up_for_few_samples():
    sampled = Spread(0.01, 100.0)
    assert seeds_needed(0.2, 0.05, sampled=sampled) is None
    assert seeds_needed(0.4, 0.2, sampled=sampled) > seeds_needed(0.4, 0.2)
    assert seeds_needed(1e-6, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 2


def test_many_seeds_follow_the_normal_formula():
    needed = seeds_needed(0.1, 1.0)
    assert needed == pytest.approx(2 * (power_constant() / 0.1) ** 2, rel=0.01)
    assert needed < MOST_SEEDS
    assert np.isfinite(needed)
