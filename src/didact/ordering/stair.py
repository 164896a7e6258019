"""Stair: sorted, with a fold around each cut between sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.ordering.around.by_utility import by_utility
from didact.ordering.fold import folded
from didact.ordering.sort import sorted_by_utility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from didact.core.arrays import Float1D, Int1D


def staired(
    utility: Float1D,
    *,
    sections: Annotated[int, Field(ge=1)] = 2,
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.225,
    layers: Annotated[int, Field(ge=1)] = 3,
) -> Int1D:
    """Sorted, with a fold around each cut between sections.

    Args:
        utility: `(n,)`, finite.
        sections: Equal parts of the sorted rows; 1 has no cut and is `sort`.
        ratio: Half the width of a folded window as a share of the rows. Windows that overlap are
            clipped.
        layers: Sweeps of a fold.

    **Source:** STR of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    Cuts and widths are rounded half to even, as Python rounds.
    **Cost:** O(n log n).
    """
    order = rearranged_at_cuts(
        len(utility), sections, ratio, lambda n: folded(np.arange(float(n)), layers=layers)
    )
    return sorted_by_utility(utility)[order]


def rearranged_at_cuts(
    n: int, sections: int, ratio: float, rearranged: Callable[[int], Int1D]
) -> Int1D:
    """Positions 0..n-1, rearranged in a window around each cut between sections.

    Args:
        n: Number of positions.
        sections: Equal parts, ≥ 1.
        ratio: Half a window's width as a share of n, 0-1. A window that would overlap the one
            before begins where that has ended.
        rearranged: The order of a window's positions, by their number.
    """
    out = np.arange(n)
    for begin, end in windows(n, sections, ratio):
        out[begin:end] = begin + rearranged(end - begin)
    return out


def windows(n: int, sections: int, ratio: float) -> Iterator[tuple[int, int]]:
    """First position and the one behind the last of each window of `rearranged_at_cuts`."""
    radius, cursor = round(n * ratio), 0
    for cut in range(1, sections):
        middle = round(n * cut / sections)
        begin, end = max(middle - radius, cursor), min(middle + radius, n)
        if begin < end:
            yield begin, end
            cursor = end


stair = by_utility("stair", staired)
