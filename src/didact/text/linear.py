"""Linear models over features of texts: logistic and ridge regression with an L2 penalty.

Sums run in a fixed order and no BLAS is called, so that a fit does not depend on threads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from didact.text.gram_sets import BITS, GramSets

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Float1D, Float2D, Float32s, Int1D

_MEMORY: Final = 10  # pairs of steps that the curvature is told from
_SEARCHES: Final = 30  # Newton steps along a line
_EXACT: Final = 1e-3  # share of the slope that may be left along a line
# It ends where the gradient is below so much times l2 · ‖weights‖, which puts the weights within
# that share of their length from those of the minimum; or after so many steps.
_TOLERANCE: Final = 1e-3
_STEPS: Final = 1000


class Features(Protocol):
    """A matrix of features, `n` texts by `width`."""

    @property
    def width(self) -> int:
        """Number of features."""
        ...

    def __len__(self) -> int:
        """Number of texts."""
        ...

    def times(self, weights: Float1D) -> Float1D:
        """The matrix times `(width,)`: float64 `(n,)`."""
        ...

    def transposed(self, values: Float1D) -> Float1D:
        """The transposed matrix times `(n,)`: float64 `(width,)`."""
        ...

    def times_each(self, tables: Float32s, which: Int1D) -> Float1D:
        """Row i times the table `which[i]` of `(K, width)`: float64 `(n,)`."""
        ...


class GramFeatures:
    """Sets of grams as features: of a text with u distinct buckets each of them is 1/√u."""

    def __init__(self, sets: GramSets, *, columns: Int1D | None = None) -> None:
        """Take all buckets as features, or those of `columns`, which must be all that occur."""
        counts = sets.counts
        if columns is None:
            self._buckets, self.width = sets.buckets, 1 << BITS
        else:
            place = np.zeros(1 << BITS, np.int64)
            place[columns] = np.arange(len(columns))
            self._buckets, self.width = place.take(sets.buckets), len(columns)
        self._owners = np.repeat(np.arange(len(sets)), counts)
        self._scale = 1 / np.sqrt(np.maximum(counts, 1))

    def __len__(self) -> int:
        return len(self._scale)

    def times(self, weights: Float1D) -> Float1D:
        """See `Features`."""
        return self._scale * self._summed(weights.take(self._buckets))

    def times_each(self, tables: Float32s, which: Int1D) -> Float1D:
        """See `Features`."""
        at = self._buckets + (which * tables.shape[1]).take(self._owners)
        return self._scale * self._summed(tables.reshape(-1).take(at))

    def transposed(self, values: Float1D) -> Float1D:
        """See `Features`."""
        each = (values * self._scale).take(self._owners)
        return np.bincount(self._buckets, each, minlength=self.width).astype(np.float64, copy=False)

    def _summed(self, values: Float1D) -> Float1D:
        sums = np.bincount(self._owners, values, minlength=len(self))  # one by one, in order
        return sums.astype(np.float64, copy=False)


class VectorFeatures:
    """Vectors `(n, d)` as features."""

    def __init__(self, vectors: Float2D) -> None:
        self._vectors = vectors
        self.width = vectors.shape[1]

    def __len__(self) -> int:
        return len(self._vectors)

    def times(self, weights: Float1D) -> Float1D:
        """See `Features`."""
        return _sum("nd,d->n", self._vectors, weights)

    def times_each(self, tables: Float32s, which: Int1D) -> Float1D:
        """See `Features`."""
        return _sum("nd,nd->n", self._vectors, tables[:, : self.width].take(which, axis=0))

    def transposed(self, values: Float1D) -> Float1D:
        """See `Features`."""
        return _sum("nd,n->d", self._vectors, values)


class WithColumns:
    """Features with a few more, `(n, e)`."""

    def __init__(self, features: Features, columns: Float2D) -> None:
        self._features, self._columns = features, VectorFeatures(columns)
        self._split = features.width
        self.width = features.width + columns.shape[1]

    def __len__(self) -> int:
        return len(self._columns)

    def times(self, weights: Float1D) -> Float1D:
        """See `Features`."""
        first, more = weights[: self._split], weights[self._split :]
        return self._features.times(first) + self._columns.times(more)

    def times_each(self, tables: Float32s, which: Int1D) -> Float1D:
        """See `Features`."""
        more = self._columns.times_each(tables[:, self._split :], which)
        return self._features.times_each(tables, which) + more

    def transposed(self, values: Float1D) -> Float1D:
        """See `Features`."""
        first, more = self._features.transposed(values), self._columns.transposed(values)
        return np.concatenate([first, more])


class Loss(Protocol):
    """A convex loss of each row's prediction z, weighted."""

    def slope(self, z: Float1D) -> Float1D:
        """First derivatives by each row's z."""
        ...

    def curvature(self, z: Float1D) -> Float1D:
        """Second derivatives."""
        ...


@dataclass(frozen=True)
class Logistic:
    """weight · log(1 + e^(∓z)): how badly z foretells which of two classes a row is of.

    Attributes:
        positive: bool `(n,)`: the class.
        weight: float64 `(n,)`, 0 for a row that does not count.
    """

    positive: Bool1D
    weight: Float1D

    def slope(self, z: Float1D) -> Float1D:
        """See `Loss`."""
        return self.weight * (_sigmoid(z) - self.positive)

    def curvature(self, z: Float1D) -> Float1D:
        """See `Loss`."""
        return self.weight * _sigmoid(z) * _sigmoid(-z)


