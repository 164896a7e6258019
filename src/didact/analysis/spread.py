"""How far equal trainings come apart: the variance of units within a set, pooled over sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from didact.analysis.arms import Arm, grouped_means
from didact.core.arrays import Float1D
from didact.evaluation.student import f_tail

UNLIKE: Final = 0.05  # a set whose spread is this unlikely to be that of the others has its own


@dataclass(frozen=True, slots=True)
class Spread:
    """A variance and how well it is known.

    Attributes:
        variance: Of one unit about the mean of its set, in the metric's unit squared.
        df: Degrees of freedom, above 0.
    """

    variance: float
    df: float


def squares(values: Float1D) -> tuple[float, int]:
    """Sum of squares about the mean and its degrees of freedom; exactly 0 for equal values."""
    if np.ptp(values) == 0:
        return 0.0, len(values) - 1
    return float(((values - values.mean()) ** 2).sum()), len(values) - 1


def pooled(parts: Sequence[tuple[float, int]]) -> Spread | None:
    """One variance of several sums of squares; None without a degree of freedom."""
    df = sum(part[1] for part in parts)
    return Spread(sum(part[0] for part in parts) / df, df) if df else None


def run_sd(arms: Sequence[Arm]) -> float | None:
    """Pooled SD of runs within a set; None when no set has two runs."""
    spread = pooled([squares(arm.values) for arm in arms])
    return math.sqrt(spread.variance) if spread else None


def set_sd(arms: Sequence[Arm]) -> float:
    """SD of the sets' means, n − 1 in the denominator, the noise in the means included."""
    means = np.array([arm.mean for arm in arms])
    return 0.0 if np.ptp(means) == 0 else float(means.std(ddof=1))


def spreads(arms: Sequence[Arm]) -> tuple[dict[str, Spread], tuple[str, ...]]:
    """The variance of a unit of each set, and what was decided.

    Runs of one set of rows and draws of rows vary by different amounts, so each kind is pooled over
    the sets of its kind; what runs vary by within a draw counts among the runs. A set of one unit
    takes the variance of its kind, or of the other where nothing is known of its own. A set
    whose spread is far from that of its kind, by an F test at `UNLIKE` over the number of sets,
    has its own.

    Args:
        arms: The sets.

    Returns:
        Label of the set → spread, the very same object for sets that share one; empty when no set
        has two units. And notes.

    **Source:** pooling as in the analysis of variance; the F test of two variances.
    **Cost:** O(runs).
    """
    own = {arm.set: squares(arm.units) for arm in arms}
    inside = [_within_draws(arm) for arm in arms if arm.draws]
    found: dict[str, Spread] = {}
    shared: list[Spread | None] = []
    notes: list[str] = []
    for kind in (False, True):
        alike = [arm.set for arm in arms if arm.draws == kind]
        others = [] if kind else inside
        while label := _unlike(alike, own, others, len(arms)):
            alike.remove(label)
            alone, rest = pooled([own[label]]), pooled([own[a] for a in alike] + others)
            if alone and rest:  # as `_unlike` has seen
                found[label] = alone
                notes.append(
                    f"Runs of {label!r} vary by {math.sqrt(alone.variance):.3g} (SD) and those of "
                    f"other sets by {math.sqrt(rest.variance):.3g}: its spread is taken by itself."
                )
        shared.append(pooled([own[a] for a in alike] + others))
    for arm in arms:
        spread = found.get(arm.set) or shared[arm.draws] or shared[not arm.draws]
        if spread:
            found[arm.set] = spread
    return found, tuple(notes)


def _within_draws(arm: Arm) -> tuple[float, int]:
    """Squares of runs about the mean of their draw."""
    about = arm.values - grouped_means(arm.values, arm.unit_of)[arm.unit_of]
    parts = [squares(about[arm.unit_of == g]) for g in range(int(arm.unit_of.max()) + 1)]
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def _unlike(
    alike: Sequence[str],
    own: Mapping[str, tuple[float, int]],
    others: Sequence[tuple[float, int]],
    sets: int,
) -> str:
    """The set whose spread is farthest from that of the rest, if it is too far; else nothing."""
    tails: dict[str, float] = {}
    for label in alike:
        mine = pooled([own[label]])
        rest = pooled([*(own[other] for other in alike if other != label), *others])
        # equal values may be rounded ones: they are no proof that nothing varies
        if mine and rest and mine.variance and rest.variance:
            ratio = mine.variance / rest.variance
            wilder, calmer = f_tail(ratio, mine.df, rest.df), f_tail(1 / ratio, rest.df, mine.df)
            tails[label] = 2 * min(wilder, calmer)
    label = min(tails, key=tails.__getitem__, default="")
    return label if label and tails[label] < UNLIKE / sets else ""


def by_spread(weights: Mapping[str, float], found: Mapping[str, Spread]) -> list[Spread]:
    """Variance of a weighted sum of sets: each spread with the weights of those that share it."""
    parts: dict[int, tuple[Spread, float]] = {}
    for label, weight in weights.items():
        spread = found[label]
        before = parts.get(id(spread), (spread, 0.0))[1]
        parts[id(spread)] = (spread, before + weight)
    return [Spread(spread.variance * weight, spread.df) for spread, weight in parts.values()]
