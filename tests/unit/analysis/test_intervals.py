"""Intervals: closed forms, scipy's tests, and how often they hold the truth."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from didact.analysis.arms import Arm, influences
from didact.analysis.intervals import (
    difference_estimate,
    holm_levels,
    mean_estimate,
    rest_variance,
    sample_spread,
)
from didact.analysis.runs import Samples
from didact.analysis.spread import run_sd, set_sd, spreads

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "interval_coverage.py"


@pytest.fixture
def simulation(monkeypatch):
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "interval_coverage", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def arm(label, *values, draws=None):
    unit_of = np.arange(len(values)) if draws is None else np.array(draws)
    return Arm(set=label, values=np.array(values), unit_of=unit_of, draws=draws is not None)


def test_influences_are_what_leaving_a_sample_out_does():
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(3, 1, 30)
    samples = Samples(np.arange(30), sizes * rng.normal(2, 1, 30), sizes)
    for i, moved in enumerate(influences(samples)):
        rest = np.arange(30) != i
        without = samples.numerators[rest].sum() / sizes[rest].sum()
        assert moved == pytest.approx(29 * (samples.value - without), rel=1e-9)


def test_influences_of_a_mean_are_deviations():
    values = np.array([1.0, 4.0, 10.0])
    assert influences(Samples(np.arange(3), values, np.ones(3))).tolist() == [-4, -1, 5]
    assert influences(Samples(np.arange(1), values[:1], np.ones(1))).tolist() == [0]


def test_two_sets_are_scipys_t_test():
    stats = pytest.importorskip("scipy.stats")
    a, b = arm("a", 2.81, 2.79, 2.80, 2.83), arm("b", 2.90, 2.85, 2.88)
    estimate = difference_estimate(a, b, spreads([a, b])[0], 0.0)
    known = stats.ttest_ind(a.values, b.values)
    assert estimate.p_value == pytest.approx(known.pvalue, rel=1e-9)
    assert estimate.df == known.df
    interval = known.confidence_interval(0.95)
    assert estimate.interval() == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_several_sets_pool_as_the_analysis_of_variance_does():
    stats = pytest.importorskip("scipy.stats")
    arms = [arm("a", 1.0, 2, 4), arm("b", 2.0, 5), arm("c", 7.0, 6, 9, 8)]
    within = sum(((a.values - a.mean) ** 2).sum() for a in arms) / 6
    assert run_sd(arms) == pytest.approx(np.sqrt(within))
    assert set_sd(arms) == pytest.approx(np.std([7 / 3, 3.5, 7.5], ddof=1))
    found, notes = spreads(arms)
    assert not notes
    assert {s.df for s in found.values()} == {6}
    estimate = mean_estimate(arms[1], found, 0.0)
    reach = stats.t.ppf(0.975, 6) * np.sqrt(within / 2)
    assert estimate.interval() == pytest.approx((3.5 - reach, 3.5 + reach))


def test_a_set_of_one_run_varies_as_the_others_do():
    arms = [arm("a", 1.0, 2, 3), arm("b", 5.0)]
    estimate = difference_estimate(*arms, spreads(arms)[0], 0.0)
    assert (estimate.error, estimate.df) == pytest.approx((np.sqrt(1 + 1 / 3), 2))


def test_without_two_runs_of_a_set_nothing_is_estimated():
    arms = [arm("a", 1.0), arm("b", 5.0)]
    assert spreads(arms) == ({}, ())
    assert difference_estimate(*arms, {}, 0.0) is None
    assert run_sd(arms) is None


def test_equal_runs_are_no_certainty():
    arms = [arm("a", 0.1, 0.1, 0.1), arm("b", 0.3, 0.3, 0.3)]
    assert run_sd(arms) == 0
    assert difference_estimate(*arms, spreads(arms)[0], 0.0) is None


def test_runs_of_one_draw_are_one_unit():
    # four draws, three runs each: the draws differ by 1, runs within a draw by a hundredth
    values = [d + 0.01 * s for d in range(4) for s in range(3)]
    drawn = arm("random", *values, draws=np.repeat(range(4), 3))
    fixed = arm("bm25", 5.0, 5.01, 5.02)
    found, _ = spreads([drawn, fixed])
    assert (found["random"].variance, found["random"].df) == pytest.approx((5 / 3, 3))
    assert (found["bm25"].variance, found["bm25"].df) == pytest.approx((1e-4, 10))
    estimate = difference_estimate(drawn, fixed, found, 0.0)
    assert estimate.error == pytest.approx(np.sqrt(5 / 3 / 4 + 1e-4 / 3))
    assert estimate.df == pytest.approx(3, abs=0.01)


def test_a_set_far_wilder_than_the_others_has_its_own_spread():
    calm = [arm(str(i), *np.array([0, 1, -1, 0.5, -0.5]) + i) for i in range(3)]
    wild = arm("wild", 0.0, 100, -100, 50, -50)
    found, notes = spreads([*calm, wild])
    assert found["wild"].variance == pytest.approx(6250)
    assert found["0"].variance == pytest.approx(0.625)
    assert len(notes) == 1
    assert "'wild'" in notes[0]


def test_variance_components_come_out_as_they_went_in(simulation):
    regime = replace(
        simulation.MEASURED, runs=(20, 20), run_sd=0.1, sample_sd=1.0, own_sd=0.3, rest_sd=0.5,
        samples=4000, lengths=0.0,
    )  # fmt: skip
    a, b = simulation.drawn(regime, np.random.default_rng(0))
    rest = rest_variance([a, b])
    assert rest == pytest.approx(0.25, rel=0.01)
    mean, pair = sample_spread([(a, 1.0)], rest), sample_spread([(a, 1.0), (b, -1.0)], rest)
    assert mean.variance == pytest.approx((1.0 + 0.09) / 4000, rel=0.05)
    assert pair.variance == pytest.approx(2 * 0.09 / 4000, rel=0.05)


@pytest.mark.parametrize(
    ("noise", "runs"),
    [
        ("as measured", (3, 3)),
        ("as measured", (2, 3, 5)),
        ("runs vary most", (3, 3)),
        ("samples vary most", (5, 5)),
    ],
)
def test_intervals_hold_the_truth_in_95_percent(simulation, noise, runs):
    found = simulation.coverage(replace(simulation.NOISES[noise], runs=runs), 700)
    assert found["difference"] == pytest.approx(0.95, abs=0.02)
    assert found["mean"] == pytest.approx(0.95, abs=0.02)
    assert found["any difference found"] < 0.07


def test_intervals_over_samples_alone_are_false(simulation):
    found = simulation.coverage(simulation.NOISES["runs vary most"], 200)
    assert found["difference by samples alone"] < 0.5
    found = simulation.coverage(simulation.NOISES["samples vary most"], 200)
    assert found["difference by runs alone"] < 0.5


def test_holm_in_closed_form():
    # 0.01 ≤ 0.05/4, 0.016 ≤ 0.05/3, 0.03 > 0.05/2: it fails and takes 0.04 ≤ 0.05 with it
    levels, passed = holm_levels([0.04, 0.01, 0.03, 0.016])
    assert levels == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert passed == [False, True, False, True]


def test_the_interval_at_holms_level_decides_as_the_test_does():
    rng = np.random.default_rng(3)
    arms = [arm(str(i), *rng.normal(2 * i, 1, 4)) for i in range(5)]
    found, _ = spreads(arms)
    estimates = [difference_estimate(a, b, found, 0.0) for a in arms for b in arms if a.set < b.set]
    levels, passed = holm_levels([e.p_value for e in estimates])
    held = [low <= 0 <= high for low, high in map(type(estimates[0]).interval, estimates, levels)]
    assert held == [not p for p in passed]
    assert 0 < sum(passed) < len(passed)
