"""Fits recover what made the numbers, and are tried on families they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.analysis.entropy import fits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
GROUPS = np.arange(30) % 2
FAMILIES = np.arange(30) // 3


def test_a_line_with_two_intercepts_is_recovered():
    y = 3.0 + 5 * GROUPS - 2 * X[:, 0] + 0.5 * X[:, 1]
    found = fits.fit("linear", X, y, GROUPS)
    assert found(X, GROUPS) == pytest.approx(y)
    told = found.params(("ratio", "loss"), ("small", "large"))
    assert told["weights"]["ratio"] / told["scales"]["ratio"] == pytest.approx(-2)
    assert fits.left_out("linear", X, y, GROUPS, FAMILIES) == pytest.approx(y)


def test_a_quadratic_with_its_product_is_recovered():
    y = 1 + X[:, 0] ** 2 - X[:, 0] * X[:, 1] + 0.3 * X[:, 1]
    one = np.zeros(30, np.int64)
    assert fits.left_out("quadratic", X, y, one, FAMILIES) == pytest.approx(y)
    assert fits.rmse(y, fits.left_out("linear", X, y, one, FAMILIES)) > 0.5
    told = fits.fit("quadratic", X, y, one).params(("a", "b"), ("all",))
    assert set(told["weights"]) == {"a", "b", "a²", "a·b", "b²"}


def test_a_sum_of_steps_is_recovered_within_its_directions():
    one = np.zeros(30, np.int64)
    y = -np.sign(X[:, 0]) - np.tanh(3 * X[:, 1])
    found = fits.fit("monotone", X, y, one, (-1, -1))
    assert found(X, one) == pytest.approx(y, abs=0.02)
    for at, value in found.knots:
        assert (np.diff(at) > 0).all()
        assert (np.diff(value) <= 0).all()
    # foretold the other way, nothing but the mean is left
    against = fits.fit("monotone", X[:, :1], -X[:, 0], one, (1,))
    assert against(X[:, :1], one) == pytest.approx(np.full(30, -X[:, 0].mean()))


def test_a_monotone_fit_is_flat_outside():
    x, one = np.arange(5.0)[:, None], np.zeros(5, np.int64)
    found = fits.fit("monotone", x, -np.arange(5.0), one, (-1,))
    assert found(np.array([[-9.0], [99.0]]), one[:2]) == pytest.approx([0, -4])


def test_what_does_not_vary_and_what_is_not_known():
    one = np.zeros(6, np.int64)
    y = np.arange(6.0)
    flat = np.ones((6, 1))
    for form in fits.FORMS:
        assert fits.fit(form, flat, y, one, (-1,))(flat, one) == pytest.approx(np.full(6, 2.5))
    # family 0 is all there is of group 1
    groups, families = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 2, 2, 0, 0])
    expected = fits.left_out("constant", np.empty((6, 0)), y, groups, families)
    assert expected[:4] == pytest.approx([2.5, 2.5, 0.5, 0.5])
    assert np.isnan(expected[4:]).all()
    assert fits.rmse(y, expected) == pytest.approx(np.sqrt(np.mean([2.5**2, 1.5**2] * 2)))
    assert fits.left_out("quadratic", X[:4], y[:4], one[:4], np.arange(4)) is None
    assert fits.rmse(y, None) is None


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), st.data())
def test_isotonic_is_the_nearest_rising_sequence(values, data):
    y = np.array(values)
    weights = np.array(
        data.draw(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=len(y), max_size=len(y)))
    )
    found = fits.isotonic(y, weights)
    assert (np.diff(found) >= 0).all()
    # min-max formula, Barlow et al. 1972: another way to the same numbers
    n = len(y)

    def mean(a, b):
        return np.average(y[a : b + 1], weights=weights[a : b + 1])

    formula = [max(min(mean(a, b) for b in range(i, n)) for a in range(i + 1)) for i in range(n)]
    assert found == pytest.approx(np.array(formula), abs=1e-9)
