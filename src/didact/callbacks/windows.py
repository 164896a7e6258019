"""Hashed windows: every run of so many units inside one piece of a sequence of pieces."""

from __future__ import annotations

import numpy as np

from didact.core.arrays import Int1D, UInt32s, UInt64s
from didact.core.hashing import mix
from didact.text.ngrams import ngram_hashes


def run_hashes(ids: UInt32s, length: int) -> UInt64s:
    """64-bit hash of every run of `length` units, well mixed, `(max(n - length + 1, 0),)`."""
    return mix(ngram_hashes(mix(ids.astype(np.uint64) + np.uint64(1)), length))


def piece_windows(ids: UInt32s, offsets: Int1D, length: int) -> tuple[UInt64s, Int1D]:
    """The windows of pieces that stand one behind the other; none spans two of them.

    Args:
        ids: The units of all pieces, `(n,)`.
        offsets: Where each piece begins, and the end of the last, `(pieces + 1,)`.
        length: Units of a window.

    Returns:
        Hashes, and the piece that each is of, ascending, `(windows,)` both.
    """
    hashes = run_hashes(ids, length)
    sizes = np.diff(offsets)
    piece = np.repeat(np.arange(len(sizes)), sizes)[: len(hashes)]
    inside = np.arange(len(hashes)) + length <= offsets[1:][piece]
    return hashes[inside], piece[inside]
