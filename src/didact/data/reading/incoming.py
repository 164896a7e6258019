"""Rows of some files on their way into the store, and those that are no samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt64s
from didact.core.pool import Kind
from didact.core.render import TURN
from didact.data.reading.files import File
from didact.data.rows.turns import Turn


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a sample: where it stands, why, and its bytes.

    Attributes:
        place: How many samples of the batch stand before it.
        file: The file it is in.
        number: Its number there, from 1.
        reason: Why it is no sample.
        data: Its bytes, or their beginning.
        asked: Whether such rows are left out on request, and are no error.
        met: See `RowError`; None where the reason is whole.
    """

    place: int
    file: File
    number: int
    reason: str
    data: bytes
    asked: bool = False
    met: tuple[int, int] | None = None


@dataclass(slots=True)
class IncomingRows:
    """Rows on their way into one batch of the store, one entry a row in each list.

    Attributes:
        kind: What the rows are.
        files: Where each row comes from.
        numbers: Its number in that file, from 1.
        ids: Its given id, or None.
        turns: Its content.
        labels: 0 without a label, 1 for false, 2 for true.
        sources: Its source.
        tasks: Its task.
        records: JSON rows: the row's own bytes.
        slices: Arrow rows: the slices they lie in, and their places over all slices.
        places: See `slices`.
        media: Samples of the batch that hold images or the like → a hash of these.
        marks: What rows show that should be known: kind → samples of the batch, ascending.
        bad: Rows that are no samples.
        size: Bytes held, about.
    """

    kind: Kind = "text"
    files: list[File] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    turns: list[list[Turn]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    slices: list[pa.RecordBatch] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    media: dict[int, int] = field(default_factory=dict)
    marks: dict[str, list[int]] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)
    size: int = 0
    _before: int = 0  # rows of the slices before the last

    def __len__(self) -> int:
        return len(self.turns) + len(self.bad)

    def mark(self, kinds: Iterable[str]) -> None:
        """Say what the next sample shows."""
        for kind in kinds:
            self.marks.setdefault(kind, []).append(len(self.turns))

    def beside_turns(self) -> UInt64s:
        """A number for what each sample has beside its turns, 0 for nothing, `(n,)`."""
        found = np.asarray(self.labels, np.uint64)
        if self.media:
            found[list(self.media)] += np.fromiter(self.media.values(), np.uint64)
        return found

    def place(self, slice_: pa.RecordBatch, row: int) -> None:
        """Set where the last row lies: in a slice, at a row of it."""
        if not self.slices or self.slices[-1] is not slice_:
            self._before += len(self.slices[-1]) if self.slices else 0
            self.slices.append(slice_)
        self.places.append(self._before + row)

    def arrow_rows(self, rows: Int1D) -> pa.RecordBatch:
        """Some of its Arrow rows."""
        whole = self.slices[0] if len(self.slices) == 1 else pa.concat_batches(self.slices)
        return whole.take(pa.array(np.asarray(self.places, np.int64)[rows]))

    def raw(self, row: int) -> bytes:
        """A row's bytes for rejected.jsonl."""
        if not self.slices:
            return self.records[row]
        return json.dumps(self.arrow_rows(np.array([row])).to_pylist()[0], default=str).encode()


def turns_array(rows: Sequence[Sequence[Turn]]) -> pa.ListArray:
    """Turns of some rows as Arrow lists."""
    flat = [turn for turns in rows for turn in turns]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    arrays = [pa.array(list(map(itemgetter(i), flat)), f.type) for i, f in enumerate(TURN)]
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=list(TURN))
    )
