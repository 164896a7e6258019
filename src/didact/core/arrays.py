"""Names for arrays in annotations, and read-only arrays.

`Float1D` and its kin say the shape and mean 64 bits; names with the width in them are of any shape.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float1D: TypeAlias = npt.NDArray[np.float64]
Float2D: TypeAlias = npt.NDArray[np.float64]
Int1D: TypeAlias = npt.NDArray[np.int64]
Bool1D: TypeAlias = npt.NDArray[np.bool_]

Float32s: TypeAlias = npt.NDArray[np.float32]
Int32s: TypeAlias = npt.NDArray[np.int32]
UInt8s: TypeAlias = npt.NDArray[np.uint8]
UInt32s: TypeAlias = npt.NDArray[np.uint32]
UInt64s: TypeAlias = npt.NDArray[np.uint64]

_SPARSE = 64  # values ÷ 64 of all numbers up to the largest: a table of these is too large


def occur(values: Int1D, n: int | None = None, times: int = 1) -> bool:
    """Whether each value that occurs does so exactly `times` times.

    Args:
        values: Whole numbers.
        n: Where given, all of them are in 0..n-1.
        times: How often, 1 or more.

    **Cost:** one pass and a byte for each number up to the largest, or a sort where few of them
    occur.
    """
    if not len(values):
        return True
    low, high = int(values.min()), int(values.max())
    if n is not None and (low < 0 or high >= n):
        return False
    if low < 0 or high >= _SPARSE * len(values):
        return bool(np.all(np.unique(values, return_counts=True)[1] == times))
    if times > 1:
        counts = np.bincount(values)
        return bool(np.all((counts == 0) | (counts == times)))
    seen = np.zeros(high + 1, np.bool_)
    seen[values] = True
    return int(np.count_nonzero(seen)) == len(values)


def frozen(array: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """A read-only array of `dtype`; the caller's own array stays writable (a view is made)."""
    out = np.ascontiguousarray(array, dtype=dtype).view()
    out.flags.writeable = False
    return out
