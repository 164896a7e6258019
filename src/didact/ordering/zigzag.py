"""Zigzag: a fold whose every second sweep runs from high to low."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.ordering.around.by_utility import by_utility
from didact.ordering.sort import sorted_by_utility

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D


def zigzagged(utility: Float1D, *, layers: Annotated[int, Field(ge=1)] = 3) -> Int1D:
    """A fold whose every second sweep runs from the best to the worst: no cliffs between sweeps.

    Args:
        utility: `(n,)`, finite.
        layers: Number of sweeps.

    **Source:** ZIG of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy,
    where the default is 5 layers).
    **Cost:** O(n log n).
    """
    position = np.arange(len(utility))
    layer = position % layers
    order = np.lexsort((np.where(layer % 2, -position, position), layer))
    return sorted_by_utility(utility)[order]


zigzag = by_utility("zigzag", zigzagged)
