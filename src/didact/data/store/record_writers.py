"""What writes the user's own rows into a store, and Arrow files batch by batch."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from didact.core.arrays import Int1D, Int32s
from didact.core.arrow_files import retyped
from didact.data.reading.incoming import IncomingRows

Places = tuple[Int1D, Int32s]  # where each record begins and its length in bytes, both `(k,)`


class ArrowWriter:
    """Writes one Arrow IPC file.

    Attributes:
        path: The file.
        offsets: Where in the file each of its record batches begins.
    """

    def __init__(self, path: Path, schema: pa.Schema, files: ExitStack) -> None:
        """Open the file; `files` closes it whatever happens."""
        self.path = path
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
    """Writes JSON rows, byte for byte, one behind another.

    Attributes:
        path: The file.
        size: Bytes written.
    """

    def __init__(self, path: Path, files: ExitStack) -> None:
        """Open the file; `files` closes it."""
        self.path, self.size = path, 0
        self._file = files.enter_context(path.open("wb"))
        self._hashed = xxhash.xxh3_128()

    @property
    def digest(self) -> str:
        """XXH3, 128 bits, of what was written: tells stores apart; nobody gains by forging one."""
        return self._hashed.hexdigest()

    def write(self, rows: IncomingRows, kept: Int1D) -> Places:
        """Append the rows that are kept; says where they lie, in bytes."""
        records = rows.records
        if len(kept) < len(records):
            records = [records[i] for i in kept]
        length = np.fromiter(map(len, records), np.int32, len(records))
        ends = np.cumsum(length, dtype=np.int64)
        start = self.size + ends - length
        joined = b"".join(records)
        self._hashed.update(joined)
        self._file.write(joined)
        self.size += len(joined)
        return start, length

    def finish(self) -> None:
        """Write what is not written yet."""
        self._file.close()


class ArrowRecords:
    """Writes Arrow rows.

    Attributes:
        path: The file.
        file: Its writer.
        batch_starts: The first row of each of its record batches.
        size: Rows written.
    """

    def __init__(self, path: Path, files: ExitStack, schema: pa.Schema) -> None:
        """Open the file; `files` closes it."""
        # A file of record batches has one dictionary a column, so values are stored plain.
        plain = [pa.field(f.name, retyped(f.type, _plain)) for f in schema]
        self.path, self.size = path, 0
        self.file = ArrowWriter(path, pa.schema(plain), files)
        self.batch_starts: list[int] = []

    def write(self, rows: IncomingRows, kept: Int1D) -> Places:
        """Append the rows that are kept; says where they lie, in rows."""
        found = rows.arrow_rows(kept)
        plain = [c.cast(retyped(c.type, _plain)) for c in found.columns]
        self.file.write(pa.RecordBatch.from_arrays(plain, found.schema.names))
        self.batch_starts.append(self.size)
        start = self.size + np.arange(len(kept))
        self.size += len(kept)
        return start, np.zeros(len(kept), np.int32)

    def finish(self) -> None:
        """Write what ends the file."""
        self.file.finish()


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type of a dictionary's values."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_
