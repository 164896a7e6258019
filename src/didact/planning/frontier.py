"""Which points nothing else beats at its price, and the straight line published as a frontier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.core.errors import DataError


def non_dominated(flops: Float1D, values: Float1D) -> Int1D:
    """Indices of the points that no other beats: none costs as little and is worth as much.

    Args:
        flops: Cost of each point, selection and training, `(n,)`.
        values: What each is worth, higher is better, `(n,)`. No NaN.

    Returns:
        Ascending in cost, and so in value; of equal points the first.

    **Source:** Pareto's efficient set. **Cost:** O(n log n).
    """
    order = np.lexsort((-values, flops))
    ranked = values[order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked)[:-1]])
    return order[ranked > best_before]


@dataclass(frozen=True, slots=True)
class Line:
    """value = at_1e18 + per_decade · log10(flops ÷ 10¹⁸).

    Attributes:
        at_1e18: Value at 10¹⁸ FLOPs.
        per_decade: Points per ten times the compute.
    """

    at_1e18: float
    per_decade: float

    def at(self, flops: Float1D) -> Float1D:
        """The line at costs, `(k,)`."""
        return np.asarray(self.at_1e18 + self.per_decade * np.log10(flops / 1e18))


def log_line(flops: Float1D, values: Float1D) -> Line:
    """Ordinary least squares of values on the logarithm of FLOPs.

    Over non-dominated points this is the "fine-tuned Pareto front" of the paper: not a frontier,
    since points of it lie above.

    Args:
        flops: Above 0, `(n,)`.
        values: `(n,)`.

    Raises:
        DataError: Under two different costs.

    **Source:** the figures of Yin and Rush (arXiv:2410.16208), whose text does not define it.
    """
    x = np.log10(flops / 1e18)
    if len(x) < 2 or np.ptp(x) == 0:
        raise DataError(
            f"{len(np.unique(x))} different costs, and a line needs two at least; give more points"
        )
    apart = x - x.mean()
    slope = float(apart @ values / (apart @ apart))
    return Line(float(values.mean() - slope * x.mean()), slope)
