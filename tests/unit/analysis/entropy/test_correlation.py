"""Rank correlations given others, and the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from didact.analysis.entropy.correlation import correlation, partial_ranks

FAMILIES = np.repeat(np.arange(8), 4)
ONE = np.zeros(32, np.int64)


def drawn(rng, slope, families=FAMILIES, shared=0.5):
    """Two columns given a third; half of the variance of each is of the family."""
    n = len(families)

    def column():
        of_family = rng.normal(size=families.max() + 1)[families]
        return np.sqrt(shared) * of_family + np.sqrt(1 - shared) * rng.normal(size=n)

    given = column()
    x = column() + given
    return slope * x + given + column(), x, given[:, None]


def test_without_a_family_too_few_sets_may_be_left():
    columns = drawn(np.random.default_rng(1), -1.0)
    n = len(columns[0])
    most = np.where(np.arange(n) < n - 3, 0, np.arange(n))
    found = correlation(*columns, ONE, most)
    assert found.apart
    assert found == correlation(*columns, ONE, ONE)
    assert not correlation(*columns, ONE, FAMILIES).apart


def test_intervals_hold_what_they_say():
    rng = np.random.default_rng(0)
    many = np.arange(20_000)
    for slope in (0.0, -1.0):
        true = partial_ranks(*drawn(rng, slope, many), np.zeros(20_000, np.int64))
        held = alone = 0
        for _ in range(150):
            columns = drawn(rng, slope)
            found = correlation(*columns, ONE, FAMILIES)
            held += found.low <= true <= found.high
            apart = correlation(*columns, ONE, ONE)  # as if all sets were of one family: Fisher's
            alone += apart.low <= true <= apart.high
        assert held >= 141  # 95 % of 150 is 142.5; 97 % of 800 were held
        assert alone < held  # sets of one family taken for independent: 90 % of 800


def test_perfect_agreement_has_an_interval():
    x = np.arange(10.0)
    found = correlation(-x, x, np.empty((10, 0)), np.zeros(10, int), np.arange(10))
    assert found.value == -1
    assert -1 <= found.low < found.high < -0.9


def test_what_does_not_vary_has_no_correlation():
    x = np.arange(10.0)
    nothing, place = np.empty((10, 0)), np.zeros(10, int)
    assert correlation(np.ones(10), x, nothing, place, place).value is None
    # nothing is left of x when x is given
    assert partial_ranks(np.sin(x), x, x[:, None], place) is None
    # groups without a spread inside of them: their means alone differ
    assert partial_ranks(np.repeat([0.1, 0.3], 5), x, nothing, np.repeat([0, 1], 5)) is None


def test_too_few_sets_have_no_interval():
    x = np.array([1.0, 3, 2, 4])
    found = correlation(x, np.arange(4.0), np.empty((4, 0)), np.zeros(4, int), np.arange(4))
    assert found.value == pytest.approx(0.8)
    assert found.low is not None
    fewer = correlation(x[:3], np.arange(3.0), np.empty((3, 0)), np.zeros(3, int), np.arange(3))
    assert (fewer.value, fewer.low) == (pytest.approx(0.5), None)
    assert partial_ranks(x[:2], x[:2], np.empty((2, 0)), np.zeros(2, int)) is None


def test_shifts_of_backbones_change_nothing():
    rng = np.random.default_rng(1)
    y, x, given = drawn(rng, -1.0)
    groups = np.arange(32) % 2
    shifted = y + 10 * groups, x - 3 * groups, given + groups[:, None]
    assert partial_ranks(*shifted, groups) == pytest.approx(partial_ranks(y, x, given, groups))
