"""Arrow strings as bytes and offsets, without a copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt8s


def utf8(texts: pa.LargeStringArray) -> tuple[UInt8s, Int1D]:
    """The UTF-8 bytes of a batch of texts and where each text starts.

    Args:
        texts: `n` texts; a null counts as an empty text.

    Returns:
        Bytes `(m,)`, a view of the Arrow buffer, and offsets `(n + 1,)` into them: text `i` is
        `data[offsets[i]:offsets[i + 1]]`, the first offset is 0, the last is `m`.
    """
    if texts.null_count:
        texts = texts.fill_null("")
    n = len(texts)
    _, offset_buffer, data_buffer = texts.buffers()
    if n == 0 or data_buffer is None or offset_buffer is None:
        return np.empty(0, np.uint8), np.zeros(n + 1, np.int64)
    offsets = np.frombuffer(offset_buffer, np.int64, n + 1, offset=8 * texts.offset)
    start, stop = int(offsets[0]), int(offsets[-1])
    data = np.frombuffer(data_buffer, np.uint8, stop - start, offset=start)
    return data, (offsets - start if start else offsets)
