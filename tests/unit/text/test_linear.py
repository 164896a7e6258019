"""Linear models against closed forms, other minimisers and finite differences."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize

from didact.core.arrays import Float1D, Float2D
from didact.text import linear
from didact.text.gram_sets import gram_sets
from didact.text.linear import (
    Features,
    GramFeatures,
    Linear,
    Logistic,
    Loss,
    Squared,
    VectorFeatures,
    WithColumns,
    fit,
)

RNG = np.random.default_rng(7)
VECTORS = RNG.normal(size=(60, 5)) / 2
WEIGHT = RNG.uniform(0, 1, 60) * (np.arange(60) % 4 > 0)  # some rows do not count
CLASSES = RNG.uniform(size=60) < 1 / (1 + np.exp(-3 * VECTORS[:, 0] + 1))
TEXTS = pa.array(["a b c", "b c d e", "", "x", "a a a b"], pa.large_string())


def objective(parameters: Float1D, loss: Loss, l2: float) -> float:
    z = VECTORS @ parameters[:-1] + parameters[-1]
    if isinstance(loss, Logistic):
        each = np.logaddexp(0, np.where(loss.positive, -z, z))
    else:
        assert isinstance(loss, Squared)
        each = (z - loss.value) ** 2 / 2
    return float((loss.weight * each).sum() + l2 / 2 * (parameters[:-1] ** 2).sum())


def parameters(model: Linear) -> Float1D:
    return np.append(model.weights, model.intercept)


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_logistic_regression_is_what_scipy_finds(
    l2: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-8)
    loss = Logistic(CLASSES, WEIGHT)
    found = fit(VectorFeatures(VECTORS), loss, l2=l2)
    other = optimize.minimize(
        objective, np.zeros(6), args=(loss, l2), method="BFGS", options={"gtol": 1e-9}
    )
    assert found.converged
    assert parameters(found) == pytest.approx(other.x, abs=2e-4 * np.abs(other.x).max())
    assert objective(parameters(found), loss, l2) <= other.fun + 1e-12


def test_ridge_regression_has_a_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-10)
    values = VECTORS @ [1, -2, 0, 3, 0.5] + RNG.normal(size=60) + 4
    found = fit(VectorFeatures(VECTORS), Squared(values, WEIGHT), l2=0.3)
    with_one = np.column_stack([VECTORS, np.ones(60)])
    penalty = 0.3 * np.diag([1, 1, 1, 1, 1, 0])
    exact = np.linalg.solve(
        with_one.T @ (WEIGHT[:, None] * with_one) + penalty, with_one.T @ (WEIGHT * values)
    )
    assert parameters(found) == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("loss", [Logistic(CLASSES, WEIGHT), Squared(VECTORS[:, 1], WEIGHT)])
def test_slopes_and_curvatures_are_differences(loss: Loss) -> None:
    z, step = np.linspace(-5, 5, 60), 1e-6

    def value(at: Float1D) -> Float1D:
        if isinstance(loss, Logistic):
            return loss.weight * np.logaddexp(0, np.where(loss.positive, -at, at))
        assert isinstance(loss, Squared)
        return loss.weight * (at - loss.value) ** 2 / 2

    slope = (value(z + step) - value(z - step)) / (2 * step)
    assert loss.slope(z) == pytest.approx(slope, abs=1e-8)
    curvature = (loss.slope(z + step) - loss.slope(z - step)) / (2 * step)
    assert loss.curvature(z) == pytest.approx(curvature, abs=1e-8)


def test_what_can_be_told_apart_without_error_has_finite_weights() -> None:
    classes = np.arange(60) < 30
    vectors = np.where(classes, 1.0, -1.0)[:, None]
    found = fit(VectorFeatures(vectors), Logistic(classes, np.full(60, 1 / 60)), l2=1e-4)
    assert found.converged
    # w solves sigmoid(-w) = l2 · w
    assert 1 / (1 + np.exp(found.weights[0])) == pytest.approx(1e-4 * found.weights[0], rel=1e-2)


def test_too_few_steps_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_STEPS", 2)
    found = fit(VectorFeatures(VECTORS), Logistic(CLASSES, WEIGHT), l2=1e-3)
    assert not found.converged
    assert found.steps == 2


def matrix(features: Features) -> Float2D:
    return np.stack([features.times(row) for row in np.eye(features.width)], axis=1)


@pytest.mark.parametrize("kind", ["grams", "vectors", "both"])
def test_a_matrix_and_its_transpose(kind: str) -> None:
    sets = gram_sets(TEXTS)
    columns = np.unique(sets.buckets)
    grams = GramFeatures(sets, columns=columns)
    features: Features = grams
    if kind == "vectors":
        features = VectorFeatures(VECTORS[:5])
    if kind == "both":
        features = WithColumns(grams, VECTORS[:5])
    whole = matrix(features)
    if kind == "grams":
        assert (whole**2).sum(axis=1) == pytest.approx([1, 1, 0, 1, 1])
    values = RNG.normal(size=5)
    assert features.transposed(values) == pytest.approx(whole.T @ values)
    tables = RNG.normal(size=(3, features.width)).astype(np.float32)
    which = np.array([0, 2, 1, 2, 0])
    assert features.times_each(tables, which) == pytest.approx((whole * tables[which]).sum(axis=1))


def test_all_buckets_are_the_features_that_occur_and_others() -> None:
    sets = gram_sets(TEXTS)
    columns = np.unique(sets.buckets)
    few, all_ = GramFeatures(sets, columns=columns), GramFeatures(sets)
    weights = RNG.normal(size=all_.width)
    assert np.array_equal(all_.times(weights), few.times(weights[columns]))
    values = RNG.normal(size=5)
    assert np.array_equal(all_.transposed(values)[columns], few.transposed(values))
