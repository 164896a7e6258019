"""Intervals of a set's mean and of the difference of two: runs are the unit, samples inside them.

A value of run r on sample i is μ + a_r + b_i + c_ri: what the training adds, what the sample adds
to all runs alike, and the rest. What is asked is μ over other trainings *and* other samples. With
m runs and n samples the mean's variance is

    Var a / m + Var b / n + Var c / (m n).

The variance between runs, ÷ m, estimates the first and the third term; the variance over samples
of their mean over runs, ÷ n, the second and the third; so the third, from what is left when means
of rows and columns are taken off, is taken off once. In a difference of sets b cancels but for
what the sets do to samples differently. Intervals over samples alone have the second and third
term only: a retraining "differs" from itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from didact.analysis.arms import Arm
from didact.analysis.spread import Spread, by_spread
from didact.core.arrays import Float1D
from didact.evaluation.student import t_quantile, t_tail

LEVEL: Final = 0.05  # 1 − the coverage of intervals, and the size of tests


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: In the metric's unit.
        error: Standard error.
        df: Degrees of freedom of the standard error.
    """

    value: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Where the number is expected with probability 1 − level."""
        reach = t_quantile(1 - level / 2, self.df) * self.error
        return self.value - reach, self.value + reach

    @property
    def p_value(self) -> float:
        """How often a number that is 0 is estimated so far from it, 0 to 1."""
        return min(1.0, 2 * t_tail(abs(self.value) / self.error, self.df))


def mean_estimate(arm: Arm, found: Mapping[str, Spread], rest: float) -> Estimate | None:
    """The mean of a set over trainings and, where they are known, over samples.

    Args:
        arm: The set.
        found: Spread of every set, of `spread.spreads`.
        rest: Variance of what is left in a sample of a unit, of `rest_variance`.

    Returns:
        None where trainings are not known to vary: there is no spread, or it is 0.

    **Source:** variance components of two crossed random effects; degrees of freedom after
    Satterthwaite 1946, "An approximate distribution of estimates of variance components".
    **Cost:** O(units · n).
    """
    return _estimate(arm.mean, [(arm, 1.0)], found, rest)


def difference_estimate(
    a: Arm, b: Arm, found: Mapping[str, Spread], rest: float
) -> Estimate | None:
    """Mean of set `a` less that of `b`, paired by sample; see `mean_estimate`."""
    return _estimate(a.mean - b.mean, [(a, 1.0), (b, -1.0)], found, rest)


def run_error(arm: Arm, found: Mapping[str, Spread]) -> float | None:
    """Standard error of the mean of a set over trainings alone, on the samples that there are.

    What the samples add is the same for all sets, and cancels in every difference of two.

    Returns:
        None where trainings are not known to vary, as for `mean_estimate`.
    """
    if arm.set not in found:
        return None
    parts = by_spread({arm.set: 1 / len(arm.units)}, found)
    return math.sqrt(sum(part.variance for part in parts)) or None


def _estimate(
    value: float, signed: Sequence[tuple[Arm, float]], found: Mapping[str, Spread], rest: float
) -> Estimate | None:
    if any(arm.set not in found for arm, _ in signed):
        return None
    weights = {arm.set: 1 / len(arm.units) for arm, _ in signed}
    parts = by_spread(weights, found)
    between = sum(part.variance for part in parts)
    if between == 0:
        return None
    sampled = sample_spread(signed, rest)
    parts += [sampled] if sampled else []
    variance = sum(part.variance for part in parts)
    df = variance**2 / sum(part.variance**2 / part.df for part in parts)
    return Estimate(value, math.sqrt(variance), df)


def sample_spread(signed: Sequence[tuple[Arm, float]], rest: float) -> Spread | None:
    """What held-out samples add to the variance of a sum of sets, beyond what runs show.

    Args:
        signed: Sets, each with its weight.
        rest: As in `mean_estimate`.

    Returns:
        None where samples are not known, or add nothing.
    """
    moved: Float1D | None = None
    third = 0.0
    for arm, sign in signed:
        if arm.influences is None:
            return None
        its = sign * arm.influences.mean(axis=0)
        moved = its if moved is None else moved + its
        third += sign**2 * rest / len(arm.units)
    if moved is None or len(moved) < 2:
        return None
    variance = (float(moved.var(ddof=1)) - third) / len(moved)
    return Spread(variance, heavy_tailed_df(moved)) if variance > 0 else None


def heavy_tailed_df(values: Float1D) -> float:
    """Degrees of freedom of the variance of values with heavy tails: 2n ÷ (kurtosis − 1).

    A few long samples that weigh much make a variance less certain than n normal values would, with
    their kurtosis of 3 and n degrees of freedom. 1 at least and n − 1 at most.

    Args:
        values: Not all equal, `(n,)`, n of 2 or more.

    **Source:** the variance of a sample variance, Box 1953, "Non-normality and tests on variances",
    Biometrika 40, matched to that of a χ² as by Satterthwaite.
    """
    squared = (values - values.mean()) ** 2
    kurtosis = float((squared**2).mean() / squared.mean() ** 2)
    return min(max(2 * len(values) / max(kurtosis - 1, 1e-9), 1.0), len(values) - 1.0)


def rest_variance(arms: Sequence[Arm]) -> float:
    """Variance of what neither the unit nor the sample explains, pooled over sets; 0 if unknown."""
    total, df = 0.0, 0
    for arm in arms:
        if arm.influences is not None and len(arm.influences) > 1 and arm.influences.shape[1] > 1:
            left = arm.influences - arm.influences.mean(axis=0)
            left -= left.mean(axis=1, keepdims=True)
            total += float((left**2).sum())
            df += (left.shape[0] - 1) * (left.shape[1] - 1)
    return total / df if df else 0.0


def holm_levels(p_values: Sequence[float], level: float = LEVEL) -> tuple[list[float], list[bool]]:
    """The level that each of several tests is held to, and whether it passes, in their order.

    The smallest p-value is held to level ÷ k, the next to level ÷ (k − 1), and so on; from the
    first that fails on, all fail, held to the level of that one. So an interval at its
    level holds 0 exactly where the test fails.

    **Source:** Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    k = len(p_values)
    levels, passed = [0.0] * k, [False] * k
    held, failed = 0.0, False
    for step, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        held = held if failed else level / (k - step)
        failed = failed or p_values[i] > held
        levels[i], passed[i] = held, not failed
    return levels, passed
