"""A fixed set of 64-bit hashes that many hashes are looked up in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Int1D, UInt8s, UInt64s

# One bit in sixteen is set at most, in a table of 8 KiB to 32 MiB.
_FEWEST_BITS: Final = 16
_MOST_BITS: Final = 28


@dataclass(frozen=True)
class HashSet:
    """A sorted set with a bitmap in front of it; pickles as the set.

    Attributes:
        hashes: uint64 `(q,)`, ascending and distinct; their high bits must be well mixed.
    """

    hashes: UInt64s
    _bits: int = field(init=False, repr=False, compare=False)
    _bitmap: UInt8s = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bits = min(max(_FEWEST_BITS, (16 * len(self.hashes)).bit_length()), _MOST_BITS)
        places = self.hashes >> np.uint64(64 - bits)
        bitmap = np.zeros(1 << (bits - 3), np.uint8)
        if len(places):
            byte = places >> np.uint64(3)
            bit = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
            first = np.flatnonzero(np.concatenate([[True], byte[1:] != byte[:-1]]))
            bitmap[byte[first]] = np.bitwise_or.reduceat(bit, first)
        object.__setattr__(self, "_bits", bits)
        object.__setattr__(self, "_bitmap", bitmap)

    def __reduce__(self) -> tuple[type[HashSet], tuple[UInt64s]]:
        return (HashSet, (self.hashes,))

    def __len__(self) -> int:
        return len(self.hashes)

    def may_contain(self, hashes: UInt64s) -> npt.NDArray[np.bool_]:
        """False only on hashes that are not in the set; much cheaper than `find`."""
        places = hashes >> np.uint64(64 - self._bits)
        byte = self._bitmap.take((places >> np.uint64(3)).view(np.int64))
        byte >>= (places & np.uint64(7)).astype(np.uint8)
        byte &= 1
        return byte.view(np.bool_)

    def find(self, hashes: UInt64s) -> Int1D:
        """Index of each hash in the set, -1 where it is not in it."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, at, -1)
