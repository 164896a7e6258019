"""What writes the user's own rows into a store, and Arrow files batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, Int32s
from didact.core.arrow_files import retyped
from didact.data.reading.incoming import IncomingRows

Places = tuple[Int1D, Int32s]  # where each record begins and its length in bytes, both `(k,)`


class ArrowWriter:
    """Writes one Arrow IPC file.

    Attributes:
        offsets: Where in the file each of its record batches begins.
    """

    def __init__(self, path: Path, schema: pa.Schema, files: ExitStack) -> None:
        """Open the file; `files` closes it whatever happens."""
        self.offsets: list[int] = []
        self._sink = files.enter_context(pa.OSFile(str(path), "wb"))
        self._writer = pa.ipc.new_file(self._sink, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        self.offsets.append(self._sink.tell())
        self._writer.write_batch(batch)

    def finish(self) -> None:
        """Write what ends the file."""
        self._writer.close()
        self._sink.close()


class JsonRecords:
    """Writes records.bin: JSON rows, byte for byte, one behind another."""

    def __init__(self, folder: Path, files: ExitStack, identify: Callable[[bytes], None]) -> None:
        """Open the file; `files` closes it, `identify` is told what is written."""
        self._file = files.enter_context((folder / "records.bin").open("wb"))
        self._identify, self._end = identify, 0

    def write(self, rows: IncomingRows, kept: Int1D) -> Places:
        """Append the rows that are kept; says where they lie, in bytes."""
        records = rows.records
        if len(kept) < len(records):
            records = [records[i] for i in kept]
        length = np.fromiter(map(len, records), np.int32, len(records))
        ends = np.cumsum(length, dtype=np.int64)
        start = self._end + ends - length
        joined = b"".join(records)
        self._identify(joined)
        self._file.write(joined)
        self._end += len(joined)
        return start, length

    def finish(self) -> None:
        """Nothing ends the file but its last row."""


class ArrowRecords:
    """Writes rows.arrow and rows.schema: Arrow rows, and the schema they came with.

    Attributes:
        file: The writer of rows.arrow.
        batch_starts: The first row of each of its record batches.
    """

    def __init__(self, folder: Path, files: ExitStack, schema: pa.Schema) -> None:
        """Open the files; `files` closes them."""
        # A file of record batches has one dictionary a column, so values are stored plain.
        plain = [pa.field(f.name, retyped(f.type, _plain)) for f in schema]
        self.file = ArrowWriter(folder / "rows.arrow", pa.schema(plain), files)
        self.batch_starts: list[int] = []
        self._end = 0
        (folder / "rows.schema").write_bytes(schema.serialize())

    def write(self, rows: IncomingRows, kept: Int1D) -> Places:
        """Append the rows that are kept; says where they lie, in rows."""
        found = rows.arrow_rows(kept)
        plain = [c.cast(retyped(c.type, _plain)) for c in found.columns]
        self.file.write(pa.RecordBatch.from_arrays(plain, found.schema.names))
        self.batch_starts.append(self._end)
        start = self._end + np.arange(len(kept))
        self._end += len(kept)
        return start, np.zeros(len(kept), np.int32)

    def finish(self) -> None:
        """Write what ends the file."""
        self.file.finish()


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type of a dictionary's values."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_
