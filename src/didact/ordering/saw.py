"""Saw: sorted, with a zigzag around each cut between sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.core.identity import method
from didact.core.scores import TrainingOrder
from didact.ordering.around.utilities import chosen_utilities
from didact.ordering.sort import sorted_by_utility
from didact.ordering.stair import rearranged_at_cuts
from didact.ordering.zigzag import zigzagged

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


def sawed(utility: Float1D, *, sections: int, ratio: float, layers: int) -> Int1D:
    """As `stair`, with a zigzag in the windows.

    **Source:** SAW of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    order = rearranged_at_cuts(
        len(utility), sections, ratio, lambda n: zigzagged(np.arange(float(n)), layers=layers)
    )
    return sorted_by_utility(utility)[order]


@method("saw")
def saw(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    sections: Annotated[int, Field(ge=1)] = 3,
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.075,
    layers: Annotated[int, Field(ge=1)] = 2,
) -> TrainingOrder:
    """Sorted, with a zigzag around each cut between sections.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        sections: Equal parts of the sorted rows.
        ratio: Half the width of a zigzag window as a share of the rows.
        layers: Sweeps of a zigzag.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** SAW of arXiv:2605.30334 (microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    utility = chosen_utilities("saw", pool, chosen, scores)
    order = sawed(utility, sections=sections, ratio=ratio, layers=layers)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "saw")
