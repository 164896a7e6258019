"""One file of an ordered data set: rows of a pool, in the order given, as JSONL or Parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from didact.core.arrays import Int1D
from didact.core.atomic import replacing
from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.data.reading.json_rows import json_row
from didact.data.rows.columns import Row, shown

Format = Literal["jsonl", "jsonl.zst", "parquet"]

INDEX: Final = "order_index"
_AT_ONCE: Final = 4096  # rows written at a time
_READ_ROWS: Final = 8 * _AT_ONCE  # at most, of rows that are read before they are put in order
_READ_BYTES: Final = 32 * 2**20  # of their texts
_DEEPEST: Final = 40  # Parquet readers stop at 100 levels, and a list has two


def write_rows(pool: Pool, rows: Int1D, path: Place, fmt: Format, first: int | None) -> None:
    """Rows in the order given; `first` is the order index of the first, None to leave it out."""
    if fmt == "parquet":
        _write_parquet(pool, rows, path, first)
        return
    lines = map(_one_line, _records(pool, rows))
    if first is not None:
        lines = map(_indexed, lines, count(first))
    with replacing(path) as temporary, _writer(temporary, compress=fmt == "jsonl.zst") as file:
        while block := list(islice(lines, _AT_ONCE)):
            file.write(b"".join(line + b"\n" for line in block))


def _together(pool: Pool, rows: Int1D) -> Iterator[Int1D]:
    """Rows in parts that fit into memory, whole multiples of `_AT_ONCE` but for the last."""
    at = 0
    while at < len(rows):
        size = _READ_ROWS
        while size > _AT_ONCE and pool.n_bytes[rows[at : at + size]].sum() > _READ_BYTES:
            size //= 2
        yield rows[at : at + size]
        at += size


def _records(pool: Pool, rows: Int1D) -> Iterator[bytes]:
    """`pool.records(rows)`, read in the order in which they lie in the store."""
    for part in _together(pool, rows):
        order = np.argsort(part, kind="stable")
        found = list(pool.records(part[order]))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        yield from map(found.__getitem__, place.tolist())


@contextmanager
def _writer(path: Path, *, compress: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if not compress:
            yield raw
            return
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
            yield cast("BinaryIO", file)


# -- JSON ------------------------------------------------------------------------------------------


def _one_line(row: bytes) -> bytes:
    """A row without line ends, which JSON allows only between its tokens."""
    if b"\n" in row or b"\r" in row:
        return row.replace(b"\r", b" ").replace(b"\n", b" ")
    return row


def _check_free(row: Row) -> None:
    if INDEX in row:
        raise DataError(
            f"a row already has the column {INDEX!r} ({shown(row[INDEX])}); expected none: rename "
            "it, or export without order_index"
        )


def _indexed(row: bytes, position: int) -> bytes:
    """The row with its position appended; every other byte as it came."""
    body = row.rstrip()
    if INDEX.encode() in body or b"\\u" in body:  # a name may be written with escapes
        _check_free(json_row(body)[0])
    inside = body[:-1].rstrip()
    comma = b"" if inside.endswith(b"{") else b", "
    return inside + comma + f'"{INDEX}": {position}'.encode() + b"}"


# -- Parquet ---------------------------------------------------------------------------------------


def _write_parquet(pool: Pool, rows: Int1D, path: Place, first: int | None) -> None:
    if pool.record_format == "arrow":
        schema = pool.record_table(rows[:1]).schema
        tables = _tables(pool, rows)
    else:
        schema = _json_schema(pool, rows)
        values = _structs(pool, rows, pa.struct(list(schema)))
        tables = (pa.Table.from_arrays(v.flatten(), schema=schema) for v in values)
    written = schema
    if first is not None:
        _check_free(dict.fromkeys(schema.names))
        written = schema.append(pa.field(INDEX, pa.int64()))
    with (
        replacing(path) as temporary,
        _no_common_schema(),
        pq.ParquetWriter(temporary, written) as writer,
    ):
        for number, table in enumerate(tables):
            if first is not None:
                begin = first + number * _AT_ONCE
                index = pa.array(np.arange(begin, begin + len(table)))
                writer.write_table(table.append_column(written.field(INDEX), index))
            else:
                writer.write_table(table)


def _tables(pool: Pool, rows: Int1D) -> Iterator[pa.Table]:
    """Arrow rows, `_AT_ONCE` at a time, read together as far as memory goes."""
    for part in _together(pool, rows):
        table = pool.record_table(part)
        yield from (table.slice(at, _AT_ONCE) for at in range(0, len(table), _AT_ONCE))


def _json_schema(pool: Pool, rows: Int1D) -> pa.Schema:
    """One schema that holds every row to be written; every key of every row is in it."""
    found = pa.schema([])
    for values in _structs(pool, rows, None):
        with _no_common_schema():
            here = pa.schema(list(values.type))
            found = pa.unify_schemas([found, here], promote_options="permissive")
    kept = _writable_type(pa.struct(list(found)))
    return pa.schema([] if kept is None else list(kept))


def _structs(pool: Pool, rows: Int1D, kind: pa.StructType | None) -> Iterator[pa.StructArray]:
    """JSON rows as Arrow arrays, `_AT_ONCE` at a time; types are found unless one is given."""
    records = _records(pool, rows)
    while values := [_parsed(row) for row in islice(records, _AT_ONCE)]:
        with _no_common_schema():
            found = pa.array(values, kind)
        yield found


_LONG_NUMBER: Final = re.compile(rb"\d{19}")


def parsed_rows(pool: Pool, rows: Int1D) -> Iterator[Row]:
    """JSON rows in the order given, their numbers exact."""
    return map(_parsed, _records(pool, rows))


def _parsed(record: bytes) -> Row:
    """A row with its numbers exact: integers beyond 64 bits would become floats."""
    if _LONG_NUMBER.search(record):
        row: Row = json.loads(record)
        return row
    return json_row(record)[0]


@contextmanager
def _no_common_schema() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DataError(
            f"the rows have no common Parquet schema ({error}); expected one type a column over "
            "all rows, which Parquet has: export as jsonl, which keeps every row as it came"
        ) from error


def _writable_type(type_: pa.DataType, levels: int = _DEEPEST) -> pa.DataType | None:
    """The type without objects that are empty in every row, which Parquet cannot hold."""
    if levels < 0:
        raise DataError(
            f"the rows have values nested more than {_DEEPEST} deep; expected less in Parquet: "
            "export as jsonl, which keeps every row as it came"
        )
    if pa.types.is_list(type_):
        inner = _writable_type(type_.value_type, levels - 1)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(type_):
        found = [(field.name, _writable_type(field.type, levels - 1)) for field in type_]
        fields = [pa.field(name, inner) for name, inner in found if inner is not None]
        return pa.struct(fields) if fields else None
    return type_
