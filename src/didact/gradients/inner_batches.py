"""The samples of every inner step, drawn by hashes, whatever the order of the pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Int1D
from didact.core.errors import DataError
from didact.core.hashing import mix
from didact.models.tokens import Tokens, concatenated

_BLOCK = 512  # rows encoded at a time while inner batches are filled


def inner_batches(
    encoded: Callable[[Int1D], Tokens],
    hashes: npt.NDArray[np.uint64],
    rows: Int1D,
    *,
    steps: int,
    size: int,
    key: int,
) -> list[Tokens]:
    """The samples of every inner step, drawn without replacement until the pool is used up.

    A sample's place depends on its hash and the key, never on where it stands in the pool. Samples
    without a loss are passed over. A pool smaller than a batch is a batch as a whole.

    Args:
        encoded: Tokens of some rows.
        hashes: 64-bit hashes of the ids of all rows.
        rows: The rows to draw from.
        steps: T.
        size: Number of samples of a batch.
        key: Key of the draw: another key, another draw.

    Raises:
        DataError: No row has a loss.
    """
    parts: list[Tokens] = []
    reason = "the pool has no rows"
    order = _shuffled(rows, hashes, key, 0)
    for at in range(0, len(rows), _BLOCK):
        tokens = encoded(order[at : at + _BLOCK])
        reason = next(iter(tokens.missing.values()), reason)
        parts.append(tokens.take(tokens.scored))
        if sum(map(len, parts)) >= steps * size:
            break
    found = concatenated(parts)
    if not len(found):
        raise DataError(f"no sample of the pool has a loss to train on; the first: {reason}")
    size = min(size, len(found))
    places = _epochs(len(found), steps * size, key)
    return [found.take(places[step * size : (step + 1) * size]) for step in range(steps)]


def _epochs(n: int, wanted: int, key: int) -> list[int]:
    """0 … n-1 in order, then shuffled anew for every further epoch, to `wanted` or more."""
    out = list(range(n))
    own = np.arange(n, dtype=np.uint64)
    epoch = 1
    while len(out) < wanted:
        out += _shuffled(np.arange(n), own, key, epoch).tolist()
        epoch += 1
    return out


def _shuffled(rows: Int1D, hashes: npt.NDArray[np.uint64], key: int, epoch: int) -> Int1D:
    salt = mix(np.asarray([key + epoch], np.uint64))
    return rows[np.argsort(mix(mix(hashes[rows]) ^ salt), kind="stable")]


def drawn_rows(hashes: npt.NDArray[np.uint64], rows: Int1D, n: int, key: int) -> Int1D:
    """`n` of the rows, uniformly, by their hashes and the key; ascending."""
    return np.sort(_shuffled(rows, hashes, key, 0)[:n])