@dataclass(frozen=True)
class Squared:
    """weight · (z - value)² / 2.

    Attributes:
        value: float64 `(n,)`: what is to be foretold.
        weight: float64 `(n,)`, 0 for a row that does not count.
    """

    value: Float1D
    weight: Float1D

    def slope(self, z: Float1D) -> Float1D:
        """See `Loss`."""
        return self.weight * (z - self.value)

    def curvature(self, z: Float1D) -> Float1D:
        """See `Loss`."""
        del z
        return self.weight


@dataclass(frozen=True, slots=True)
class Linear:
    """A fitted model: z = features · weights + intercept.

    Attributes:
        weights: float64 `(width,)`.
        intercept: Not penalised.
        steps: Of the minimiser.
        converged: Whether it came as near to the minimum as was asked.
    """

    weights: Float1D
    intercept: float
    steps: int
    converged: bool


def fit(features: Features, loss: Loss, *, l2: float) -> Linear:
    """The minimum of Σ loss + l2/2 · ‖weights‖².

    Args:
        features: `(n, width)`.
        loss: Of the rows; some row must count.
        l2: Strength of the penalty, above 0.

    **Source:** L-BFGS (Nocedal 1980), with a line search by Newton's method: a prediction is linear
    in the step, so the search needs no further pass over the features.
    **Cost:** a step takes one pass over the features and one over their transpose; some tens of
    steps.
    """
    point = np.zeros(features.width + 1)
    z = np.zeros(len(features))
    gradient = _gradient(features, loss, z, point, l2)
    pairs: deque[tuple[Float1D, Float1D, float]] = deque(maxlen=_MEMORY)
    for step in range(_STEPS):
        length = max(float(np.sqrt(_dot(point[:-1], point[:-1]))), 1.0)
        if float(np.sqrt(_dot(gradient, gradient))) <= _TOLERANCE * l2 * length:
            return Linear(point[:-1], float(point[-1]), step, converged=True)
        way = -_preconditioned(gradient, pairs)
        moved = features.times(way[:-1]) + way[-1]
        far = _along(loss, z, moved, point[:-1], way[:-1], l2)
        if far == 0:
            return Linear(point[:-1], float(point[-1]), step, converged=False)
        change = far * way
        point = point + change
        z = z + far * moved
        before, gradient = gradient, _gradient(features, loss, z, point, l2)
        turned = gradient - before
        bend = _dot(change, turned)
        if bend > 0:
            pairs.append((change, turned, bend))
    return Linear(point[:-1], float(point[-1]), _STEPS, converged=False)


def _gradient(features: Features, loss: Loss, z: Float1D, point: Float1D, l2: float) -> Float1D:
    slope = loss.slope(z)
    gradient = np.empty(len(point))
    gradient[:-1] = features.transposed(slope) + l2 * point[:-1]
    gradient[-1] = slope.sum()
    return gradient


def _preconditioned(gradient: Float1D, pairs: deque[tuple[Float1D, Float1D, float]]) -> Float1D:
    """The gradient times what is known of the inverse curvature: the two loops of L-BFGS."""
    out = gradient.copy()
    shares = []
    for change, turned, bend in reversed(pairs):
        share = _dot(change, out) / bend
        out -= share * turned
        shares.append(share)
    if pairs:
        _, turned, bend = pairs[-1]
        out *= bend / _dot(turned, turned)
    for (change, turned, bend), share in zip(pairs, reversed(shares), strict=True):
        out += (share - _dot(turned, out) / bend) * change
    return out


def _along(
    loss: Loss, z: Float1D, moved: Float1D, weights: Float1D, way: Float1D, l2: float
) -> float:
    """How far to go: where the slope along the line is next to nothing. 0 where it does not fall.

    The function is convex along the line; Newton's steps are held between the ends known.
    """
    bent, tilted = l2 * _dot(way, way), l2 * _dot(weights, way)

    def slope(t: float) -> float:
        return _dot(loss.slope(z + t * moved), moved) + tilted + t * bent

    first = slope(0.0)
    if not first < 0:
        return 0.0
    low, high, t = 0.0, np.inf, 0.0
    found = first
    for _ in range(_SEARCHES):
        curvature = _dot(loss.curvature(z + t * moved), moved * moved) + bent
        following = t - found / curvature
        if not low < following < high:
            following = (low + high) / 2 if np.isfinite(high) else 2 * low + 1
        t = following
        found = slope(t)
        if abs(found) <= -_EXACT * first:
            break
        low, high = (t, high) if found < 0 else (low, t)
    return t


def _sigmoid(z: Float1D) -> Float1D:
    """1 / (1 + e^-z), without overflow."""
    small = np.exp(-np.abs(z))
    out: Float1D = np.where(z >= 0, 1.0, small) / (1 + small)
    return out


def _dot(a: Float1D, b: Float1D) -> float:
    return float(_sum("n,n->", a, b))


def _sum(subscripts: str, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Float1D:
    """Sums of products in numpy's own loops: those of BLAS change with its number of threads."""
    out: Float1D = np.einsum(subscripts, a, b, optimize=False)
    return out
