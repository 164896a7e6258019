"""How surprising a number is: z of every kind of flag, and the z from which one is raised.

A z here is what a normal number would have to be for the same tail: of few versions it comes from
Student's t, of counts from an exact binomial tail, so that one threshold means one rate of false
alarms for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from didact.analysis.risk.flags import KINDS
from didact.core.arrays import Float1D
from didact.evaluation.student import incomplete_beta, t_tail

LEVEL: Final = 0.05  # how often a clean version is flagged at all, over every kind together
DRAWS: Final = 20
ENOUGH: Final = 5  # earlier versions from which on they are the measure
_LEAST_TAIL: Final = 1e-300
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Odds:
    """What was expected of a number, and how far off it is.

    Attributes:
        expected: The expectation, in the number's unit.
        sd: Standard error of the difference, likewise; 0 where nothing varies.
        z: The difference in standard errors, as of a normal number.
    """

    expected: float
    sd: float
    z: float


def limit(comparisons: int = 1, *, sides: int = 1, looks: int = 1) -> float:
    """The z from which a number is flagged.

    Bonferroni: `LEVEL` is divided by the number of kinds, and within a kind by its comparisons
    (sources, steps, joints), its sides and its looks; so a clean version is flagged by any of them
    with probability `LEVEL` at most, whatever depends on what.

    Args:
        comparisons: Numbers of the kind that are judged, ≥ 1.
        sides: 2 where both higher and lower are flagged.
        looks: How often they are judged while they grow.
    """
    share = LEVEL / len(KINDS) / max(comparisons, 1) / sides / looks
    return -_NORMAL.inv_cdf(max(share, _LEAST_TAIL))


def as_normal(t: float, df: float) -> float:
    """The normal z with the tail of a `t` of `df` degrees of freedom; at most 37."""
    tail = max(t_tail(abs(t), df), _LEAST_TAIL)
    return math.copysign(-_NORMAL.inv_cdf(tail), t)


def from_earlier(seen: float, earlier: Sequence[float], *, least_sd: float = 0.0) -> Odds:
    """A number against those of earlier versions, of which it should be one more.

    Args:
        seen: The number.
        earlier: Theirs, two or more.
        least_sd: What is known to vary between versions at least.
    """
    values = np.asarray(earlier)
    sd = max(float(values.std(ddof=1)), least_sd) * math.sqrt(1 + 1 / len(values))
    return _odds(seen, float(values.mean()), sd, len(values) - 1)


def from_draws(
    seen: Float1D, previous: Float1D, *, drawn: int, of: int, here: int, share: bool = False
) -> Odds:
    """A number against redraws of the previous version, both known from random parts of each.

    Parts are drawn without replacement: a bootstrap draws rows twice, and copies are what is
    looked for. The mean over parts of m of n rows varies by V = σ²/m · (1 − m/n), which gives σ²
    and with it the error of the difference of two versions, σ²/n + σ²/n'.

    Args:
        seen: The number in `DRAWS` parts of this version, `(DRAWS,)`.
        previous: In as many parts of the previous one.
        drawn: Rows of a part of the previous version, about.
        of: Rows of the previous version.
        here: Rows of this version.
        share: Whether the numbers are shares of rows, which vary as counts do at least.

    **Source:** the delete-d jackknife, Shao and Wu 1989, "A general theory for jackknife variance
    estimation".
    """
    left = max(1 - drawn / of, 1e-9)
    variance, df = float(previous.var(ddof=1)) * drawn / left, len(previous) - 1.0
    if share:
        p = (float(seen.mean()) * here + float(previous.mean()) * of + 1) / (here + of + 2)
        if variance < p * (1 - p):
            variance, df = p * (1 - p), math.inf
    sd = math.sqrt(variance * (1 / of + 1 / here))
    return _odds(float(seen.mean()), float(previous.mean()), sd, df)


def from_counts(seen: int, n: int, previous: int, n_previous: int) -> Odds:
    """A share of rows against that of the previous version: were both draws of one source?

    Of all rows that have the property, those of this version are a binomial number.

    Args:
        seen: Rows of this version that have it.
        n: Rows of this version.
        previous: Rows of the previous version that have it.
        n_previous: Rows of the previous version.

    **Source:** the conditional test of two Poisson rates, Przyborowski and Wilenski 1940; the tail
    counts half of what was seen (mid-p).
    """
    share, total = n / (n + n_previous), seen + previous
    tail = (_upper(seen, total, share) + _upper(seen + 1, total, share)) / 2
    z = -_NORMAL.inv_cdf(min(max(tail, _LEAST_TAIL), 1 - 1e-16))
    expected = previous / n_previous
    off = seen / n - expected
    return Odds(expected, abs(off / z) if z else 0.0, z)


def _upper(at_least: int, total: int, share: float) -> float:
    """P(a binomial number of `total` trials is `at_least` or more)."""
    if at_least <= 0:
        return 1.0
    return 0.0 if at_least > total else incomplete_beta(share, at_least, total - at_least + 1)


def from_means(seen: float, expected: float, sd: float, df: float) -> Odds:
    """A mean against another, with the standard error of their difference."""
    return _odds(seen, expected, sd, df)


def _odds(seen: float, expected: float, sd: float, df: float) -> Odds:
    off = seen - expected
    if sd == 0:
        return Odds(expected, 0.0, math.copysign(as_normal(math.inf, df), off) if off else 0.0)
    return Odds(expected, sd, as_normal(off / sd, df))
