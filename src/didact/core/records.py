"""Records: the user's own rows as a store keeps them, JSON byte for byte or Arrow with its schema.

A chunk's record is its parent's, with what is the chunk's own put over it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D
from didact.core.arrow_files import retyped
from didact.core.checksums import CheckedFile
from didact.core.errors import DataError

_READ_BYTES: Final = 4 * 2**20


def json_records(file: CheckedFile, start: Int1D, length: Int1D) -> Iterator[bytes]:
    """Pieces of a file, `length` bytes each from `start` on, both `(k,)`."""
    # Neighbors in the file are read together, a few megabytes at a time.
    apart = np.diff(start) != length[:-1]
    block = np.cumsum(length) // _READ_BYTES
    bounds = np.flatnonzero(apart | (np.diff(block) > 0)) + 1
    scattered = int(np.count_nonzero(apart))
    if scattered:
        file = file.near(scattered, 0)
    with file.stream() as stream:
        for a, b in pairwise([0, *bounds.tolist(), len(start)]) if len(start) else ():
            stream.seek(int(start[a]))
            data = stream.read(int(length[a:b].sum()))
            ends = np.cumsum(length[a:b]).tolist()
            yield from (data[i:j] for i, j in pairwise([0, *ends]))


def arrow_rows_as_json(table: pa.Table) -> Iterator[bytes]:
    """Each row of a table as JSON on one line."""
    coarse = [f.with_type(retyped(f.type, _microseconds)) for f in table.schema]
    for row in table.cast(pa.schema(coarse), safe=False).to_pylist():
        yield _dumped(row)


def json_rows_as_table(records: Iterable[bytes]) -> pa.Table:
    """JSON rows as a table: every key of every row is a column, null where a row has it not.

    Raises:
        DataError: A column holds values of types that have none in common.
    """
    rows = [json.loads(record) for record in records]
    try:
        found = pa.array(rows, None if rows else pa.struct([]))
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DataError(
            f"the rows have no common type a column ({error}); expected one, which tables have: "
            "take pool.records(rows), which gives every row as it came"
        ) from error
    return pa.Table.from_struct_array(found)


def uniform_rows(records: Iterable[bytes]) -> list[dict[str, Any]]:
    """JSON rows with the keys of all of them, None where a row has one not."""
    rows = [json.loads(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def chunk_records(records: Iterable[bytes], chunks: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Each parent's JSON row with the values of its chunk, by column name."""
    for record, chunk in zip(records, chunks, strict=True):
        row = json.loads(record)
        for column, value in chunk.items():
            _put(row, column, value)
        yield _dumped(row)


def chunk_table(table: pa.Table, chunks: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The parents' Arrow rows with the values of their chunks, by column name."""
    for column in chunks[0] if chunks else ():
        values = pa.array([chunk[column] for chunk in chunks])
        at = table.schema.get_field_index(column)
        if at < 0:
            table = table.append_column(column, values)
        else:
            kind = table.schema.field(at).type
            table = table.set_column(at, column, values.cast(kind))
    return table


def _microseconds(type_: pa.DataType) -> pa.DataType:
    """The type with nanoseconds as microseconds, the finest that Python's own types hold."""
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    if pa.types.is_duration(type_) and type_.unit == "ns":
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time64(type_) else type_


def _put(row: dict[str, Any], column: str, value: Any) -> None:
    """Set a value by column name; dots reach into nested objects that are there."""
    *path, last = [column] if column in row else column.split(".")
    inner: Any = row
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        inner[last] = value
    else:
        row[column] = value


def _dumped(row: dict[str, Any]) -> bytes:
    """A row as JSON on one line; NaN and half surrogate pairs as Python writes them."""
    try:
        return json.dumps(row, ensure_ascii=False, default=_json_scalar).encode()
    except UnicodeEncodeError:
        return json.dumps(row, default=_json_scalar).encode()


def _json_scalar(value: object) -> object:
    """Arrow values JSON has no type for: dates as ISO 8601, bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
