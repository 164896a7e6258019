"""Arrow files of a store: rows in any order, verified by record batch where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D
from didact.core.checksums import CheckedFile
from didact.core.remote_files import RemoteFile

_MAPPED: Final = 64  # record batches read from one map: its pages count as this process's memory


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

    def places(self, file: int, batches: Sequence[int]) -> tuple[int, int]:
        """Where the first of a file's record batches begins, and bytes of them all."""
        offsets = self.offsets[self.firsts[file] :]
        if file + 1 < len(self.files):
            offsets = offsets[: self.firsts[file + 1] - self.firsts[file]]
        ends = np.append(offsets[1:], self.files[file].expected.n_bytes)
        return int(offsets[batches[0]]), int((ends - offsets)[batches].sum())

    def verify(self, file: int, batches: Sequence[int], columns: Sequence[str]) -> None:
        """Raise DamagedError unless columns of a file's record batches are what was written.

        Where the columns lie is read off a memory map, whose pages are not touched but for what
        describes them, and that is verified before it is looked at. Of a file behind a URL nothing
        is read that was not verified on arrival.
        """
        _verify(self.files[file], self.offsets[self.firsts[file] :], batches, columns)

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
        pieces: list[pa.RecordBatch] = []
        for number, batches in self.by_file(parts):
            first, offsets = int(self.firsts[number]), self.offsets[self.firsts[number] :]
            file = self.files[number].near(len(batches), self.places(number, batches)[1])
            for some in (batches[at : at + _MAPPED] for at in range(0, len(batches), _MAPPED)):
                _verify(file, offsets, some, columns)
                with _opened(file) as source:
                    reader = pa.ipc.open_file(source)
                    for b in some:
                        inside = pa.array(ascending[parts[first + b]] - self.starts[first + b])
                        pieces.append(reader.get_batch(b).select(columns).take(inside))
        if not pieces:
            self.verify(0, [], columns)
            with _opened(self.files[0]) as source:
                schema = pa.ipc.open_file(source).schema
            empty = [pa.array([], schema.field(c).type) for c in columns]
            return pa.RecordBatch.from_arrays(empty, list(columns))
        return in_order(pa.concat_batches(pieces), order)


@contextmanager
def telling_damage(file: CheckedFile) -> Iterator[None]:
    """Damage that is found in a block stays what it is: of some columns Arrow makes it an OSError.

    Raises:
        DamagedError: The file is not what was written.
    """
    try:
        yield
    except OSError:
        file.verify()
        raise


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


def _opened(file: CheckedFile) -> pa.NativeFile:
    if isinstance(file, RemoteFile):
        return pa.PythonFile(file.stream(), mode="r")
    return pa.memory_map(str(file.path))


def _verify(
    file: CheckedFile, offsets: Int1D, batches: Sequence[int], columns: Sequence[str]
) -> None:
    """See `ArrowShards.verify`; `offsets` are those of the file's record batches, first ones."""
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
