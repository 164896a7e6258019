"""Rows that lie in no file: piped in, or objects of Python. They lie in one while they are read."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from didact.core.atomic import digest
from didact.core.entries import temporary_folder
from didact.core.errors import DataError, DidactError
from didact.core.findings import Finding, counted
from didact.core.paths import Given, Place, RemotePath
from didact.core.shared_entries import standing
from didact.data.reading.discovery import Walked, describe, walked
from didact.data.reading.files import File
from didact.data.rows.columns import shown

STDIN: Final = "-"  # a path that means what is piped in
_SAVE: Final = "save CSV or plain text in a file, whose name tells what it is"
_BATCH_ROWS: Final = 1024
_MISSING: Final = {"NAType", "NaTType"}  # what pandas has for values that are missing
_TABLES: Final = (("pandas", "DataFrame"), ("polars", "LazyFrame"), ("datasets", "Dataset"))
_JSON: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows that a caller has in memory, and what messages call them.

    Attributes:
        rows: Dicts by column, or a table of pyarrow, pandas, Polars or `datasets`.
        name: What they are called where a file would be named.
    """

    rows: Any
    name: str = "rows"


@contextmanager
def located(paths: Sequence[Given] | GivenRows, cache_dir: Place) -> Iterator[Walked]:
    """The files behind paths, or the one that holds rows which lie in none, until the block ends.

    Args:
        paths: Files, folders, globs; `-` alone for what is piped in; or rows.
        cache_dir: The cache: no data where it lies inside a folder.

    Raises:
        DataError: Nothing is there, or it is not of a known kind.
    """
    if isinstance(paths, GivenRows) or list(map(str, paths)) == [STDIN]:
        given = paths if isinstance(paths, GivenRows) else None
        with lying(given, standing(cache_dir) / "tmp") as file:
            yield Walked([file], {})
    elif STDIN in map(str, paths):
        raise DataError(f"{STDIN}, what is piped in, is given beside files; expected it alone")
    else:
        yield walked(paths, ignored=cache_dir)


@contextmanager
def lying(given: GivenRows | None, folder: Path) -> Iterator[File]:
    """A file that holds some rows until the block ends; its errors name what was given.

    Args:
        given: The rows; None for what is piped into the process.
        folder: Where temporary folders may be made.

    Raises:
        DataError: Nothing is piped in, or the rows are no rows.
    """
    with temporary_folder(folder) as place:
        name = "stdin" if given is None else given.name
        path = place / name
        findings = _copy_stdin(path) if given is None else _write(given, path)
        try:
            yield replace(describe(path, _SAVE), name=name, digest=digest(path), findings=findings)
        except DidactError as error:
            error.args = (str(error).replace(str(path), name),)
            raise


def _copy_stdin(path: Path) -> tuple[Finding, ...]:
    piped = getattr(sys.stdin, "buffer", None)  # notebooks have none
    if piped is None or sys.stdin.isatty():
        raise DataError(
            f"{STDIN}: reads rows that are piped in, and nothing is: e.g. zcat pool.jsonl.gz | "
            "didact inspect -"
        )
    with path.open("wb") as file:
        shutil.copyfileobj(piped, file)
    if not path.stat().st_size:
        raise DataError("stdin: holds nothing; expected rows, which can be piped in and read once")
    return ()


def _write(given: GivenRows, path: Path) -> tuple[Finding, ...]:
    """Write rows as what they are: tables as Arrow, dicts as JSON lines."""
    rows, name = given.rows, given.name
    if isinstance(rows, Mapping):
        splits = ", ".join(map(shown, list(rows)[:6]))
        raise DataError(
            f"{name}: is a {type(rows).__name__} of {splits}; expected rows: pass one of its "
            "splits, or a list of dicts, a row each (of columns: pa.table(columns))"
        )
    schema, batches = _as_batches(rows, name)
    if schema is None:
        return _write_json(rows, name, path)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        try:
            for batch in batches:
                writer.write(batch)
        except (pa.ArrowException, ValueError) as error:
            raise DataError(
                f"{name}: cannot be read as a table ({error}); expected one type a column: pass "
                "the rows as dicts"
            ) from error
    return ()


def _as_batches(rows: Any, name: str) -> tuple[pa.Schema | None, Iterable[Any]]:
    """Schema and batches of a table, whatever library it is of; None of what is no table."""
    if _is(rows, "pandas", "DataFrame"):
        table = _of_pandas(rows, name)
        return table.schema, table.to_batches()
    if _is(rows, "polars", "LazyFrame"):
        rows = rows.collect()
    if _is(rows, "polars", "DataFrame"):
        objects = [column for column, kind in rows.schema.items() if str(kind) == "Object"]
        if objects:  # Arrow would get their addresses
            raise DataError(
                f"{name}: column {objects[0]!r} holds Python objects; expected values that tables "
                "have: convert it, or leave it out"
            )
    if _is(rows, "datasets", "Dataset"):  # its batches are in its own order
        batches = rows.with_format("arrow").iter(batch_size=_BATCH_ROWS)
        schema = rows.features.arrow_schema
        return schema, (batch.cast(schema) for batch in batches)
    try:
        if hasattr(rows, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(rows)
            return reader.schema, reader
        if hasattr(rows, "__arrow_c_array__"):
            batch = pa.record_batch(rows)
            return batch.schema, [batch]
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"{name}: is a {type(rows).__name__} and no table that Arrow has ({error}); expected "
            "columns with names and types: convert it, or pass the rows as dicts"
        ) from error
    return None, ()


