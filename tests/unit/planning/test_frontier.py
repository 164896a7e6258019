"""The frontier against its definition, point by point; the line against a known one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.errors import DataError
from didact.planning.frontier import Line, log_line, non_dominated

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=12)


@given(POINTS)
def test_what_is_kept_is_what_nothing_beats(points):
    flops, values = np.array(points, np.float64).reshape(-1, 2).T
    kept = non_dominated(flops, values)
    assert (np.diff(flops[kept]) > 0).all()
    assert (np.diff(values[kept]) > 0).all()
    for i in range(len(points)):
        as_good = (flops <= flops[i]) & (values >= values[i])
        better = as_good & ((flops < flops[i]) | (values > values[i]))
        first = np.flatnonzero((flops == flops[i]) & (values == values[i]))[0] == i
        assert (i in kept) == (not better.any() and first)


def test_a_line_comes_back():
    flops = np.array([1e17, 3e18, 2e20])
    line = Line(46.69, 1.001)
    found = log_line(flops, line.at(flops))
    assert (found.at_1e18, found.per_decade) == pytest.approx((46.69, 1.001))


@pytest.mark.parametrize("flops", [[], [1e18], [1e18, 1e18]])
def test_a_line_needs_two_costs(flops):
    with pytest.raises(DataError, match="different costs, and a line needs two"):
        log_line(np.array(flops), np.zeros(len(flops)))
