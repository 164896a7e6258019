"""What a kind of file is: how one is told from others, and how rows lie in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from didact.data.reading.files import File
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import Row

# number from 1 · bytes · why they are not a row, "" when they may be one
RawRow = tuple[int, bytes, str]


def _never(_: DataSettings) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextContainer:
    """A kind of file whose rows are text; it may be compressed.

    Attributes:
        suffixes: What its names end in.
        rows: File and settings → the bytes of each row.
        parse: Bytes of a row → the row, what is kept of it, and whether it has text that may not
            be valid Unicode; raises RowError.
        format: The format of its rows; None: whatever they and the settings say.
        by_line: Settings → whether each row is a line, so that a part can be read alone.
    """

    suffixes: tuple[str, ...]
    rows: Callable[[File, DataSettings], Iterator[RawRow]]
    parse: Callable[[bytes], tuple[Row, bytes, bool]]
    format: str | None = None
    by_line: Callable[[DataSettings], bool] = _never


class Batches(Protocol):
    """Reads a table in slices of bounded size."""

    def __call__(
        self, file: File, /, *, batch_rows: int, batch_bytes: int
    ) -> Iterator[pa.RecordBatch]:
        """Slices of a file with its own schema, in row order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContainer:
    """A kind of file that is a table.

    Attributes:
        suffixes: What its names end in.
        beginnings: Bytes that such a file may begin with.
        schema: File → its own schema.
        batches: File → slices of bounded size, with that schema.
    """

    suffixes: tuple[str, ...]
    beginnings: tuple[bytes, ...]
    schema: Callable[[File], pa.Schema]
    batches: Batches


Container = TextContainer | TableContainer
