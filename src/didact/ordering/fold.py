"""Fold: several sweeps through the sorted rows, from low to high each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.ordering.around.by_utility import by_utility
from didact.ordering.sort import sorted_by_utility

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D


def folded(utility: Float1D, *, layers: Annotated[int, Field(ge=1)] = 3, phase: int = 0) -> Int1D:
    """Several sweeps from the worst score to the best, each over its own share of the rows.

    A sweep takes every `layers`-th row of the sorted rows.

    Args:
        utility: `(n,)`, finite.
        layers: Number of sweeps. With 1, or n and more, it is `sort` (at phase 0).
        phase: Which residue comes first. 0: the lowest row opens the first layer, as DELT's code
            does. -1: the first layer is the positions `layers`, 2·`layers`, … counted from 1, as
            equation 10 of the paper reads; the same layers, rotated.

    **Source:** DELT §4.2, eq. 10 and Tab. 12 (arXiv:2506.21545), where 3 layers did best;
    microsoft/DELT `data_ordering/folding.py`.
    **Cost:** O(n log n).
    """
    residue = (np.arange(len(utility)) - phase) % layers
    return sorted_by_utility(utility)[np.argsort(residue, kind="stable")]


fold = by_utility("fold", folded)
