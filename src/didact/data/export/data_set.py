"""The ordered data set: the user's own rows, in training order, in the trainer's kind of file."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO, Final, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from didact.core import registry
from didact.core.arrays import Int1D
from didact.core.atomic import replacing, send, writable
from didact.core.cost import Metered
from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Known, Pool
from didact.core.protocols import Context, Progress
from didact.core.registry import NameIn
from didact.core.scores import TrainingOrder, check_pool
from didact.core.scratch import scratch
from didact.data.export.ordered import NOTE, SETTINGS, OrderedDataSet
from didact.data.reading.json_rows import json_row
from didact.data.rows.columns import Row, shown

Format = Literal["jsonl", "jsonl.zst", "parquet"]

INDEX: Final = "order_index"
VALIDATION: Final = "validation"
_AT_ONCE: Final = 4096  # rows written at a time
_READ_ROWS: Final = 8 * _AT_ONCE  # at most, of rows that are read before they are put in order
_READ_BYTES: Final = 32 * 2**20  # of their texts
_WORTH_PROCESSES: Final = 100 * 10**6  # bytes: a process starts in 0.5 s, 100 MB are written in 1
_DEEPEST: Final = 40  # Parquet readers stop at 100 levels, and a list has two
_DIGITS: Final = 5  # of a shard's number


class ExportSettings(BaseModel):
    """What the ordered data set looks like.

    Attributes:
        trainer: `for` in files: whose ready settings to write into `settings/`.
        format: `auto` is Parquet for Parquet and Arrow pools, else JSONL. Parquet tells every
            row's columns; `load_dataset("json")` fails where one first appears after 10 MB.
        shards: Number of files; names are zero-padded, and sorted names are the training order.
        order_index: Add the position in the training order to each row.
        name: Stem of the files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    trainer: Annotated[str, NameIn("trainers", "none"), Field(alias="for")] = "none"
    format: Literal["auto", "jsonl", "jsonl.zst", "parquet"] = "auto"
    shards: Annotated[int, Field(ge=1, le=10**_DIGITS)] = 1
    order_index: bool = False
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "train"


def write_data_set(
    pool: Pool, order: TrainingOrder, folder: Place, settings: ExportSettings, ctx: Context
) -> list[Place]:
    """Write the ordered files, the validation split if there is one, and the trainer's settings.

    The rows are the user's own, every field as it came.

    What the trainer cannot take is refused before any row is written. Of several files with much
    text each is written by a worker.

    Returns:
        The files written, the ordered ones first and in order.

    Raises:
        PoolMismatchError: The order belongs to another pool.
        DataError: The order cannot be written so; a row already has a field that is to be added;
            rows have no common Parquet schema; the disk is full.

    **Cost:** reads each exported row once (for Parquet from JSON twice), writes it once; of some
    ten thousand rows in memory at a time those that lie together are read together.
    """
    check_pool(
        "the order's rows", order.pool_fingerprint, pool.fingerprint,
        "re-run 'didact order' or pass the pool it was made from",
    )  # fmt: skip
    fmt: Format = "parquet" if pool.record_format == "arrow" else "jsonl"
    if settings.format != "auto":
        fmt = settings.format
    has_validation = bool(pool.in_validation.any())
    _check_order(pool, order, settings, has_validation=has_validation)
    if isinstance(folder, Path):
        with writable(folder, "choose another folder with -o"):
            folder.mkdir(parents=True, exist_ok=True)
    names = _names(settings, fmt)
    validation = f"{VALIDATION}.{fmt}" if has_validation else None
    once = (pool.copy_number == 1) | (not pool.dedup)
    held = np.flatnonzero(pool.in_validation & once)
    of_trainer: list[Place] = []
    if settings.trainer != "none":
        data = OrderedDataSet(
            data_files=names,
            validation_file=validation,
            batch_size=order.batch_size,
            epochs=order.epochs,
            rows=lambda: _parsed_rows(pool, order.rows),
            validation_rows=lambda: _parsed_rows(pool, held),
            nulls_are_filled_in=fmt == "parquet" or pool.record_format == "arrow",
            **_about(pool),
        )
        of_trainer = _write_settings(settings.trainer, folder / SETTINGS, data)
    bounds = np.linspace(0, len(order), settings.shards + 1).astype(np.int64).tolist()
    parts = [
        _Part(folder / name, fmt, order.rows[start:stop], start if settings.order_index else None)
        for name, start, stop in zip(names, bounds, bounds[1:], strict=False)
    ]
    if validation is not None:
        parts.append(_Part(folder / validation, fmt, held, None))
    _write(pool, parts, folder, ctx)
    return [part.path for part in parts] + of_trainer


@dataclass(frozen=True, slots=True)
class _Part:
    """One file.

    Attributes:
        path: The file.
        format: Its kind.
        rows: Its rows, in order.
        first: The order index of the first of them; None to leave it out.
        known: What a worker has to know of them.
    """

    path: Place
    format: Format
    rows: Int1D
    first: int | None
    known: Known | None = None

    def __repr__(self) -> str:
        return f"writing {self.path}"


def _write(pool: Pool, parts: Sequence[_Part], folder: Place, ctx: Context) -> None:
    """Write some files, in processes where that takes less time."""
    n_rows, done = sum(len(part.rows) for part in parts), 0
    with closing(_written(pool, parts, folder, ctx)) as written:  # nobody writes once this ends
        for part, _ in zip(parts, written, strict=True):
            done += len(part.rows)
            ctx.progress(Progress("export", done, n_rows))


