"""The ordered data set: the user's own rows, in training order, in the trainer's kind of file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.core.scores import Int1D, TrainingOrder, check_pool
from didact.data.atomic import replacing
from didact.data.trainers import TrainerName, write_trainer_files

_PART = 4096  # rows in memory at a time
INDEX = "order_index"


class ExportSettings(BaseModel):
    """What the ordered data set looks like.

    Attributes:
        trainer: `for` in files: whose ready settings to write into `trainer/`.
        format: `auto` is Parquet for Parquet and Arrow pools, else JSONL.
        shards: Number of files; names are zero-padded, and sorted names are the training order.
        order_index: Add the position in the training order to each row.
        name: Stem of the files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    trainer: TrainerName = Field("none", alias="for")
    format: Literal["auto", "jsonl", "jsonl.zst", "parquet"] = "auto"
    shards: Annotated[int, Field(ge=1, le=99999)] = 1
    order_index: bool = False
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "train"


def write_data_set(
    pool: Pool, order: TrainingOrder, folder: Path, settings: ExportSettings
) -> list[Path]:
    """Write the ordered files, the validation split if there is one, and the trainer's settings.

    Returns:
        The files written, the ordered ones first and in order.

    Raises:
        PoolMismatchError: The order belongs to another pool.
        DataError: A row already has a column `order_index`, or rows have no common Parquet schema.

    Cost: reads each exported row once, writes it once; 4,096 rows in memory.
    """
    check_pool(
        "the order's rows", order.pool_fingerprint, pool.fingerprint,
        "re-run 'didact order' or pass the pool it was made from",
    )  # fmt: skip
    fmt = settings.format
    if fmt == "auto":
        fmt = "parquet" if pool.record_format == "arrow" else "jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, len(order), settings.shards + 1).astype(np.int64)
    names = [f"{settings.name}.{fmt}"]
    if settings.shards > 1:
        width = len(str(max(settings.shards - 1, 99999)))
        names = [
            f"{settings.name}-{i:0{width}d}-of-{settings.shards:0{width}d}.{fmt}"
            for i in range(settings.shards)
        ]
    paths = [folder / name for name in names]
    for path, start, stop in zip(paths, bounds, bounds[1:], strict=False):
        _write_rows(pool, order.rows[start:stop], path, fmt, int(start) if settings.order_index else None)
    written = list(paths)
    first_copy = np.flatnonzero(pool.held & ((pool.copy == 1) | (not pool.dedup)))
    if pool.held.any():
        held = folder / f"validation.{fmt}"
        _write_rows(pool, first_copy, held, fmt, None)
        written.append(held)
    if settings.trainer != "none":
        written += write_trainer_files(
            folder / "trainer",
            trainer=settings.trainer,
            data_files=names,
            validation_file=f"validation.{fmt}" if pool.held.any() else None,
            kind=pool.kind,
            formats=pool.meta["formats"],
            columns=pool.meta["columns"],
            batch_size=order.batch_size,
            epochs=order.epochs,
        )
    return written


def _write_rows(pool: Pool, rows: Int1D, path: Path, fmt: str, first: int | None) -> None:
    """Rows in the order given; `first` is the order index of the first one, None to leave it out."""
    if fmt == "parquet":
        _write_parquet(pool, rows, path, first)
        return
    with replacing(path) as temporary, _writer(temporary, compress=fmt == "jsonl.zst") as file:
        for at in range(0, len(rows), _PART):
            part = [_one_line(r) for r in pool.records(rows[at : at + _PART])]
            if first is not None:
                part = [_indexed(row, first + at + i) for i, row in enumerate(part)]
            file.write(b"".join(row + b"\n" for row in part))


@contextmanager
def _writer(path: Path, *, compress: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if not compress:
            yield raw
            return
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
            yield cast("BinaryIO", file)


def _one_line(row: bytes) -> bytes:
    """A row without line ends, which JSON allows only between its tokens."""
    return row if b"\n" not in row else row.replace(b"\r", b" ").replace(b"\n", b" ")


def _indexed(row: bytes, position: int) -> bytes:
    """The row with its position appended; every other byte as it came."""
    import orjson

    body = row.rstrip()
    parsed = orjson.loads(body) if f'"{INDEX}"'.encode() in body else {}
    if INDEX in parsed:
        raise DataError(
            f"a row already has the column {INDEX!r} ({parsed[INDEX]!r}); expected none: rename it, "
            "or export without order_index"
        )
    inside = body[:-1].rstrip()
    comma = b"" if inside.endswith(b"{") else b", "
    return inside + comma + f'"{INDEX}": {position}'.encode() + b"}"


def _write_parquet(pool: Pool, rows: Int1D, path: Path, first: int | None) -> None:
    schema = _arrow_schema(pool, rows)
    if first is not None:
        if INDEX in schema.names:
            raise DataError(f"the rows already have a column {INDEX!r}; export without order_index")
        schema = schema.append(pa.field(INDEX, pa.int64()))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for at in range(0, len(rows), _PART):
            part = rows[at : at + _PART]
            if pool.record_format == "arrow":
                table = pool.record_table(part)
            else:
                wanted = schema if first is None else schema.remove(len(schema) - 1)
                table = _as_table(pool, part, wanted)
            if first is not None:
                index = pa.array(np.arange(first + at, first + at + len(part)))
                table = table.append_column(pa.field(INDEX, pa.int64()), index)
            writer.write_table(table.cast(schema))


def _as_table(pool: Pool, rows: Int1D, schema: pa.Schema | None) -> pa.Table:
    """JSON rows as an Arrow table; every key of every row becomes a column."""
    import pyarrow.json as pj

    lines = b"".join(_one_line(r) + b"\n" for r in pool.records(rows))
    options = pj.ParseOptions(explicit_schema=schema) if schema is not None else pj.ParseOptions()
    # one block: with several, a field that first occurs in a later one is an error
    read = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    try:
        return pj.read_json(io.BytesIO(lines), parse_options=options, read_options=read)
    except pa.ArrowException as error:
        raise DataError(
            f"the rows have no common Parquet schema ({error}); a column changes its type between "
            "rows: export as jsonl, which keeps every row as it came"
        ) from error


def _arrow_schema(pool: Pool, rows: Int1D) -> pa.Schema:
    """One schema that holds every row to be written."""
    if pool.record_format == "arrow":
        return pool.record_table(rows[:0]).schema
    schemas = [
        _as_table(pool, rows[at : at + _PART], None).schema for at in range(0, len(rows), _PART)
    ]
    try:
        return pa.unify_schemas([_merged(s) for s in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"the rows have no common Parquet schema ({error}); a column changes its type between "
            "rows: export as jsonl, which keeps every row as it came"
        ) from error


def _merged(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, f.type) for f in schema])


def output_counts(pool: Pool, order: TrainingOrder) -> dict[str, Any]:
    """Rows, bytes and tokens of the ordered data set."""
    return {
        "rows": len(order),
        "bytes": int(pool.n_bytes[order.rows].sum()),
        "tokens": int(pool.n_tokens[order.rows].sum()),
        "validation_rows": int(pc.sum(pa.array(pool.held)).as_py() or 0),
    }
