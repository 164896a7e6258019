"""Rank correlations of sets of one kind among others, and where they are expected to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from didact.analysis.intervals import LEVEL
from didact.core.arrays import Float1D, Float2D, Int1D
from didact.core.statistics import mean_ranks
from didact.evaluation.student import t_quantile


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation of ranks.

    Attributes:
        value: -1 to 1; None where it is not defined: one side does not vary, or too few sets.
        low: Lower end of its 95 % interval; None where there are too few sets for one.
        high: The upper end.
        apart: Whether the interval takes all sets for independent: too few are left without one
            family.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    apart: bool = False


def centered(values: Float1D, groups: Int1D) -> Float1D:
    """Values less the mean of their group, `(n,)`: what a backbone and a stage shift is gone."""
    out = np.array(values, np.float64)
    for group in np.unique(groups):
        inside = groups == group
        out[inside] -= out[inside].mean()
    return out


def partial_ranks(y: Float1D, x: Float1D, given: Float2D, groups: Int1D) -> float | None:
    """Spearman's correlation of two columns when what others tell of both is taken off.

    All columns are centered by group and ranked over all; of the ranks of `y` and `x` what is
    linear in the ranks of `given` is taken off, and the rest correlated.

    Args:
        y: One column, `(n,)`.
        x: The other.
        given: Columns to take off, `(n, k)`; k may be 0: then it is the plain correlation.
        groups: Number of each row's backbone and stage, `(n,)`.

    Returns:
        None where nothing is left of one side, or n is below k + 3.

    **Source:** partial correlation of ranks, as by Kim 2015, "ppcor", section 2.
    **Cost:** O(n · (k + log n)).
    """
    n, k = given.shape
    if n < k + 3:
        return None
    ranks = [mean_ranks(_rounded(centered(c, groups))) for c in (y, x, *given.T)]
    known = np.column_stack([np.ones(n), *ranks[2:]])
    left = [r - known @ np.linalg.lstsq(known, r, rcond=None)[0] for r in ranks[:2]]
    spreads = [float(np.sqrt((r**2).sum())) for r in left]
    if min(spreads) < 1e-6 * n**1.5:
        return None
    return float(np.clip(left[0] @ left[1] / (spreads[0] * spreads[1]), -1, 1))


def _rounded(values: Float1D) -> Float1D:
    """To 12 digits of the largest: values that centering alone made unequal tie again."""
    largest = float(np.abs(values).max(initial=0))
    if largest == 0:
        return values
    return np.round(values / largest, 12)


def correlation(
    y: Float1D, x: Float1D, given: Float2D, groups: Int1D, families: Int1D
) -> Correlation:
    """`partial_ranks` with its 95 % interval, over sets of these and of other families.

    Two intervals are made, and what either holds is told. The first is of Fisher's z and takes
    sets for independent: variance (1 + r²/2) ÷ (n − k − g − 2) with g groups; of perfect agreement
    z is that of half a step less. The second is the jackknife over families with Student's t:
    sets of one family are alike, and say less than so many others. The first stands alone where
    too few sets are left without one of the families.

    Args:
        y: As in `partial_ranks`.
        x: As there.
        given: As there.
        groups: As there.
        families: Number of each row's family, `(n,)`.

    **Source:** Bonett and Wright 2000, "Sample size requirements for estimating Pearson, Kendall
    and Spearman correlations", Psychometrika 65; the delete-a-group jackknife.
    **Cost:** as many correlations as there are families.
    """
    r = partial_ranks(y, x, given, groups)
    n, k = given.shape
    df = n - k - len(np.unique(groups)) - 2
    if r is None or df < 1:
        return Correlation(r)
    z = _z(r, n)
    reach = t_quantile(1 - LEVEL / 2, math.inf) * math.sqrt((1 + r**2 / 2) / df)
    low, high = math.tanh(z - reach), math.tanh(z + reach)
    known = np.unique(families)
    rests = [families != family for family in known]
    again = [
        found for rest in rests
        if (found := partial_ranks(y[rest], x[rest], given[rest], groups[rest])) is not None
    ]  # fmt: skip
    m = len(again)
    if m < len(known) or m < 2:
        return Correlation(r, low, high, apart=True)
    reach = t_quantile(1 - LEVEL / 2, m - 1) * math.sqrt((m - 1) * float(np.var(again)))
    return Correlation(r, min(low, max(r - reach, -1.0)), max(high, min(r + reach, 1.0)))


def _z(r: float, n: int) -> float:
    most = 1 - 6 / (n**3 - n)  # half a step of Spearman's r below 1
    return math.atanh(min(max(r, -most), most))
