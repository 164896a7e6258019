"""Interleaving: each source spread evenly over the sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Int1D


def interleaved(source: npt.NDArray[np.integer]) -> Int1D:
    """The places 0..n-1 in an order that spreads each source evenly and keeps its own order.

    The i-th of a source's m rows aims at (i + 1/2) / m of the way; rows that aim at the same place
    keep the order they came in.

    Args:
        source: The source of the row at each place, `(n,)`.

    **Source:** even spacing by mid-points, as in stratified (systematic) sampling; own.
    **Cost:** O(n log n).
    """
    grouped = np.argsort(source, kind="stable")
    counts = np.bincount(source)
    nth = np.empty(len(source), np.int64)
    nth[grouped] = np.arange(len(source)) - (np.cumsum(counts) - counts)[source[grouped]]
    return np.argsort((nth + 0.5) / counts[source], kind="stable")
