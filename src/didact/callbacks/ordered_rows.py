"""An order as a trainer reads it: the exported rows, the steps they are made for, their ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow.parquet as pq

from didact.core.arrays import Int1D
from didact.core.atomic import digest
from didact.core.bounded import read_bounded
from didact.core.errors import ConfigError, DataError
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, listed, place
from didact.data import tables
from didact.data.export.ordered import OLD_SETTINGS, SETTINGS
from didact.data.reading.containers import TABLES, TEXTS
from didact.data.reading.discovery import describe
from didact.data.reading.files import File, arrow_source, readable
from didact.data.reading.settings import DataSettings
from didact.data.reading.tables import table_batches
from didact.data.rows.columns import Row, RowError
from didact.data.rows.detection import columns_read, detect, turns_of
from didact.data.rows.filled import filled_columns, without_filled
from didact.data.rows.reasoning import Reasoning
from didact.data.rows.turns import Turn
from didact.reporting.joints import part_joints
from didact.runs.folder import read_manifest

_FILE: Final = re.compile(r"\.(?:jsonl|jsonl\.zst|parquet)$")
_SHARD: Final = re.compile(r"-(\d{5})-of-(\d{5})$")
_TABLES: Final = {"order.parquet", "selection.parquet", "scores.parquet", "evaluation.parquet"}
_NOT_ROWS: Final = re.compile(r"validation|steps|order_log|excluded|rejected(_\w+)?|risk\.json")
_COLUMNS: Final = re.compile(r"^COLUMNS = (\{.*\})  #", re.MULTILINE)
_LEFT_OUT: Final = re.compile(r"^LEAVE_REASONING_OUT = True$", re.MULTILINE)
_BATCH_ROWS, _BATCH_BYTES = 1024, 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedRows:
    """The rows that were exported, in order.

    Attributes:
        files: The files that hold them, in order.
        batch_size: Samples of an optimizer step over all devices; None where any will do.
        columns: The user's names for columns.
        format: Format of the rows; `auto` looks at each.
        reasoning: Whether reasoning traces are part of their answers.
        order: Rows of the pool in order, where the table of the order lies beside the files.
    """

    files: tuple[Place, ...]
    batch_size: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    reasoning: Reasoning = "keep"
    order: Int1D | None = None

    def turns(self) -> Iterator[list[Turn]]:
        """The turns of every row.

        Raises:
            DataError: A row cannot be read, or there are more or fewer than the order has.
        """
        n = 0
        for path in self.files:
            parse = _Parser(self)
            for number, row in _rows(describe(path), self.columns):
                try:
                    yield parse(row)
                except RowError as error:
                    raise DataError(f"{path}:{number}: {error}") from error
                n += 1
        if self.order is not None and n != len(self.order):
            raise DataError(
                f"{self.files[0].parent}: {n} rows where order.parquet has {len(self.order)}; "
                "expected as many: export again"
            )


class _Parser:
    """Row → turns, whatever format each row is of."""

    def __init__(self, ordered: OrderedRows) -> None:
        self._columns, self._name = ordered.columns, ordered.format
        self._reasoning = ordered.reasoning
        self._known: dict[str, Any] = {}

    def __call__(self, row: Row) -> list[Turn]:
        name = detect(row, self._columns) if self._name == "auto" else self._name
        if name not in self._known:
            self._known[name] = turns_of(name, self._columns, self._reasoning)
        found: list[Turn] = self._known[name](row)
        return found


def open_order(
    where: Given, *, columns: Mapping[str, str] | None = None, batch_size: int | None = None
) -> OrderedRows:
    """The exported rows of a run, of a folder of `didact export`, or in one file.

    Args:
        where: A run folder, its manifest, an export folder, or a file of rows.
        columns: The user's names for columns, where neither a manifest nor a training script of
            didact's says them.
        batch_size: Samples of an optimizer step, where no order says it.

    Raises:
        DataError: There are no exported rows, or they are not what the run wrote.
        ConfigError: The order was made for another batch size.
    """
    path = place(where)
    if path.name == "manifest.json":
        path = path.parent
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a run folder or exported rows")
    found = OrderedRows(files=(path,)) if path.is_file() else _in_folder(path)
    found = _with_order(found, path.parent if path.is_file() else path)
    if columns is not None:
        found = replace(found, columns=dict(columns))
    if batch_size is not None and found.batch_size not in {None, batch_size}:
        raise ConfigError(
            f"batch_size={batch_size}: the order was made for steps of {found.batch_size} samples; "
            "leave batch_size out, or order again"
        )
    return found if batch_size is None else replace(found, batch_size=batch_size)


def _in_folder(folder: Place) -> OrderedRows:
    if (folder / "manifest.json").is_file():
        return _of_run(folder)
    names = [p.name for p in order_files(folder)]
    if not names:
        raise DataError(
            f"{folder}: no exported rows; expected train.jsonl or the like: give the folder that "
            "'didact run' or 'didact export' wrote"
        )
    stems = {_SHARD.sub("", _stem(n)) for n in names}
    if len(stems) > 1:
        raise DataError(
            f"{folder}: holds {', '.join(names[:4])}; expected the rows of one export: give the "
            "file that is trained on"
        )
    _check_shards(folder, names)
    return _as_scripted(OrderedRows(files=tuple(folder / n for n in names)), folder)


def order_files(folder: Place) -> list[Place]:
    """Files of rows in a folder, by name: no tables of didact's, no logs, no validation split."""
    names = sorted(p.name for p in listed(folder, "*") if p.is_file() and _FILE.search(p.name))
    return [folder / n for n in names if not is_record(n)]


