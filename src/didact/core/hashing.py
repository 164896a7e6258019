"""64-bit hashes: well spread over all bits, and written as digits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from didact.core.arrays import UInt64s


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


def hexadecimal(values: UInt64s) -> pa.StringArray:
    """Sixteen hex digits of each number."""
    digits = pa.py_buffer(values.astype(">u8").tobytes().hex().encode())
    offsets = np.arange(len(values) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets.tobytes()), digits)
