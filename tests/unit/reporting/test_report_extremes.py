"""Scores as large as numbers get: a report is drawn of them, at once and without a false number."""

import math

import numpy as np
import pytest

from didact.core.scores import Scores
from didact.reporting import svg
from didact.reporting.distributions import FARTHEST
from didact.reporting.sections.order import course
from didact.reporting.sections.scores import find_cut, score_distribution

LARGEST = float(np.finfo(np.float64).max)


def scores(values) -> Scores:
    return Scores(
        values=np.asarray(values, np.float64), higher_is_better=True, method="column", settings={},
        pool_fingerprint="0" * 32,
    )  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308] * 50,
        [LARGEST, -LARGEST, 0.0, 5e-324] * 25,
        [*np.linspace(0, 1, 99), 1e308],
        [*np.linspace(0, 1, 99), -LARGEST],
        [5e-324 * (i % 3) for i in range(100)],
        [LARGEST - i * 1e293 for i in range(100)],
    ],
)
@pytest.mark.parametrize("k", [1, 50, 99])
def test_an_axis_for_every_score(values, k):
    given = scores(values)
    chosen = np.sort(np.argsort(-given.values, kind="stable")[:k])
    cut = find_cut(given, chosen, np.ones(100, np.bool_))
    drawn = score_distribution(given, chosen, cut)
    assert all(map(math.isfinite, drawn.edges))
    assert len(drawn.edges) < 200
    assert np.all(np.diff(drawn.edges) > 0)
    assert sum(drawn.pool) == pytest.approx(1)
    assert (drawn.pool_quantiles[0], drawn.pool_quantiles[-1]) == (min(values), max(values))
    assert math.isfinite(drawn.pool_quantiles[2])
    assert svg.ticks(drawn.edges[0], drawn.edges[-1])


def test_a_line_through_scores_whose_sum_is_no_number():
    values = np.clip([1e308, 1e308, -1e308, -1e308], -FARTHEST, FARTHEST)
    drawn = course(values, np.array([0, 2, 4]))
    assert drawn.mean == (FARTHEST, -FARTHEST)
