"""Random rows of a pool, drawn by content: the order of the rows does not matter."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Int1D
from didact.core.hashing import mix
from didact.core.pool import Pool
from didact.core.protocols import Context

MOST_BYTES: Final = 2**24  # of text that is learned from or looked at, of pool and target each


def drawable_rows(pool: Pool) -> Int1D:
    """Rows to draw from: not of the validation split, one of each content if copies count once."""
    kept = ~pool.in_validation
    return np.flatnonzero(kept & (pool.copy_number == 1) if pool.dedup else kept)


def row_keys(pool: Pool) -> npt.NDArray[np.uint64]:
    """64-bit hashes `(n,)` of the rows' content, whichever copy comes first; copies differ."""
    return mix(pool.content_hash) ^ pool.copy_number.astype(np.uint64)


def random_key(ctx: Context, purpose: str) -> int:
    """A 62-bit key for one purpose, such as "warm-up", drawn from the seed."""
    return int(ctx.rng(purpose).integers(2**62))


def shuffled_rows(pool: Pool, rows: Int1D, key: int) -> Int1D:
    """The rows in a random order that depends on their content and the key alone."""
    return rows[np.argsort(mix(row_keys(pool)[rows] ^ np.uint64(key)), kind="stable")]


def within_bytes(pool: Pool, rows: Int1D) -> Int1D:
    """As many of the first rows as hold no more text than `MOST_BYTES`; one at least."""
    ends = np.cumsum(pool.n_bytes[rows])
    return rows[: max(int(np.searchsorted(ends, MOST_BYTES, side="right")), 1)]
