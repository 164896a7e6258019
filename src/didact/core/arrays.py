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


def frozen(array: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """A read-only array of `dtype`; the caller's own array stays writable (a view is made)."""
    out = np.ascontiguousarray(array, dtype=dtype).view()
    out.flags.writeable = False
    return out
