"""What carries over between panels: pooling, the normal model's quantiles, utilities."""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning.law import Draws, LawFit
from didact.planning.panels import METHODS, PANELS
from didact.planning.transfer import (
    alike,
    foretold,
    log_gains,
    log_rates,
    pooled,
    published_draws,
    published_fits,
    regret,
    utility,
)


def fitted(**rates):
    return LawFit(
        form="shared",
        end=1.0,
        base=dict.fromkeys(rates, 0.0),
        rates=rates,
        base_given=False,
        bounds_hit=(),
        points=10,
        gap=1.0,
        rmse=0.0,
        loo=None,
        forward=None,
    )


def test_gains_are_beside_random():
    fits = [fitted(random=2.0, less=8.0), fitted(random=5.0, less=5.0)]
    assert log_gains(fits, ("less",))[:, 0] == pytest.approx([np.log(4), 0.0])
    assert log_rates([fitted(random=0.0)], ("random",))[0, 0] == pytest.approx(np.log(1e-3))


def test_pooled_panels_weigh_the_same_and_start_at_0():
    a = Draws(("random",), np.full(2, 50.0), np.full((2, 1), 30.0), np.array([[1.0], [2.0]]))
    b = Draws(("random",), np.full(2, 70.0), np.full((2, 1), 60.0), np.array([[3.0], [4.0]]))
    both = pooled([a, b])
    assert both.rates[:, 0].tolist() == [1, 2, 3, 4]
    assert both.predict("random", 0.0).ravel().tolist() == [0, 0, 0, 0]
    assert both.predict("random", 0.5)[3] == pytest.approx(1 - np.exp(-2))


@pytest.mark.parametrize("mean", [False, True])
def test_a_further_panel_has_students_quantiles(mean):
    stats = pytest.importorskip("scipy.stats")
    logs = np.log([2.0, 3.0, 2.5, 4.0, 1.5])
    fits = [fitted(random=float(np.exp(x))) for x in logs]
    drawn = np.log(alike(fits, methods=("random",), mean=mean, draws=20_000).rates[:, 0])
    wide = logs.std(ddof=1) * np.sqrt((0 if mean else 1) + 1 / 5)
    expected = stats.t.ppf([0.1, 0.5, 0.9], 4, logs.mean(), wide)
    assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx(expected, abs=0.05 * wide)


def test_methods_that_go_together_stay_together():
    fits = [fitted(random=r, less=4 * r) for r in (1.0, 2.0, 5.0)]
    drawn = alike(fits, methods=("random", "less"), draws=100)
    assert drawn.rates[:, 1] / drawn.rates[:, 0] == pytest.approx(4.0)
    assert np.ptp(drawn.rates[:, 0]) > 1


def test_utility_is_beside_random_at_equal_total_budget():
    draws = Draws(("random", "less"), np.ones(1), np.zeros((1, 2)), np.array([[3.0, 20.0]]))
    budgets = np.array([0.05, 0.5])
    free = np.exp(-3 * budgets) - np.exp(-20 * budgets)
    assert utility(draws, "less", budgets)[0] == pytest.approx(free)
    paid = np.exp(-3 * budgets) - [1.0, np.exp(-20 * 0.4)]
    assert utility(draws, "less", budgets, selection=0.1)[0] == pytest.approx(paid)
    assert utility(draws, "random", budgets)[0].tolist() == [0.0, 0.0]


def test_published_panels_are_fitted_once_and_drawn_each_its_own_way():
    assert published_fits() is published_fits()
    fits, drawn = published_fits(), published_draws(50)
    assert len(fits) == len(drawn) == len(PANELS)
    middle = np.array([np.median(draws.rates, axis=0) for draws in drawn])
    assert np.log(middle) == pytest.approx(log_rates(fits), abs=0.35)


def test_regret_is_0_of_the_best_and_the_rest_is_between_methods():
    of = PANELS[0]
    regrets = [regret(of, method) for method in METHODS]
    assert min(regrets) == 0
    assert foretold(0).regret_random == regrets[0] == pytest.approx(0.76)