def is_record(name: str) -> bool:
    """Whether a file of this name is a table, log or list of didact's beside the rows."""
    return name in _TABLES or _NOT_ROWS.fullmatch(_stem(name)) is not None


def _of_run(folder: Place) -> OrderedRows:
    manifest = read_manifest(folder)
    record = manifest.stage("export")
    if record is None:
        raise DataError(f"{folder}: the run exported nothing; expected its rows in order")
    names = [n for n in sorted(record.outputs) if "/" not in n and _stem(n) != "validation"]
    for name in names:
        if not (folder / name).is_file() or digest(folder / name) != record.outputs[name]:
            raise DataError(
                f"{folder / name}: was changed or removed since the run; run the same command "
                "again to mend it"
            )
    data = manifest.config.get("data") or {}
    form = str(data.get("format", "auto"))
    known = TEXTS.get(form)
    return OrderedRows(
        files=tuple(folder / n for n in names),
        columns=dict(data.get("columns") or {}),
        reasoning=data.get("reasoning", "keep"),
        format="auto" if known is not None else form,
    )


def _with_order(found: OrderedRows, folder: Place) -> OrderedRows:
    table = folder / "order.parquet"
    if not table.is_file():
        return found
    order = tables.read_order(table)
    return replace(found, batch_size=order.batch_size, order=order.rows)


def _stem(name: str) -> str:
    return _FILE.sub("", name)


def _check_shards(folder: Place, names: list[str]) -> None:
    marks = [_SHARD.search(_stem(n)) for n in names]
    told = {int(m[2]) for m in marks if m is not None}
    if len(names) > 1 and (None in marks or told != {len(names)}):
        raise DataError(
            f"{folder}: holds {len(names)} files of {max(told, default=1)}; expected all of them, "
            "and no other rows beside them"
        )


def _as_scripted(rows: OrderedRows, folder: Place) -> OrderedRows:
    """The rows, read as a training script of didact's beside them reads them."""
    scripts = [listed(folder, f"{name}/train_*.py") for name in (SETTINGS, OLD_SETTINGS)]
    for script in (path for found in scripts for path in found):
        try:
            with readable(script):
                text = read_bounded(script).decode("utf-8", "replace")
            found = _COLUMNS.search(text)
            columns = {} if found is None else parse_json(found[1])
        except ValueError:  # no script of didact's
            continue
        if found is not None and all(isinstance(name, str) for name in columns.values()):
            reasoning: Reasoning = "drop" if _LEFT_OUT.search(text) else "keep"
            return replace(rows, columns=columns, reasoning=reasoning)
    return rows


def _rows(file: File, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    """Number, from 1, and values of every row of a file."""
    if file.container in TABLES:
        yield from _table_rows(file, columns)
        return
    container = TEXTS[file.container]
    for number, data, fault in container.rows(file, DataSettings()):
        try:
            if fault:
                raise RowError(fault)  # noqa: TRY301 - one place adds file and row
            yield number, container.parse(data)[0]
        except RowError as error:
            raise DataError(f"{file.path}:{number}: {error}") from error


def _table_rows(file: File, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    schema = TABLES[file.container].schema(file)
    known = columns_read(columns)
    names = [name for name in schema.names if name in known]
    filled = [name for name in filled_columns(schema, columns) if name in known]
    number = 0
    batches = table_batches(file, schema, batch_rows=_BATCH_ROWS, batch_bytes=_BATCH_BYTES)
    for batch in batches:
        for row in batch.select(names).to_pylist():
            number += 1
            yield number, without_filled(row, filled, columns) if filled else row


def order_ids(where: Given) -> tuple[list[str], Int1D, int | None]:
    """Ids and rows of the pool in training order, and samples of a step.

    Args:
        where: A run folder, its manifest, or the table of an order.

    Raises:
        DataError: There is no order.
    """
    path = place(where)
    path = path.parent if path.name == "manifest.json" else path
    table = path / "order.parquet" if path.is_dir() else path
    if not table.is_file():
        raise DataError(
            f"{table}: no such file; expected the order of a run: give its folder, its "
            "manifest.json or order.parquet"
        )
    order = tables.read_order(table)
    with readable(table), arrow_source(table) as source:
        ids = pq.read_table(source, columns=["id"]).column("id").to_pylist()
    return [str(i) for i in ids], order.rows, order.batch_size


def order_joints(where: Given) -> tuple[int, ...] | None:
    """Last steps before the joints of an order's first epoch; None where its steps are not known.

    Args:
        where: A run folder, or the table of an order.
    """
    path = place(where)
    order = tables.read_order(path / "order.parquet" if path.is_dir() else path)
    if order.batch_size is None:
        return None
    first = len(order) // order.epochs
    return tuple(round(j.at / order.batch_size) for j in part_joints(order) if 0 < j.at < first)
