"""How surprising numbers are: against hand counts, and by drawing what should not surprise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from didact.analysis.risk.flags import KINDS
from didact.analysis.risk.odds import (
    DRAWS,
    LEVEL,
    as_normal,
    from_counts,
    from_draws,
    from_earlier,
    limit,
)


def normal_tail(z):
    return math.erfc(z / math.sqrt(2)) / 2


def test_limits_share_five_percent_over_kinds_comparisons_sides_and_looks():
    assert normal_tail(limit()) * len(KINDS) == pytest.approx(LEVEL)
    assert normal_tail(limit(7, sides=2, looks=5)) * len(KINDS) * 70 == pytest.approx(LEVEL)


def test_a_t_becomes_the_normal_number_with_its_tail():
    # Student 1908, as in every table: P(t > 2.132) = .05 with 4 degrees of freedom
    assert as_normal(2.131847, 4) == pytest.approx(1.644854, abs=1e-5)
    assert as_normal(-2.131847, 4) == pytest.approx(-1.644854, abs=1e-5)
    assert as_normal(math.inf, 4) == pytest.approx(37.05, abs=0.01)


def test_one_more_version_is_judged_by_the_spread_of_the_earlier_ones():
    odds = from_earlier(4.0, [1.0, 2.0, 3.0])
    assert (odds.expected, odds.sd) == (2.0, pytest.approx(math.sqrt(4 / 3)))
    assert normal_tail(odds.z) == pytest.approx(0.1127017, abs=1e-6)  # t = √3, df = 2, by hand
    assert from_earlier(2.1, [2.0, 2.0, 2.0], least_sd=0.1).z < 1


def test_counts_are_a_binomial_number():
    # 3 of 3 rows with the property fall in the half that is looked at: (P(≥3) + P(≥4)) / 2 = 1/16
    assert normal_tail(from_counts(3, 100, 0, 100).z) == pytest.approx(1 / 16)
    # 5 of 8: P(≥5) = 93/256, P(≥6) = 37/256
    odds = from_counts(5, 50, 3, 50)
    assert normal_tail(odds.z) == pytest.approx(65 / 256)
    assert odds.expected == 0.06
    assert from_counts(0, 100, 0, 100).z == 0
    assert from_counts(900, 1000, 100, 1000).z > 20


def test_redraws_give_the_error_of_the_difference_of_two_versions():
    """Means of draws of one population: z is as a standard normal number is."""
    rng = np.random.default_rng(1)
    n, m, zs = 200, 160, []
    for _ in range(400):
        a, b = rng.gamma(2, size=(2, n))
        parts = [
            np.array([rng.permutation(x)[:m].mean() for _ in range(DRAWS)]) for x in (a, b)
        ]  # fmt: skip
        zs.append(from_draws(parts[1], parts[0], drawn=m, of=n, here=n).z)
    assert abs(np.mean(zs)) < 0.15  # three standard errors
    assert 0.85 < np.std(zs) < 1.15
    assert sum(z > limit() for z in zs) <= 8  # 2 expected; above 8 with probability .0002


def test_a_share_without_any_spread_varies_as_counts_do():
    none, some = np.zeros(DRAWS), np.full(DRAWS, 0.02)
    assert from_draws(none, none, drawn=80, of=100, here=100, share=True).z == 0
    odds = from_draws(some, none, drawn=80, of=100, here=100, share=True)
    assert 0 < odds.z < limit()  # two rows of a hundred
    assert from_draws(some, none, drawn=80, of=100, here=100).z > 30
