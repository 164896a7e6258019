"""Arrow files of a store: rows in any order, verified by record batch where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D
from didact.core.checksums import CheckedFile


@dataclass(frozen=True, slots=True)
class ArrowShards:
    """Arrow IPC files of one schema, whose record batches follow one another.

    Attributes:
        files: The files, at least one.
        starts: First row of each record batch, over all files.
        offsets: Where in its own file each of them begins.
        firsts: Number of the first record batch of each file.
    """

    files: Sequence[CheckedFile]
    starts: Int1D
    offsets: Int1D
    firsts: Int1D

    def by_file(self, batches: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """Ascending record batches by the file they lie in, and their numbers in it."""
        of_batch = partial(np.searchsorted, self.firsts, side="right")
        for file, numbers in groupby(batches, lambda batch: int(of_batch(batch)) - 1):
            yield file, [number - int(self.firsts[file]) for number in numbers]

    def verify(self, file: int, batches: Sequence[int], columns: Sequence[str]) -> None:
        """Raise DamagedError unless columns of a file's record batches are what was written.

        Where the columns lie is read off a memory map, whose pages are not touched but for what
        describes them, and that is verified before it is looked at.
        """
        checked = self.files[file]
        size, offsets = checked.expected.n_bytes, self.offsets[self.firsts[file] :]
        footer = int.from_bytes(checked.read(size - 10, size - 6), "little")
        checked.verify(max(size - 10 - footer, 0), size)
        checked.verify(0, offsets[0] if len(offsets) else size)
        with pa.memory_map(str(checked.path)) as mapped:
            base = mapped.read_buffer(1).address
            reader = pa.ipc.open_file(mapped)
            for b in batches:
                length = int.from_bytes(checked.read(offsets[b] + 4, offsets[b] + 8), "little")
                checked.verify(offsets[b], offsets[b] + 8 + length)
                batch = reader.get_batch(b).select(columns)
                for buffer in (x for column in batch.columns for x in column.buffers() if x):
                    checked.verify(buffer.address - base, buffer.address - base + buffer.size)

    def gather(self, rows: Int1D, columns: Sequence[str]) -> pa.RecordBatch:
        """Rows in any order, repeats allowed; only the pages they lie on are read.

        Args:
            rows: Row indices, over all files.
            columns: What to take.

        **Cost:** the pages the rows lie on; before that, once for each handle, all of the columns
        asked for of the batches the rows are in, to verify them.
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        parts = dict(split(self.starts, ascending))
        pieces = []
        for file, numbers in self.by_file(parts):
            self.verify(file, numbers, columns)
            with pa.memory_map(str(self.files[file].path)) as mapped:
                reader = pa.ipc.open_file(mapped)
                for b in numbers:
                    batch = b + int(self.firsts[file])
                    inside = pa.array(ascending[parts[batch]] - self.starts[batch])
                    pieces.append(reader.get_batch(b).select(columns).take(inside))
        if not pieces:
            self.verify(0, [], columns)
            with pa.memory_map(str(self.files[0].path)) as mapped:
                schema = pa.ipc.open_file(mapped).schema
            empty = [pa.array([], schema.field(c).type) for c in columns]
            return pa.RecordBatch.from_arrays(empty, list(columns))
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


def retyped(type_: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with `change` made to it, or to the types of lists and structs inside it."""
    if pa.types.is_list(type_):
        field = type_.value_field
        return pa.list_(field.with_type(retyped(field.type, change)))
    if pa.types.is_struct(type_):
        return pa.struct([f.with_type(retyped(f.type, change)) for f in type_])
    return change(type_)