def _written(pool: Pool, parts: Sequence[_Part], folder: Place, ctx: Context) -> Generator[object]:
    n_bytes = sum(int(pool.n_bytes[part.rows].sum()) for part in parts)
    worth = len(parts) > 1 and ctx.executor.workers > 1 and n_bytes >= _WORTH_PROCESSES
    if worth and ctx.executor.sees(folder):
        sent = (replace(part, known=pool.known(part.rows)) for part in parts)
        yield from ctx.executor.apart().map(_write_part, sent, shared=pool)
    else:
        yield from (_write_part(pool, part) for part in parts)


def _write_part(pool: Pool, part: _Part) -> Metered[None]:
    if part.known is not None:  # the index of a whole pool may be larger than a worker's memory
        pool = pool.knowing(part.known)
    _write_rows(pool, part.rows, part.path, part.format, part.first)
    return Metered(None)


def _write_settings(trainer: str, folder: Place, data: OrderedDataSet) -> list[Place]:
    """Write the trainer's settings; the files."""
    write = registry.find("trainers", trainer)
    if isinstance(folder, Path):
        return [*write(folder, data)]
    with TemporaryDirectory(dir=scratch("passing")) as place:
        written: list[Path] = write(Path(place) / SETTINGS, data)
        sent = [folder / file.relative_to(Path(place) / SETTINGS).as_posix() for file in written]
        for file, to in zip(written, sent, strict=True):
            send(file, to)
    return [*sent]


def _about(pool: Pool) -> dict[str, Any]:
    return {"kind": pool.kind, **{k: pool.meta[k] for k in ("formats", "columns", "reasoning")}}


def check_trainer(pool: Pool, settings: ExportSettings) -> None:
    """Refuse a trainer that cannot take the pool's samples, without any order: a trial of no rows.

    Raises:
        DataError: It cannot.
    """
    if settings.trainer == "none":
        return
    data = OrderedDataSet(
        data_files=_names(settings, "jsonl"),
        validation_file=None,
        batch_size=None,
        epochs=1,
        **_about(pool),
    )
    with TemporaryDirectory() as place:
        registry.find("trainers", settings.trainer)(Path(place) / SETTINGS, data)


def _check_order(
    pool: Pool, order: TrainingOrder, settings: ExportSettings, *, has_validation: bool
) -> None:
    rows = order.rows
    if len(rows) and not (rows.min() >= 0 and rows.max() < len(pool)):
        raise DataError(f"the order has rows {rows.min()}..{rows.max()} of a pool of {len(pool)}")
    if settings.shards > max(len(rows), 1):
        raise DataError(
            f"export.shards: {settings.shards} files for {len(rows)} rows; expected a row or more "
            "in each: ask for fewer"
        )
    n_validation = int(np.count_nonzero(pool.in_validation[rows]))
    if n_validation:
        raise DataError(
            f"the order holds {n_validation} rows of the validation split; expected none: select "
            "again, or read the pool with validation=0"
        )
    if has_validation and settings.shards == 1 and settings.name == VALIDATION:
        raise DataError(
            f"export.name: {VALIDATION!r} is the name of the validation split's file; choose "
            "another"
        )


def _names(settings: ExportSettings, fmt: Format) -> list[str]:
    name, n = settings.name, settings.shards
    if n == 1:
        return [f"{name}.{fmt}"]
    return [f"{name}-{i:0{_DIGITS}d}-of-{n:0{_DIGITS}d}.{fmt}" for i in range(n)]


def _write_rows(pool: Pool, rows: Int1D, path: Place, fmt: Format, first: int | None) -> None:
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


def _parsed_rows(pool: Pool, rows: Int1D) -> Iterator[Row]:
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


def export_notes(pool: Pool, settings: ExportSettings, files: Iterable[Place]) -> tuple[str, ...]:
    """What should be known of an export: what a trainer's files note, what JSON cannot hold.

    A trainer's note is a line of its YAML settings that begins with `# note: `, as `settings_text`
    writes them: it is said when the files are written, and stays in them.

    Args:
        pool: The pool.
        settings: How it was exported.
        files: The files written.
    """
    notes = [
        line.removeprefix(NOTE)
        for path in files
        if path.parent.name == SETTINGS and path.suffix == ".yaml"
        for line in path.read_text("utf-8").splitlines()
        if line.startswith(NOTE)
    ]
    if pool.record_format == "json" or settings.format not in {"jsonl", "jsonl.zst"}:
        return tuple(notes)
    inexact = re.compile(r"binary|duration|decimal|\[ns")
    names = [f.name for f in pool.record_schema if inexact.search(str(f.type))]
    if names:
        note = f"JSON holds these columns only as text or less exactly: {', '.join(names)}; "
        notes.append(note + "export as parquet to keep them as they came")
    return tuple(notes)


def output_counts(pool: Pool, order: TrainingOrder) -> dict[str, Any]:
    """Rows, bytes and tokens of the ordered data set, and rows of the validation split."""
    return {
        "rows": len(order),
        "bytes": int(pool.n_bytes[order.rows].sum()),
        "tokens": int(pool.n_tokens[order.rows].sum()),
        "validation_rows": int(np.count_nonzero(pool.in_validation)),
    }
