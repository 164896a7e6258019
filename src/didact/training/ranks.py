"""How well one sequence of numbers ranks as another does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Correlation of ranks, ties with their mean rank; NaN where one side is constant."""
    ranks = [average_ranks(np.asarray(x, np.float64)) for x in (a, b)]
    if any(np.ptp(r) == 0 for r in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def average_ranks(values: Float1D) -> Float1D:
    """Ranks from 0, equal values with the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Float1D = ((ends - counts + ends - 1) / 2)[inverse]
    return ranks


def best_epoch(correlations: Sequence[float]) -> int:
    """The first of the highest, from 1; the last where none is a number."""
    usable = [c if math.isfinite(c) else -math.inf for c in correlations]
    if max(usable) == -math.inf:
        return len(usable)
    return 1 + int(np.argmax(usable))
