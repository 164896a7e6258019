"""Closed forms of breaking even: at the point they give, the two sides are equal."""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning.break_even import Side, crossing, per_task, ratio, tasks

CHEAP, PPL, LESS = Side(10.0), Side(40.0, 1 / 3), Side(80.0, 1.8)
HEAD_START = Side(40.0, 1 / 3, amplitude=0.8)  # a lower gap at c = 0: a higher P0
BEHIND = Side(40.0, 1 / 3, amplitude=1.3)


def gap(side, budget):
    """How far below the end a method stays at a total budget; NaN where selection takes it all."""
    left = budget - side.selection
    return np.where(left > 0, side.amplitude * np.exp(-np.asarray(side.rate) * left), np.nan)


def at_ratio(side, trained_over_selecting):
    """The side, its selection as a share of a full pass of the trained model."""
    return Side(side.rate, side.selection / trained_over_selecting, side.amplitude)


@pytest.mark.parametrize("method", [PPL, LESS, HEAD_START, BEHIND])
@pytest.mark.parametrize("budget", [0.05, 0.3, 1.0])
def test_at_the_ratio_both_are_equal_and_above_it_the_method_wins(method, budget):
    rival = CHEAP
    least = float(ratio(method, rival, budget))
    wins = [gap(at_ratio(method, least * by), budget) < gap(rival, budget) for by in (0.999, 1.001)]
    assert wins == [False, True]
    if least > method.selection / budget * 1.01:
        assert gap(at_ratio(method, least), budget) == pytest.approx(float(gap(rival, budget)))


def test_two_that_cost_are_equal_at_their_ratio():
    least = float(ratio(LESS, PPL, 0.2))
    a, b = (gap(at_ratio(side, least), 0.2) for side in (LESS, PPL))
    assert a == pytest.approx(float(b))


def test_no_ratio_is_enough_for_a_slower_method():
    assert ratio(Side(9.0, 1 / 3), CHEAP, 0.5) == np.inf
    assert ratio(Side(10.0, 1 / 3), CHEAP, 0.5) == np.inf
    # behind at c = 0 by more than the faster rate makes up for at this budget
    assert ratio(Side(11.0, 1 / 3, amplitude=1.3), CHEAP, 0.1) == np.inf


def test_a_ratio_is_large_enough_to_pay_for_selection_at_all():
    strong = Side(40.0, 1.0, amplitude=1e-6)
    assert ratio(strong, CHEAP, 0.1) == pytest.approx(10.0)
    assert np.isnan(gap(at_ratio(strong, 10.0), 0.1))


@pytest.mark.parametrize("method", [LESS, HEAD_START])
def test_at_the_number_of_tasks_both_are_equal(method):
    n = float(tasks(method, CHEAP, 0.5))
    assert gap(at_ratio(method, n), 0.5) == pytest.approx(float(gap(CHEAP, 0.5)))


def test_one_task_or_none_may_be_enough():
    assert tasks(Side(80.0, 0.001), CHEAP, 0.5) < 1
    assert tasks(Side(9.0, 1.8), CHEAP, 0.5) == np.inf


def test_a_rival_that_costs_too_is_paid_by_each_task():
    n = float(tasks(Side(80.0, 1.8), Side(40.0, 0.1), 0.5))
    assert gap(Side(80.0, 1.8 / n), 0.5) == pytest.approx(float(gap(Side(40.0, 0.1), 0.5)))


@pytest.mark.parametrize("method", [Side(40.0, 0.2), Side(40.0, 0.2, amplitude=1.4)])
def test_at_the_crossing_both_are_equal(method):
    budget = float(crossing(method, CHEAP))
    assert gap(method, budget) == pytest.approx(float(gap(CHEAP, budget)))
    assert crossing(method, CHEAP, 3e18) == pytest.approx(3e18 * budget)
    assert crossing(CHEAP, method) == np.inf


def test_draws_are_taken_one_by_one_and_never_is_infinite():
    rates = np.array([5.0, 20.0, 40.0, 80.0])
    found = ratio(Side(rates, 1 / 3), CHEAP, 0.1)
    one_by_one = [float(ratio(Side(float(rate), 1 / 3), CHEAP, 0.1)) for rate in rates]
    assert found.tolist() == one_by_one
    assert max(one_by_one) == np.inf


def test_one_task_pays_its_part():
    assert per_task(8e18, 2e18, 4) == (4e18, 0.5)
