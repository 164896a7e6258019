"""Least squares of z = A · e^(−λc), for many data sets of one shape at once.

`c` is `(methods, points)`; `z` and the weights `w` are `(sets, methods, points)`, where a weight of
0 leaves a point out. With its λ known, A is linear and has a closed form (variable projection,
Golub and Pereyra 1973), so a curve of its own is one search over λ: a grid of `GRID` values finds
the valley, bisection of the slope its bottom. With one A for all methods of a set, the grid runs
over A as well and Newton's method with damping finishes; its matrix is an arrow, since two methods
share nothing but A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D, Float2D

Floats: TypeAlias = npt.NDArray[np.float64]

GRID: Final = 120  # values of λ; neighbors differ by 14 % over the seven decades of the default
_AMPLITUDES: Final = 36
_FACTORS: Final = np.geomspace(0.3, 1e5, _AMPLITUDES)  # of A over the largest z
_FEW: Final = 100  # sets, above which only the lowest valley of the grid is followed
_BISECTIONS: Final = 60
_STEPS: Final = 100
_LEAST, _MOST = 1e-9, 1e6  # of A over the largest z
_STIFFEST: Final = 1e12  # damping at which no step is left to be taken


@dataclass(frozen=True, slots=True)
class Box:
    """What λ and A may be; A is 0 at least.

    Attributes:
        rate_low: Smallest λ, 0 or more.
        rate_high: Largest λ, finite.
        amplitude_high: Largest A; infinite where nothing bounds it but the data.
    """

    rate_low: float
    rate_high: float
    amplitude_high: float

    def rates(self, c: Float2D) -> Float1D:
        """The grid: the lower bound, then geometric from where no point tells the rate from 0."""
        start = max(self.rate_low, 1e-3 / max(float(c.max(initial=0.0)), 1e-12))
        if start >= self.rate_high:
            return np.linspace(self.rate_low, self.rate_high, GRID)
        return np.unique([self.rate_low, *np.geomspace(start, self.rate_high, GRID)])

    def largest(self, scale: Floats) -> Floats:
        """The largest A for values of z as large as `scale`.

        An A of a million times that tells only that no point lies near c = 0: it is not sought on.
        """
        largest: Floats = np.minimum(self.amplitude_high, _MOST * scale)
        return largest


def separate(c: Float2D, z: Floats, w: Floats, box: Box) -> tuple[Floats, Floats]:
    """A and λ of every method by itself, both `(sets, methods)`.

    **Cost:** O(sets · methods · points · (`GRID` + 60)).
    """
    rates = box.rates(c)
    e = np.exp(-rates * c[:, :, None])
    ze, ee = _sums(w * z, e), _sums(w, e**2)
    high = box.largest(np.max(np.abs(z) * (w > 0), axis=2))
    a = np.clip(_ratio(ze, ee), 0, high[:, :, None])

    def amplitude(e: Floats) -> Floats:
        best = _ratio((w * z * e).sum(axis=2), (w * e**2).sum(axis=2))
        return np.asarray(np.clip(best, 0, high))

    def slope(rate: Floats) -> Floats:  # A moves with λ, but there the squares do not change
        e = np.exp(-rate[:, :, None] * c)
        fitted = amplitude(e)[:, :, None] * e
        return np.asarray(((z - fitted) * w * fitted * c).sum(axis=2))

    rate = _valley(a * (a * ee - 2 * ze), rates, slope)
    return amplitude(np.exp(-rate[:, :, None] * c)), rate


def with_amplitude(c: Float2D, z: Floats, w: Floats, a: Float1D, box: Box) -> Floats:
    """λ of every method `(sets, methods)` where A is known, `(sets,)`.

    **Cost:** as `separate`.
    """
    rates = box.rates(c)
    e = np.exp(-rates * c[:, :, None])
    a_ = a[:, None, None]
    left = a_ * (a_ * _sums(w, e**2) - 2 * _sums(w * z, e))

    def slope(rate: Floats) -> Floats:
        fitted = a_ * np.exp(-rate[:, :, None] * c)
        return np.asarray(((z - fitted) * w * fitted * c).sum(axis=2))

    return _valley(left, rates, slope)


def together(c: Float2D, z: Floats, w: Floats, box: Box) -> tuple[Float1D, Floats]:
    """One A of a set `(sets,)` and λ of every method `(sets, methods)`.

    **Cost:** O(sets · methods · (`GRID` · (points + 36) + some tens of Newton steps · points)).
    """
    rates = box.rates(c)[::2]  # close enough for Newton's method to go on from
    e = np.exp(-rates * c[:, :, None])
    ze, ee = 2 * _sums(w * z, e), _sums(w, e**2)
    scale = np.max(np.abs(z) * (w > 0), axis=(1, 2))
    high = box.largest(scale)
    # a method's own A, too: a valley where it fits closely can be narrower than the grid
    tried = np.minimum([*(_FACTORS[:, None] * scale), *separate(c, z, w, box)[0].T], high)
    squares = np.empty(tried.shape)
    rate = np.empty((*tried.shape, z.shape[1]))
    for i, a in enumerate(tried[:, :, None, None]):
        left = a * (a * ee - ze)
        at = left.argmin(axis=2)
        rate[i] = rates[at]
        squares[i] = np.take_along_axis(left, at[:, :, None], axis=2).sum(axis=(1, 2))
    if len(z) > _FEW:
        valley, of = squares.argmin(axis=0), np.arange(len(z))
    else:  # every valley over A is followed to its bottom
        around = np.pad(squares[:_AMPLITUDES], ((1, 1), (0, 0)), constant_values=np.inf)
        low = (squares[:_AMPLITUDES] < around[:-2]) & (squares[:_AMPLITUDES] <= around[2:])
        valley, of = np.nonzero([*low, *np.ones_like(squares[_AMPLITUDES:], np.bool_)])
    log_a, rate = _newton(
        c,
        z[of],
        w[of],
        np.log(np.maximum(tried[valley, of], 1e-300)),
        rate[valley, of],
        np.log(np.maximum([_LEAST * scale[of], high[of]], 1e-300)),
        box,
    )
    missed = z[of] - np.exp(log_a[:, None, None] - rate[:, :, None] * c)
    order = np.lexsort(((w[of] * missed**2).sum(axis=(1, 2)), of))
    lowest = order[np.flatnonzero(np.diff(of[order], prepend=-1))]
    return np.where(scale > 0, np.exp(log_a[lowest]), 0.0), rate[lowest]


def _newton(
    c: Float2D, z: Floats, w: Floats, log_a: Float1D, rate: Floats, bounds: Floats, box: Box
) -> tuple[Float1D, Floats]:
    """Newton's method on ln A and all λ of each set, damped after Levenberg and Marquardt.

    Of the logarithm, since A and λ of points far from c = 0 move together along a straight line.
    """

    def fitted_at(log_a: Float1D, rate: Floats) -> Floats:
        return np.asarray(np.exp(log_a[:, None, None] - rate[:, :, None] * c))

    fitted = fitted_at(log_a, rate)
    now = (w * (z - fitted) ** 2).sum(axis=(1, 2))
    damping = np.full(len(log_a), 1e-3)
    for _ in range(_STEPS):
        missed = w * (z - fitted) * fitted
        slope_a, slope_r = -missed.sum(axis=(1, 2)), (missed * c).sum(axis=2)
        a_held = _held(slope_a, log_a, bounds[0], bounds[1])
        r_held = _held(slope_r, rate, box.rate_low, box.rate_high)
        # Gauss and Newton's matrix, and the curvature that it leaves out while the sum is positive
        square = w * fitted**2
        curved = square - missed
        gauss = (square * c**2).sum(axis=2)
        whole = (curved * c**2).sum(axis=2)
        newton = ((whole > 0) | r_held).all(axis=1)[:, None]
        rr = np.where(newton & (whole > 0), whole, gauss) + damping[:, None] * gauss + 1e-300
        ar = -np.where(newton, (curved * c).sum(axis=2), (square * c).sum(axis=2))
        ar, slope_r = np.where(r_held, 0.0, ar), np.where(r_held, 0.0, slope_r)
        aa = square.sum(axis=(1, 2))
        core = np.where(newton[:, 0], curved.sum(axis=(1, 2)), aa) + damping * aa
        core -= (ar**2 / rr).sum(axis=1)
        core = np.where(core > 1e-12 * aa, core, aa * (1 + damping))
        step_a = -_ratio(slope_a - (ar * slope_r / rr).sum(axis=1), core)
        step_a = np.where(a_held, 0.0, np.clip(step_a, -1, 1))
        step_r = -(slope_r + ar * step_a[:, None]) / rr
        new_a = np.clip(log_a + step_a, bounds[0], bounds[1])
        new_rate = np.clip(rate + step_r, box.rate_low, box.rate_high)
        new_fitted = fitted_at(new_a, new_rate)
        after = (w * (z - new_fitted) ** 2).sum(axis=(1, 2))
        better = after <= now
        apart = np.abs(new_rate - rate) / (np.abs(rate) + 1e-12 * box.rate_high)
        moved = np.maximum(np.abs(new_a - log_a), apart.max(axis=1))
        log_a, now = np.where(better, new_a, log_a), np.where(better, after, now)
        rate = np.where(better[:, None], new_rate, rate)
        fitted = np.where(better[:, None, None], new_fitted, fitted)
        damping = np.where(better, damping / 10, damping * 10)
        if ((better & (moved < 1e-12)) | (damping > _STIFFEST)).all():
            break
    return log_a, rate


def _held(slope: Floats, at: Floats, low: Any, high: Any) -> npt.NDArray[np.bool_]:
    """Where a bound keeps a parameter from going on."""
    held: npt.NDArray[np.bool_] = ((at <= low) & (slope >= 0)) | ((at >= high) & (slope <= 0))
    return held


def _valley(left: Floats, rates: Float1D, slope: Any) -> Floats:
    """λ of least squares: around the lowest value on the grid, where the slope changes its sign.

    Args:
        left: Squares on the grid, `(sets, methods, GRID)`.
        rates: The grid.
        slope: Half the derivative of the squares by λ, of λ `(sets, methods)`.
    """
    at = left.argmin(axis=2)
    lowest = (at == 0) & (slope(np.full(at.shape, rates[0])) >= 0)
    low = rates[np.maximum(at - 1, 0)]
    high = np.where(lowest, rates[0], rates[np.minimum(at + 1, len(rates) - 1)])
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        falls = slope(middle) < 0
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    ends = high >= rates[-1] * (1 - 1e-12)
    return np.asarray(np.where(ends, rates[-1], (low + high) / 2))


def _sums(weighted: Floats, e: Floats) -> Floats:
    """Sums over points at every λ: `(sets, methods, points)` times `(methods, points, λ)`."""
    summed: Floats = np.matmul(weighted.transpose(1, 0, 2), e).transpose(1, 0, 2)
    return summed


def _ratio(a: Floats, b: Floats) -> Floats:
    """A ÷ b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)
