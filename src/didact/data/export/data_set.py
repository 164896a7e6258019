"""The ordered data set: the user's own rows, in training order, in the trainer's kind of file."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from didact.core import registry
from didact.core.arrays import Int1D
from didact.core.atomic import send, writable
from didact.core.cost import Metered
from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Known, Pool
from didact.core.protocols import Context, Progress
from didact.core.registry import NameIn
from didact.core.scores import TrainingOrder, check_pool
from didact.core.scratch import scratch
from didact.data.export.ordered import NOTE, SETTINGS, OrderedDataSet
from didact.data.export.row_files import Format, parsed_rows, write_rows

VALIDATION: Final = "validation"
_WORTH_PROCESSES: Final = 100 * 10**6  # bytes: a process starts in 0.5 s, 100 MB are written in 1
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
            rows=lambda: parsed_rows(pool, order.rows),
            validation_rows=lambda: parsed_rows(pool, held),
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
    write_rows(pool, part.rows, part.path, part.format, part.first)
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
