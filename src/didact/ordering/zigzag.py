"""Zigzag: a fold whose every second sweep runs from high to low."""

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


def zigzagged(utility: Float1D, *, layers: int) -> Int1D:
    """`fold` with every second layer turned round, so that no score cliff lies between layers.

    **Source:** ZIG of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    position = np.arange(len(utility))
    layer = position % layers
    order = np.lexsort((np.where(layer % 2, -position, position), layer))
    return sorted_by_utility(utility)[order]


@method("zigzag")
def zigzag(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    layers: Annotated[int, Field(ge=1)] = 3,
) -> TrainingOrder:
    """A fold whose every second sweep runs from the best to the worst: no cliffs between sweeps.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        layers: Number of sweeps.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** ZIG of arXiv:2605.30334 (microsoft/data-efficacy, where the default is 5 layers).
    **Cost:** O(n log n).
    """
    utility = chosen_utilities("zigzag", pool, chosen, scores)
    order = zigzagged(utility, layers=layers)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "zigzag")
