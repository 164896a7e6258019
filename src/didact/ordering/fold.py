"""Fold: several sweeps through the sorted rows, from low to high each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.core.identity import method
from didact.core.scores import TrainingOrder
from didact.ordering.around.utilities import chosen_utilities
from didact.ordering.sort import sorted_by_utility

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


def folded(utility: Float1D, *, layers: int, phase: int = 0) -> Int1D:
    """Every `layers`-th row of the sorted rows, `layers` times: each pass climbs from low to high.

    Args:
        utility: `(n,)`, finite.
        layers: Number of passes, ≥ 1. With 1, or n and more, it is `sort` (at phase 0).
        phase: Which residue comes first. 0: the lowest row opens the first layer, as DELT's code
            does. -1: the first layer is the positions `layers`, 2·`layers`, … counted from 1, as
            equation 10 of the paper reads; the same layers, rotated.

    **Source:** DELT's folding (arXiv:2506.21545 eq. 10; microsoft/DELT `folding.py`).
    **Cost:** O(n log n).
    """
    residue = (np.arange(len(utility)) - phase) % layers
    return sorted_by_utility(utility)[np.argsort(residue, kind="stable")]


@method("fold")
def fold(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    layers: Annotated[int, Field(ge=1)] = 3,
    phase: int = 0,
) -> TrainingOrder:
    """Several sweeps from the worst score to the best, each over its own share of the rows.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        layers: Number of sweeps.
        phase: 0 as DELT's released code, -1 as equation 10 of its paper (the same layers, rotated).

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** DELT §4.2, eq. 10 and Tab. 12 (arXiv:2506.21545), where 3 layers did best.
    **Cost:** O(n log n).
    """
    utility = chosen_utilities("fold", pool, chosen, scores)
    order = folded(utility, layers=layers, phase=phase)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "fold")
