"""Rank statistics with their intervals, and z-scores, of one sequence of numbers or of two."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D, Int1D

_NORMAL: Final = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
# What is foretold of each row from all others holds every pair of rows twice: where nothing is to
# be learned the variance is twice that of independent pairs.
CROSS_FITTED: Final = 2.0


def best_first(utility: Float1D) -> Int1D:
    """Row indices from largest utility to smallest; ties keep row order. No NaN (by `Scores`).

    The same permutation as a stable argsort of `-utility`, in a third of its time: numpy's
    vectorised sort is not stable, so rows of equal utility are put back in row order afterwards.

    **Cost:** O(n log n); 16 bytes a row beside `utility`, the result's 8 among them.
    """
    order = np.argsort(-utility)
    ranked = utility[order]
    new_value = ranked[1:] != ranked[:-1]
    del ranked
    if new_value.all():
        return order
    # The rows of each run of equal values, in row order: sorted as run · n + row, in place.
    runs = np.zeros(len(order), np.int64)
    np.cumsum(new_value, out=runs[1:])
    runs *= len(order)
    runs += order
    runs.sort()
    runs %= len(order)
    return runs


def mean_ranks(values: Float1D) -> Float1D:
    """Ranks from 0 (smallest), float64 `(n,)`; equal values get the mean of theirs. No NaN.

    **Cost:** O(n log n).
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float1D = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


def scaled_ranks(utility: Float1D) -> Float1D:
    """Ranks from 0 (worst) to 1 (best); ties get their mean rank, a single row 0.5."""
    if len(utility) < 2:
        return np.full(len(utility), 0.5)
    return mean_ranks(utility) / (len(utility) - 1)


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Correlation of ranks, -1 to 1, ties with their mean rank; NaN where one side is constant.

    Args:
        a: Numbers, `(n,)`.
        b: As many others; n of 1 or more.
    """
    ranks = [mean_ranks(np.asarray(x, np.float64)) for x in (a, b)]
    if any(np.ptp(r) == 0 for r in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def zscore(values: Float1D, *, clip: float | None = None) -> Float1D:
    """`(values - mean) / std` with the population's std; zeros when all values are equal.

    Args:
        values: Finite, `(n,)`.
        clip: Cut to ±clip afterwards; None leaves the tails.

    **Source:** DELT, `prepare_data_scorer_train_data.py` (population std, clip at ±3).
    **Cost:** O(n).
    """
    if not len(values) or values.min() == values.max() or (spread := values.std()) == 0:
        return np.zeros(len(values))
    z = (values - values.mean()) / spread
    return np.asarray(z if clip is None else np.clip(z, -clip, clip))


def auc(
    positive: Float1D,
    negative: Float1D,
    *,
    variance: float = 1.0,
    independent: tuple[int, int] | None = None,
) -> tuple[float, float, float]:
    """How often a positive value is above a negative one, ties counting half, and its interval.

    Args:
        positive: Values of one class, at least one, no NaN.
        negative: Values of the other, likewise.
        variance: What the variance is multiplied by, `CROSS_FITTED` for values of models that were
            fitted to the classes of the other rows.
        independent: How many values of each class are independent, for the interval: fewer than
            all where some are copies; None for all.

    Returns:
        The area under the ROC curve, 0 to 1, and the ends of its 95 % interval.

    **Source:** Mann and Whitney 1947; the standard error of Hanley and McNeil 1982, which is 0 at
    the ends: it is taken no nearer to them than half a value of the smaller class plus one.
    """
    m, n = len(positive), len(negative)
    ranks = mean_ranks(np.concatenate([positive, negative]))
    area = float((ranks[:m].sum() - m * (m - 1) / 2) / (m * n))
    m, n = independent or (m, n)
    end = 0.5 / (min(m, n) + 1)
    p = min(max(area, end), 1 - end)
    of_two_positive, of_two_negative = p / (2 - p), 2 * p**2 / (1 + p)
    spread = p * (1 - p) + (m - 1) * (of_two_positive - p**2) + (n - 1) * (of_two_negative - p**2)
    half = _NORMAL * math.sqrt(variance * spread / (m * n))
    return area, max(area - half, 0.0), min(area + half, 1.0)


def spearman_interval(rho: float, n: int, *, variance: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of a rank correlation of `n` pairs, n above 3.

    Args:
        rho: The correlation.
        n: Number of pairs.
        variance: What the variance is multiplied by, `CROSS_FITTED` for pairs of a value and what
            was foretold of it from the others.

    **Source:** Fisher's z with the standard error of Bonett and Wright 2000, taken no nearer to
    ±1, where z has no end, than 1 / (n + 1).
    """
    end = n / (n + 1)
    z = math.atanh(min(max(rho, -end), end))
    half = _NORMAL * math.sqrt(variance * (1 + math.tanh(z) ** 2 / 2) / (n - 3))
    return min(rho, math.tanh(z - half)), max(rho, math.tanh(z + half))
