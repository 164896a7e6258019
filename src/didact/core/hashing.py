"""Well-spread 64-bit hashes of 64-bit numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]


def mix(x: UInt64s) -> UInt64s:
    """A bijection of 64-bit numbers that spreads every bit over all bits.

    **Source:** the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), variant 13 of
    D. Stafford's constants.
    """
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
