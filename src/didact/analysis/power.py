"""What so many runs can show: the smallest difference detectable, the seeds that one needs."""

from __future__ import annotations

import math
from typing import Final

from didact.analysis.intervals import LEVEL
from didact.analysis.spread import Spread
from didact.evaluation.student import t_quantile

POWER: Final = 0.8
MOST_SEEDS: Final = 10_000  # nobody trains more; what needs more is told to be out of reach


def power_constant(comparisons: int = 1, df: float = math.inf) -> float:
    """How many standard errors a difference must have to be found with `POWER` at `LEVEL`.

    2.8 for one comparison and 3.65 for the first of ten by Holm's test, with the normal
    distribution; more where the standard error is of few runs: 3.7 and 6.5 with four degrees of
    freedom.

    Args:
        comparisons: Number of pairs that are compared, 1 or more.
        df: Degrees of freedom of the standard error.
    """
    return t_quantile(1 - LEVEL / 2 / comparisons, df) + t_quantile(POWER, df)


def detectable(sd: float, runs: int, *, comparisons: int = 1, df: float = math.inf) -> float:
    """The smallest difference of two sets that is found with 80 % power at 5 %.

    Args:
        sd: SD of runs within a set, in the metric's unit.
        runs: Number of runs of each set.
        comparisons: As in `power_constant`.
        df: As in `power_constant`.

    **Source:** the two-sample formula, constant · √2 · SD ÷ √m; Holm 1979 for several comparisons.
    """
    return power_constant(comparisons, df) * sd * math.sqrt(2 / runs)


def seeds_needed(
    wanted: float, sd: float, *, sets: int = 2, comparisons: int = 1, sampled: Spread | None = None
) -> int | None:
    """Runs of each set with which a difference is found with 80 % power at 5 %.

    Args:
        wanted: The difference, in the metric's unit, above 0.
        sd: SD of runs within a set.
        sets: Number of sets whose runs tell of the spread.
        comparisons: As in `power_constant`.
        sampled: What the held-out samples add to the variance of a difference however many runs
            there are, of `intervals.sample_spread`.

    Returns:
        2 or more; None where more than `MOST_SEEDS` would be needed, or no number would do
        because there are too few samples.

    **Cost:** some tens of quantiles.
    """

    def enough(runs: int) -> bool:
        parts = [Spread(2 * sd**2 / runs, sets * (runs - 1))] + ([sampled] if sampled else [])
        variance = sum(part.variance for part in parts)
        if variance == 0:
            return True
        df = variance**2 / sum(part.variance**2 / part.df for part in parts)
        return power_constant(comparisons, df) * math.sqrt(variance) <= wanted

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # the number sought is above low and at most high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
