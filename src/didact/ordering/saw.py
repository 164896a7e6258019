"""Saw: sorted, with a zigzag around each cut between sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.ordering.around.by_utility import by_utility
from didact.ordering.sort import sorted_by_utility
from didact.ordering.stair import rearranged_at_cuts
from didact.ordering.zigzag import zigzagged

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D


def sawed(
    utility: Float1D,
    *,
    sections: Annotated[int, Field(ge=1)] = 3,
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.075,
    layers: Annotated[int, Field(ge=1)] = 2,
) -> Int1D:
    """Sorted, with a zigzag around each cut between sections.

    Args:
        utility: `(n,)`, finite.
        sections: Equal parts of the sorted rows; 1 has no cut and is `sort`.
        ratio: Half the width of a zigzag window as a share of the rows. Windows that overlap are
            clipped.
        layers: Sweeps of a zigzag.

    **Source:** SAW of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    order = rearranged_at_cuts(
        len(utility), sections, ratio, lambda n: zigzagged(np.arange(float(n)), layers=layers)
    )
    return sorted_by_utility(utility)[order]


saw = by_utility("saw", sawed)