def _is_table(rows: Any) -> bool:
    arrow = hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__")
    return arrow or any(_is(rows, *kind) for kind in _TABLES)


def _is(rows: Any, library: str, name: str) -> bool:
    """Whether an object is of a library's class, which need not be installed to be asked."""
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == library
        for kind in type(rows).__mro__
    )


def _of_pandas(frame: Any, name: str) -> pa.Table:
    """A DataFrame as a table: NaN, NaT and None are null; an index counts if it has a name."""
    index = any(level is not None for level in frame.index.names)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=index)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{name}: cannot be read as a table ({'; '.join(map(str, error.args))}); expected each "
            "name once and one type a column: rename, convert, or pass the rows as dicts, which "
            "may differ: frame.to_dict('records')"
        ) from error
    return table.replace_schema_metadata(None)  # which versions wrote it is no part of the rows


def _write_json(rows: Iterable[Any], name: str, path: Path) -> tuple[Finding, ...]:
    """Write dicts as JSON lines; says where NaN or infinity, which JSON has not, was a value."""
    with_nan, first = 0, 0
    number = 0
    with path.open("wb") as file:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise DataError(
                    f"{name}: row {number}: is {shown(row)} ({type(row).__name__}); expected a "
                    "dict, a row by column: {'text': …}, or a table"
                )
            try:
                line = _line(row)
                lacks = b"null" in line and _nulled(row) is not row
            except (TypeError, ValueError, RecursionError) as error:
                raise DataError(
                    f"{name}: row {number}: cannot be written as JSON ({error}); expected text, "
                    "numbers, lists and dicts: convert the value, or pass a table"
                ) from error
            file.write(line)
            if lacks:
                with_nan += 1
                first = first or number
    if not number:
        raise DataError(f"{name}: holds no rows; expected one or more")
    if not with_nan:
        return ()
    text = f"{counted(with_nan, 'row has', 'rows have')} NaN or infinity, read as missing"
    return (Finding("nan", with_nan, f"{name} row {first}", text, ""),)


def _line(row: Mapping[str, Any]) -> bytes:
    row = row if type(row) is dict else dict(row)
    try:
        return orjson.dumps(row, default=_plain, option=_JSON)
    except orjson.JSONEncodeError:  # integers beyond 64 bits, half surrogate pairs, keys not text
        return json.dumps(_nulled(row), default=_plain).encode() + b"\n"


def _nulled(value: Any) -> Any:
    """A value with null where NaN or infinity stands, at any depth; the same where none does."""
    if isinstance(value, float | np.floating):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        of_keys = {key: _nulled(item) for key, item in value.items()}
        return of_keys if any(of_keys[key] is not value[key] for key in of_keys) else value
    if isinstance(value, np.ndarray):
        items = value.tolist()
        found = _nulled(items)
        return value if found is items else found
    if isinstance(value, list | tuple):
        found = [_nulled(item) for item in value]
        return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
    return value


def _plain(value: Any) -> Any:
    """A value as what JSON has: dates as ISO 8601, arrays as lists, what is missing as null."""
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, Mapping):
        return dict(value)
    for convert in ("isoformat", "tolist", "item"):
        if hasattr(value, convert):
            return getattr(value, convert)()
    raise TypeError(f"{shown(value)} is of type {type(value).__name__}")


def paths_or_rows(given: Any) -> list[Given] | GivenRows:
    """What `read` is given, told apart: paths, one or several, or rows.

    Raises:
        DataError: It is neither.
    """
    if isinstance(given, str | os.PathLike | RemotePath):
        return [_path(given)]
    if isinstance(given, GivenRows):
        return given
    if isinstance(given, Mapping) or _is_table(given):
        return GivenRows(given)
    if not isinstance(given, Iterable):
        raise DataError(
            f"{shown(given)} ({type(given).__name__}) is no data; expected paths, dicts, or a "
            "table of pyarrow, pandas, Polars or datasets"
        )
    several = iter(given)
    first = next(several, None)
    if first is None:
        return []
    if isinstance(first, str | os.PathLike | RemotePath):
        return [_path(path) for path in chain([first], several)]
    return GivenRows(chain([first], several))


def _path(given: Any) -> Given:
    return given if isinstance(given, str | RemotePath) else Path(given)
