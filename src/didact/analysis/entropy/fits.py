"""Performance as a function of what is known of sets: fitted, and tried on families left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any, Final, Literal

import numpy as np

from didact.core.arrays import Float1D, Float2D, Int1D

Form = Literal["constant", "linear", "quadratic", "monotone"]
FORMS: Final[tuple[Form, ...]] = ("linear", "quadratic", "monotone")
_SWEEPS: Final = 200  # of the additive monotone fit; two features settle in tens
_SETTLED: Final = 1e-10  # of the spread of y: a sweep that moves no value by more is the last


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fit, which can be asked for sets it has not seen.

    Attributes:
        form: Its form.
        means: Group → mean of each feature, `(k,)`.
        scales: SD of each feature within groups, `(k,)`; 1 where it does not vary.
        intercepts: Group → what is added there.
        weights: Coefficients of the standardised terms, `(terms,)`; of a monotone fit none.
        knots: Of a monotone fit, for each feature its standardised values, ascending, and what they
            add.
    """

    form: Form
    means: dict[int, Float1D]
    scales: Float1D
    intercepts: dict[int, float]
    weights: Float1D = field(default_factory=lambda: np.empty(0))
    knots: tuple[tuple[Float1D, Float1D], ...] = ()

    def __call__(self, x: Float2D, groups: Int1D) -> Float1D:
        """What is expected of sets, `(n,)`; outside of the values seen a monotone fit is flat."""
        z = np.array([(x[i] - self.means[g]) / self.scales for i, g in enumerate(groups.tolist())])
        z = z.reshape(x.shape)
        out = np.array([self.intercepts[g] for g in groups.tolist()])
        if self.form == "monotone":
            for j, (at, value) in enumerate(self.knots):
                out += np.interp(z[:, j], at, value)
            return out
        terms: Float2D = _terms(z, self.form)
        return np.asarray(out + terms @ self.weights)

    def params(self, names: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Its numbers for people and machines, JSON values.

        Args:
            names: What the features are called.
            groups: What the groups are called, by number.
        """
        out: dict[str, Any] = {
            "intercepts": {groups[g]: value for g, value in self.intercepts.items()},
            "scales": dict(zip(names, self.scales.tolist(), strict=True)),
            "means": {
                groups[g]: dict(zip(names, mean.tolist(), strict=True))
                for g, mean in self.means.items()
            },
        }
        if self.form == "monotone":
            out["knots"] = {
                name: [at.tolist(), value.tolist()]
                for name, (at, value) in zip(names, self.knots, strict=True)
            }
        else:
            out["weights"] = dict(
                zip(_term_names(names, self.form), self.weights.tolist(), strict=True)
            )
        return out


def fit(
    form: Form, x: Float2D, y: Float1D, groups: Int1D, directions: Sequence[int] = ()
) -> Fitted:
    """Fit performance by least squares, with an intercept for each group.

    Features are standardised: the mean of their group is taken off, and they are divided by their
    SD within groups. A quadratic has squares and products as well. A monotone fit is a sum of
    step functions of the features, each rising or falling as foretold, by pool-adjacent-violators
    and sweeps over the features.

    Args:
        form: The form; `constant` takes no feature.
        x: Features, `(n, k)`.
        y: Performance, `(n,)`.
        groups: Number of each set's backbone and stage, `(n,)`.
        directions: Of a monotone fit, for each feature 1 where performance rises with it, -1
            where it falls.

    **Source:** Ayer et al. 1955, "An empirical distribution function for sampling with incomplete
    information"; several features as by Bacchetti 1989, "Additive isotonic models".
    **Cost:** O(n · terms²); a monotone fit some tens of sweeps of O(n · k).
    """
    known = np.unique(groups).tolist()
    means = {g: x[groups == g].mean(axis=0) for g in known}
    inside = x - np.array([means[g] for g in groups.tolist()]).reshape(x.shape)
    scales = np.sqrt((inside**2).mean(axis=0))
    scales[scales <= 1e-12 * np.maximum(np.abs(x).max(axis=0, initial=0), 1e-300)] = 1.0
    z = inside / scales
    if form == "monotone":
        levels = {g: float(y[groups == g].mean()) for g in known}
        left = y - np.array([levels[g] for g in groups.tolist()])
        return Fitted(form, means, scales, levels, knots=_monotone(z, left, directions))
    terms: Float2D = _terms(z, form)
    dummies = (groups[:, None] == np.array(known)).astype(np.float64)
    found = np.linalg.lstsq(np.hstack([dummies, terms]), y, rcond=None)[0]
    levels = dict(zip(known, found[: len(known)].tolist(), strict=True))
    return Fitted(form, means, scales, levels, weights=found[len(known) :])


def n_params(form: Form, k: int, groups: int) -> int:
    """Numbers that a fit of k features finds; of a monotone one, what its linear kin does."""
    if form == "constant":
        return groups
    return groups + k + (k * (k + 1) // 2 if form == "quadratic" else 0)


def left_out(
    form: Form,
    x: Float2D,
    y: Float1D,
    groups: Int1D,
    families: Int1D,
    directions: Sequence[int] = (),
) -> Float1D | None:
    """What is expected of each set by a fit that has seen no set of its family, `(n,)`.

    A whole family is left out at a time: its sets are alike, and one of them would tell of the
    others.

    Args:
        form: As in `fit`.
        x: As there.
        y: As there.
        groups: As there.
        families: Number of each set's family, `(n,)`.
        directions: As there.

    Returns:
        NaN where the rest has no set of the group, whose intercept is then not known; None where
        the rest has fewer sets than the fit has numbers, and one.

    **Cost:** a fit for each family.
    """
    out = np.full(len(y), np.nan)
    for family in np.unique(families):
        rest = families != family
        asked = ~rest & np.isin(groups, groups[rest])
        if not asked.any():
            continue
        if rest.sum() <= n_params(form, x.shape[1], len(np.unique(groups[rest]))):
            return None
        found = fit(form, x[rest], y[rest], groups[rest], directions)
        out[asked] = found(x[asked], groups[asked])
    return out


def rmse(y: Float1D, expected: Float1D | None) -> float | None:
    """Root of the mean squared error over the sets that could be asked; None where none could."""
    if expected is None or np.isnan(expected).all():
        return None
    return math.sqrt(float(np.nanmean((y - expected) ** 2)))


def isotonic(y: Float1D, weights: Float1D) -> Float1D:
    """The nearest rising sequence, by weighted least squares; `(n,)`.

    **Source:** pool-adjacent-violators, Ayer et al. 1955. **Cost:** O(n).
    """
    values: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(y.tolist(), weights.tolist(), strict=True):
        values.append(value)
        masses.append(weight)
        counts.append(1)
        while len(values) > 1 and values[-2] > values[-1]:
            last, mass, count = values.pop(), masses.pop(), counts.pop()
            whole = masses[-1] + mass
            values[-1] = (values[-1] * masses[-1] + last * mass) / whole
            masses[-1], counts[-1] = whole, counts[-1] + count
    return np.repeat(values, counts)


def _monotone(
    z: Float2D, y: Float1D, directions: Sequence[int]
) -> tuple[tuple[Float1D, Float1D], ...]:
    n, k = z.shape
    parts = np.zeros((k, n))
    knots: list[tuple[Float1D, Float1D]] = [(np.zeros(1), np.zeros(1))] * k
    spread = float(np.abs(y).max(initial=0))
    for _ in range(_SWEEPS if k > 1 else 1):
        before = parts.copy()
        for j in range(k):
            rest = y - parts.sum(axis=0) + parts[j]
            at, place, counts = np.unique(z[:, j], return_inverse=True, return_counts=True)
            means = np.bincount(place, rest) / counts  # equal values are one knot
            sign = directions[j]
            value = sign * isotonic(sign * means, counts.astype(np.float64))
            parts[j] = value[place]
            knots[j] = (at, value)
        if np.abs(parts - before).max(initial=0) <= _SETTLED * spread:
            break
    return tuple(knots)


def _terms(z: Float2D, form: Form) -> Float2D:
    if form == "constant":
        return np.empty((len(z), 0))
    if form == "linear":
        return z
    pairs = combinations_with_replacement(range(z.shape[1]), 2)
    return np.column_stack([z, *(z[:, a] * z[:, b] for a, b in pairs)])


def _term_names(names: Sequence[str], form: Form) -> list[str]:
    if form != "quadratic":
        return list(names)
    pairs = combinations_with_replacement(names, 2)
    return [*names, *(f"{a}²" if a == b else f"{a}·{b}" for a, b in pairs)]
