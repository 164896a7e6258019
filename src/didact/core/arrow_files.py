"""Arrow files of a store: rows in any order, verified by record batch where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D
from didact.core.checksums import CheckedFile
from didact.core.remote_files import RemoteFile

_MAPPED: Final = 64  # record batches read from one map: its pages count as this process's memory


def gather(
    file: CheckedFile, starts: Int1D, offsets: Int1D, rows: Int1D, columns: Sequence[str]
) -> pa.RecordBatch:
    """Rows of an Arrow file in any order; only the pages they lie on are read.

    Args:
        file: An Arrow IPC file.
        starts: First row of each of its record batches.
        offsets: Where in the file each of them begins.
        rows: Row indices, repeats allowed.
        columns: What to take.

    **Cost:** the pages the rows lie on; before that, once for each handle, all of the columns asked
    for of the batches the rows are in, to verify them.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    parts = split(starts, ascending)
    pieces: list[pa.RecordBatch] = []
    numbers = [b for b, _ in parts]
    file = file.near(len(numbers), batches_bytes(file, offsets, numbers))
    for at in range(0, max(len(parts), 1), _MAPPED):
        some = parts[at : at + _MAPPED]
        verify(file, offsets, [b for b, _ in some], columns)
        with _opened(file) as source:
            reader = pa.ipc.open_file(source)
            if not parts:
                empty = [pa.array([], reader.schema.field(c).type) for c in columns]
                return pa.RecordBatch.from_arrays(empty, list(columns))
            for b, part in some:
                inside = pa.array(ascending[part] - starts[b])
                pieces.append(reader.get_batch(b).select(columns).take(inside))
    return in_order(pa.concat_batches(pieces), order)


def split(starts: Int1D, ascending: Int1D) -> list[tuple[int, slice]]:
    """The record batches that ascending rows lie in, and where those of each are among them."""
    if not len(ascending):
        return []
    first, last = np.searchsorted(starts, ascending[[0, -1]], side="right") - 1
    cuts = np.searchsorted(ascending, starts[first + 1 : last + 1])
    ends = pairwise([0, *cuts.tolist(), len(ascending)])
    return [(b, slice(a, z)) for b, (a, z) in enumerate(ends, int(first)) if a < z]


def in_order(batch: pa.RecordBatch, order: Int1D) -> pa.RecordBatch:
    """Rows put back where `order`, the argsort that they came by, took them from."""
    if np.all(order[1:] > order[:-1]):
        return batch
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return batch.take(pa.array(place))


def batches_bytes(file: CheckedFile, offsets: Int1D, batches: Sequence[int]) -> int:
    """Bytes of some record batches, those after the last one among them."""
    ends = np.append(offsets[1:], file.expected.n_bytes)
    return int((ends - offsets)[batches].sum()) if len(batches) else 0


def _opened(file: CheckedFile) -> pa.NativeFile:
    if isinstance(file, RemoteFile):
        return pa.PythonFile(file.stream(), mode="r")
    return pa.memory_map(str(file.path))


def verify(
    file: CheckedFile, offsets: Int1D, batches: Iterable[int], columns: Sequence[str]
) -> None:
    """Raise DamagedError unless some columns of some record batches are what was written.

    Where the columns lie is read off a memory map, whose pages are not touched but for what
    describes them, and that is verified before it is looked at. Of a file behind a URL nothing is
    read that was not verified on arrival.
    """
    if isinstance(file, RemoteFile):
        return
    size = file.expected.n_bytes
    footer = int.from_bytes(file.read(size - 10, size - 6), "little")
    file.verify(max(size - 10 - footer, 0), size)
    file.verify(0, offsets[0] if len(offsets) else size)
    with pa.memory_map(str(file.path)) as mapped:
        base = mapped.read_buffer(1).address
        reader = pa.ipc.open_file(mapped)
        for b in batches:
            length = int.from_bytes(file.read(offsets[b] + 4, offsets[b] + 8), "little")
            file.verify(offsets[b], offsets[b] + 8 + length)
            batch = reader.get_batch(b).select(columns)
            for buffer in (x for column in batch.columns for x in column.buffers() if x):
                file.verify(buffer.address - base, buffer.address - base + buffer.size)


def retyped(type_: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with `change` made to it, or to the types of lists and structs inside it."""
    if pa.types.is_list(type_):
        field = type_.value_field
        return pa.list_(field.with_type(retyped(field.type, change)))
    if pa.types.is_struct(type_):
        return pa.struct([f.with_type(retyped(f.type, change)) for f in type_])
    return change(type_)
