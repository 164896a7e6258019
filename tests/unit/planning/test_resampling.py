"""Refits to what might have been measured: intervals that hold, seeds, the end."""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning.law import Curve, fit_own, fit_shared
from didact.planning.panels import METHODS, PANELS, curves
from didact.planning.resampling import bootstrap

C = np.array([0.025, 0.05, 0.1, 0.25, 0.5])


def law(base, end, rate, c=C):
    return end - (end - base) * np.exp(-rate * c)


def test_a_batch_of_refits_is_as_many_fits():
    of = PANELS[1]
    for form in ("own", "shared"):
        drawn = bootstrap(curves(of), end=of.full, form=form, draws=20)
        assert drawn.methods == METHODS
        assert drawn.rates.shape == drawn.base.shape == (20, 5)
        for row in (0, 19):
            told = [
                Curve(name, C, law(drawn.base[row, i], of.full, drawn.rates[row, i]))
                for i, name in enumerate(METHODS)
            ]
            again = (fit_own if form == "own" else fit_shared)(told, end=of.full)
            assert [*again.rates.values()] == pytest.approx(drawn.rates[row], rel=1e-6)
        assert drawn.predict("less", C).shape == (20, 5)
        assert drawn.predict("less", C)[3] == pytest.approx(
            law(drawn.base[3, 4], of.full, drawn.rates[3, 4])
        )


def test_draws_depend_on_the_seed_alone():
    of = PANELS[0]
    a, b, c = (bootstrap(curves(of), end=of.full, draws=5, seed=seed).rates for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_an_interval_of_refits_holds_the_true_rate_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.array([2.0, 6.0, 15.0])
    held = []
    for _ in range(60):
        values = law(30.0, 50.0, truth[:, None]) + rng.normal(0, 0.8, (3, 5))
        given = [Curve(str(i), C, row) for i, row in enumerate(values)]
        rates = bootstrap(given, end=50.0, base=30.0, draws=200).rates
        low, high = np.quantile(rates, [0.05, 0.95], axis=0)
        held.append((low <= truth) & (truth <= high))
    # 90 % in 180 intervals, not all independent; with 15 points about 88 %
    assert 0.82 <= np.mean(held) <= 0.96


def test_seeds_widen_what_the_law_misses_only_where_they_are_larger():
    exact = [Curve(name, C, law(30.0, 50.0, rate)) for name, rate in (("a", 2.0), ("b", 6.0))]
    assert np.ptp(bootstrap(exact, end=50.0, draws=50).rates, axis=0).max() < 1e-6
    errors = np.full(5, 0.3)
    noisy = [Curve(curve.method, C, curve.values, errors) for curve in exact]
    spread = bootstrap(noisy, end=50.0, base=30.0, draws=400).rates.std(axis=0)
    slope = 20 * C * np.exp(-np.outer([2.0, 6.0], C))  # of P by λ: least squares' own error
    assert spread == pytest.approx(0.3 / np.sqrt((slope**2).sum(axis=1)), rel=0.15)
    wide = [Curve(c.method, C, c.values, errors) for c in curves(PANELS[0])]
    plain = bootstrap(curves(PANELS[0]), end=47.32, draws=400).rates.std(axis=0)
    small = [Curve(c.method, C, c.values, np.full(5, 0.05)) for c in wide]
    assert bootstrap(small, end=47.32, draws=400).rates.std(axis=0) == pytest.approx(
        plain, rel=0.25
    )
    # seeds of 0.3 points where all that is missed is 0.26: what is left is the seeds' own spread
    assert np.mean(bootstrap(wide, end=47.32, draws=400).rates.std(axis=0) / plain) > 1.1


def test_a_full_pass_of_few_seeds_moves_the_end():
    exact = [Curve("a", C, law(30.0, 50.0, 2.0))]
    drawn = bootstrap(exact, end=50.0, base=30.0, end_error=0.5, draws=500)
    assert drawn.end.std() == pytest.approx(0.5, rel=0.1)
    assert drawn.base == pytest.approx(30.0)
    assert np.corrcoef(drawn.end, drawn.rates[:, 0])[0, 1] < -0.9
