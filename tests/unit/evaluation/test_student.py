"""Tails and quantiles against scipy, and closed forms where scipy is not installed."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from didact.evaluation.student import f_tail, incomplete_beta, t_quantile, t_tail

DFS = (1, 1.5, 2, 3, 4.7, 10, 57.3, 1e3, 1e5)


@pytest.mark.parametrize("df", DFS)
def test_students_t_is_scipys(df):
    stats = pytest.importorskip("scipy.stats")
    for t in (-80, -3, 0, 0.1, 1, 2.7, 12, 80):
        assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-300)
    for p in (0.01, 0.5, 0.6, 0.8, 0.975, 0.9975, 0.99999):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-12)


def test_f_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    for above, below in ((2, 2), (2, 8), (7, 3.3)):
        for f in (0, 0.1, 1, 5, 40):
            assert f_tail(f, above, below) == pytest.approx(stats.f.sf(f, above, below), rel=1e-12)


def test_closed_forms():
    assert t_quantile(0.975, 1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    assert t_quantile(0.975, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert t_tail(1.0, 1) == pytest.approx(0.25, rel=1e-12)
    assert incomplete_beta(0.3, 2, 1) == pytest.approx(0.09, rel=1e-12)
    assert [incomplete_beta(x, 2, 3) for x in (0.0, 1.0)] == [0, 1]


@pytest.mark.parametrize("p", [0.025, 0.8, 0.99])
def test_many_degrees_of_freedom_are_the_normal_distribution(p):
    normal = NormalDist().inv_cdf(p)
    assert t_quantile(p, math.inf) == pytest.approx(normal, rel=1e-14)
    assert t_quantile(p, 9e6) == pytest.approx(normal, rel=1e-6)
    assert t_tail(normal, math.inf) == pytest.approx(1 - p, rel=1e-12)
