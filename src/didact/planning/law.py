"""The performance law: how far a share of a full pass leads, and what a method's ranking adds.

    P(c) = P̄ − (P̄ − P0) · e^(−λ c)

c is *training* compute net of selection, as share of a full pass over the pool; P0 is the value at
c = 0, P̄ the value where training ends, fixed. Two forms are fitted: `own`, as published, with P0
and λ for every method; and `shared`, with one P0 for all, since all methods start from one base
model and end in one set, and λ alone is the method's. Where the base model was measured, P0 is
given.

**Source:** Yin and Rush, "Compute-Constrained Data Selection" (arXiv:2410.16208), who fit to total
compute: then P0 of a method that costs much to select is set by where its curve starts, and often
ends at its bound of 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D, Float2D, frozen
from didact.core.errors import ConfigError, DataError, did_you_mean
from didact.planning.least_squares import Box, separate, together, with_amplitude

Form: TypeAlias = Literal["own", "shared"]

LEAST_POINTS: Final = 4
EARLY: Final = 0.1  # shares of a full pass up to which a forecast is fitted


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Values of one method at several amounts of compute.

    Attributes:
        method: Its name.
        compute: Training compute net of selection, share of a full pass, 0 or more, `(n,)`.
        values: Performance, higher is better, `(n,)`.
        errors: Standard errors of the values over seeds, `(n,)`; None where not known.
    """

    method: str
    compute: Float1D
    values: Float1D
    errors: Float1D | None = None

    def __post_init__(self) -> None:
        for name in ("compute", "values", "errors"):
            given = getattr(self, name)
            if given is None:
                continue
            array = frozen(given, np.float64)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or len(array) != len(self.compute):
                raise DataError(
                    f"{self.method}: {name} has shape {array.shape}, and there are "
                    f"{len(self.compute)} points; give one for every point"
                )
            if not np.isfinite(array).all():
                raise DataError(f"{self.method}: {name} has a number that is not finite; drop it")
        if len(self.compute) and self.compute.min() < 0:
            raise DataError(
                f"{self.method}: compute of {self.compute.min():g} is below 0: selection costs "
                f"more than this point's whole budget; leave the point out"
            )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where fitted parameters may lie.

    Attributes:
        base: Smallest P0; the end is the largest. None bounds it by the data alone.
        rates: Smallest and largest λ, per full pass.
    """

    base: float | None = None
    rates: tuple[float, float] = (0.0, 1e4)


OPEN: Final = Bounds()
AS_PUBLISHED: Final = Bounds(base=0.0)  # the paper's, whose λ has no upper bound


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """The law with its fitted parameters, in the unit of the values ("points").

    Attributes:
        form: `own` or `shared`.
        end: P̄, fixed.
        base: P0 by method; the same for all in `shared`.
        rates: λ by method, per full pass.
        base_given: Whether P0 was measured and not fitted.
        bounds_hit: Parameters that the data do not determine: "less: P0 at 0".
        points: Number of points fitted to.
        gap: The end less the lowest value; what errors are given as a share of.
        rmse: Root mean square of what the fit misses.
        loo: The same for each point by a fit without it; None where too few points are left.
        forward: The same for the points above `EARLY`, by a fit to the others; None where there is
            nothing on one side.
    """

    form: Form
    end: float
    base: Mapping[str, float]
    rates: Mapping[str, float]
    base_given: bool
    bounds_hit: tuple[str, ...]
    points: int
    gap: float
    rmse: float
    loo: float | None
    forward: float | None

    def predict(self, method: str, compute: float | Float1D) -> Float1D:
        """P at shares of a full pass, `(k,)`.

        Raises:
            ConfigError: The method has no curve in this fit.
        """
        if method not in self.rates:
            raise ConfigError(
                f"the performance law was not fitted for {method!r}"
                f"{did_you_mean(method, self.rates)}"
            )
        c = np.atleast_1d(np.asarray(compute, np.float64))
        lost = (self.end - self.base[method]) * np.exp(-self.rates[method] * c)
        return np.asarray(self.end - lost)

    def share(self, points: float | None) -> float | None:
        """An error as a share of the gap; None of None, or where there is no gap."""
        return None if points is None or self.gap <= 0 else points / self.gap

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {
            "base": dict(self.base),
            "rates": dict(self.rates),
            "bounds_hit": list(self.bounds_hit),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LawFit:
        """What `to_json` gave."""
        return cls(**{**found, "bounds_hit": tuple(found["bounds_hit"])})


def fit_own(curves: Sequence[Curve], *, end: float, bounds: Bounds = OPEN) -> LawFit:
    """P0 and λ of every method by itself, as published.

    Args:
        curves: One of each method, four points each at least.
        end: P̄.
        bounds: Where P0 and λ may lie.

    Raises:
        DataError: A curve has under four points, or a method has two curves.

    **Cost:** a millisecond or two, its errors included.
    """
    for curve in curves:
        if len(curve.compute) < LEAST_POINTS:
            raise DataError(
                f"{curve.method}: {len(curve.compute)} points, and P0 and λ need {LEAST_POINTS} at "
                f"least; measure further fractions, or fit the shared form"
            )
    return _fit("own", curves, end=end, base=None, bounds=bounds)


def fit_shared(
    curves: Sequence[Curve], *, end: float, base: float | None = None, bounds: Bounds = OPEN
) -> LawFit:
    """One P0 for all methods, and λ of every method.

    Args:
        curves: One of each method, four points in all and two more than methods at least.
        end: P̄: the value of the full pass.
        base: P0: the value of the base model where it was measured; None fits it.
        bounds: Where P0 and λ may lie.

    Raises:
        DataError: Too few points; a method has two curves; the base is not below the end.

    **Cost:** some milliseconds, its errors included.
    """
    total = sum(len(curve.compute) for curve in curves)
    if total < max(LEAST_POINTS, len(curves) + 2) or not all(len(c.compute) for c in curves):
        raise DataError(
            f"{total} points of {len(curves)} methods, and the law needs {LEAST_POINTS} at least, "
            f"two more than methods, and one of each; measure further fractions"
        )
    if base is not None and base >= end:
        raise DataError(
            f"the base model's {base:g} is not below the full pass's {end:g}: training gains "
            f"nothing, so there is no law to fit; check the metric and its direction"
        )
    return _fit("shared", curves, end=end, base=base, bounds=bounds)


def leave_one_out(
    form: Form,
    curves: Sequence[Curve],
    *,
    end: float,
    base: float | None = None,
    bounds: Bounds = OPEN,
) -> float | None:
    """RMSE over all points, each foretold by a fit without it, in points.

    Returns:
        None where a fit without a point would have fewer points of its method than parameters.

    **Cost:** one batch of as many fits as points.
    """
    data = Table.of(curves, end)
    own = data.used.sum(axis=1)
    if (own - 1 < (2 if form == "own" else 1)).any():
        return None
    method, point = np.nonzero(data.used)
    k = len(method)
    weights = np.broadcast_to(data.used, (k, *data.used.shape)).astype(np.float64)
    weights[np.arange(k), method, point] = 0
    a, rates = solve(form, data, data.z, weights, base, end, bounds)
    at = np.arange(k), method
    missed = a[at] * np.exp(-rates[at] * data.c[method, point]) - data.z[method, point]
    return float(np.sqrt(np.mean(missed**2)))


def forward_error(
    form: Form,
    curves: Sequence[Curve],
    *,
    end: float,
    base: float | None = None,
    bounds: Bounds = OPEN,
    until: float = EARLY,
) -> float | None:
    """RMSE over points above a share of a full pass, foretold by a fit to the others, in points.

    Args:
        form: `own` or `shared`.
        curves: As for the fit.
        end: P̄.
        base: P0 where it was measured.
        bounds: Where P0 and λ may lie.
        until: Largest share that is fitted to. Full passes, at c ≥ 1, are not foretold.

    Returns:
        None where a method has fewer early points than parameters, or there is none to foretell.
    """
    data = Table.of(curves, end)
    early = data.used & (data.c <= until * (1 + 1e-9))
    late = data.used & ~early & (data.c < 1)
    if not late.any() or (early.sum(axis=1) < (2 if form == "own" else 1)).any():
        return None
    a, rates = solve(form, data, data.z, early[None].astype(np.float64), base, end, bounds)
    missed = (a[0, :, None] * np.exp(-rates[0, :, None] * data.c) - data.z)[late]
    return float(np.sqrt(np.mean(missed**2)))


@dataclass(frozen=True, slots=True)
class Table:
    """Curves as one table, short ones filled up with points that are not used.

    Attributes:
        methods: Their names.
        c: Compute, `(methods, points)`.
        z: The end less the values, likewise.
        used: Whether a method has such a point, likewise.
    """

    methods: tuple[str, ...]
    c: Float2D
    z: Float2D
    used: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, curves: Sequence[Curve], end: float) -> Table:
        """The table of some curves that end at P̄.

        Raises:
            DataError: A method has two curves, or the end is not a finite number.
        """
        methods = tuple(curve.method for curve in curves)
        if len(set(methods)) < len(methods):
            twice = next(name for name in methods if methods.count(name) > 1)
            raise DataError(f"{twice!r} has two curves; put the points of a method into one")
        if not np.isfinite(end):
            raise DataError(f"the value at the end is {end}; it must be a finite number")
        shape = (len(curves), max((len(curve.compute) for curve in curves), default=0))
        c, z, used = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.bool_)
        for i, curve in enumerate(curves):
            n = len(curve.compute)
            c[i, :n], z[i, :n], used[i, :n] = curve.compute, end - curve.values, True
        return cls(methods, c, z, used)


def solve(
    form: Form,
    data: Table,
    z: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    base: float | None,
    end: float,
    bounds: Bounds,
    ends: Float1D | float = 0.0,
) -> tuple[Float2D, Float2D]:
    """A = P̄ − P0 and λ, both `(sets, methods)`, of many sets of values at once.

    Args:
        form: `own` or `shared`.
        data: The points.
        z: The end less the values, `(sets, methods, points)`, or the same for all sets.
        weights: Of the points, `(sets, methods, points)`; 0 leaves one out.
        base: P0 where it was measured.
        end: P̄.
        bounds: Where P0 and λ may lie.
        ends: What P̄ of a set is above `end`, `(sets,)`.
    """
    z = np.broadcast_to(z, weights.shape)
    most = np.inf if bounds.base is None else end - bounds.base
    box = Box(*bounds.rates, amplitude_high=most)
    if form == "own":
        return separate(data.c, z, weights, box)
    if base is None:
        a, rates = together(data.c, z, weights, box)
    else:
        a = np.maximum(end - base + np.broadcast_to(ends, len(z)), 0)
        rates = with_amplitude(data.c, z, weights, a, box)
    return np.broadcast_to(a[:, None], rates.shape), rates


def _fit(
    form: Form, curves: Sequence[Curve], *, end: float, base: float | None, bounds: Bounds
) -> LawFit:
    data = Table.of(curves, end)
    a, rates = solve(form, data, data.z, data.used[None].astype(np.float64), base, end, bounds)
    missed = (a[0, :, None] * np.exp(-rates[0, :, None] * data.c) - data.z)[data.used]
    return LawFit(
        form=form,
        end=end,
        base=dict(zip(data.methods, (end - a[0]).tolist(), strict=True)),
        rates=dict(zip(data.methods, rates[0].tolist(), strict=True)),
        base_given=base is not None,
        bounds_hit=_bounds_hit(form, data, a[0], rates[0], base, end, bounds),
        points=int(data.used.sum()),
        gap=float(data.z[data.used].max()),
        rmse=float(np.sqrt(np.mean(missed**2))),
        loo=leave_one_out(form, curves, end=end, base=base, bounds=bounds),
        forward=forward_error(form, curves, end=end, base=base, bounds=bounds),
    )


def _bounds_hit(
    form: Form,
    data: Table,
    a: Float1D,
    rates: Float1D,
    base: float | None,
    end: float,
    bounds: Bounds,
) -> tuple[str, ...]:
    """What the data left at a bound, in words."""
    hit = []
    scale = np.max(np.abs(data.z) * data.used, axis=1)
    if base is None:
        for i, method in enumerate(data.methods if form == "own" else ("",)):
            whose = f"{method}: " if method else ""
            largest = scale[i] if method else scale.max()
            if a[i] <= 2e-9 * largest:
                hit.append(f"{whose}P0 at the end, {end:g}")
            elif bounds.base is not None and end - a[i] <= bounds.base + 1e-9 * abs(end):
                hit.append(f"{whose}P0 at {bounds.base:g}")
            elif a[i] >= 1e3 * largest:
                hit.append(f"{whose}P0 below all bounds: no point lies near c = 0")
    low, high = bounds.rates
    for method, rate in zip(data.methods, rates.tolist(), strict=True):
        at = [bound for bound in (low, high) if abs(rate - bound) <= 1e-9 * high]
        hit += [f"{method}: λ at {bound:g}" for bound in at]
    return tuple(hit)
