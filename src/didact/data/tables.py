"""scores.parquet, selection.parquet, order.parquet: the values of the stages, as tables.

Every table carries in its metadata what it is: pool fingerprint, method, direction, settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from didact.core.atomic import replacing
from didact.core.errors import ConfigError, DataError, DidactError
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.core.value_tables import KEY
from didact.data.reading.files import arrow_source, readable

_GROUPED: Final = 4  # batches of a selection or an order in a row group
_READ_ROWS: Final = 2**16  # of a table in memory at a time
_REMEDY = {
    "scores": "make it with 'didact score POOL --method NAME -o FILE'",
    "selection": "make it with 'didact select POOL --method NAME --budget samples=N -o DIR'",
    "order": "make it with 'didact order SELECTION --scores FILE --method NAME -o FILE'",
}


def write_scores(scores: Scores, pool: Pool, path: Place) -> None:
    """Write `scores.to_table(pool)`, a batch of the pool at a time."""
    schema = scores.table_schema()
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in scores.batches(pool):
            writer.write_batch(batch)


def read_scores(path: Place) -> Scores:
    """Scores from their table.

    Raises:
        DataError: The file is not such a table.
    """
    with _opened(path, "scores") as (file, meta):
        n, missing = file.metadata.num_rows, dict[int, str]()
        with _of_anybody(path, "scores"):
            tasks = tuple(meta["tasks"])
            by_task = np.empty((n, len(tasks)))
            columns = {f"task:{task}": by_task[:, k] for k, task in enumerate(tasks)}
            names = file.schema_arrow.names
            parts = {name: np.empty(n) for name in names if name.startswith("part:")}
            columns |= {"score": np.empty(n), **parts}
        for some, batch in _batches(file, ("row", "id")):
            with _of_anybody(path, "scores"):
                for name, column in columns.items():
                    column[some] = batch.column(name).fill_null(np.nan).to_numpy()
                if "missing" in batch.schema.names:
                    reasons = batch.column("missing").dictionary_encode()
                    known = reasons.dictionary.to_pylist()  # rows share the text of their reason
                    rows = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False))
                    codes = reasons.indices.drop_null().to_pylist()
                    found = zip((rows + some.start).tolist(), codes, strict=True)
                    missing.update((row, known[code]) for row, code in found)
        with _of_anybody(path, "scores"):
            return Scores(
                values=columns["score"],
                higher_is_better=meta["higher_is_better"],
                method=meta["method"],
                settings=meta["settings"],
                pool_fingerprint=meta["pool_fingerprint"],
                tasks=tasks,
                by_task=by_task if tasks else None,
                parts={name.removeprefix("part:"): column for name, column in parts.items()},
                missing=missing,
                facts=meta["facts"],
                spent=meta.get("spent"),  # tables of earlier versions do not say
            )


def write_selection(selection: Selection, scores: Scores | None, pool: Pool, path: Place) -> None:
    """Write `selection.to_table(pool, scores)`, a part at a time."""
    _write(selection.table_schema(scores), selection.batches(pool, scores), path)


def read_selection(path: Place) -> Selection:
    """A selection from its table or the folder that holds it; `read_ids` gives its ids."""
    path = path / "selection.parquet" if path.is_dir() else path
    with _opened(path, "selection") as (file, meta):
        n, ranked = file.metadata.num_rows, True
        rows, rank, why = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int16)
        for some, batch in _batches(file, ("id", "score")):
            with _of_anybody(path, "selection"):
                reasons = pa.array(meta["reasons"], pa.string())
                code = pc.index_in(batch.column("why"), reasons)
                if code.null_count:
                    raise ValueError("a row's reason is none of the table's")
                rows[some], why[some] = batch.column("row").to_numpy(), code.to_numpy()
                ranked = ranked and batch.column("rank").null_count == 0
                if ranked:
                    rank[some] = batch.column("rank").to_numpy()
        with _of_anybody(path, "selection"):
            return Selection(
                rows=rows,
                pool_fingerprint=meta["pool_fingerprint"],
                method=meta["method"],
                settings=meta["settings"],
                rank=rank if ranked else None,
                reasons=tuple(meta["reasons"]),
                why=why,
                notes=tuple(meta["notes"]),
            )


def read_ids(path: Place) -> pa.StringArray:
    """The ids of a selection's rows, from its table or the folder that holds it."""
    path = path / "selection.parquet" if path.is_dir() else path
    with _opened(path, "selection") as (file, _):
        return file.read(["id"]).column("id").combine_chunks()


def write_order(order: TrainingOrder, ids: Pool | pa.StringArray, path: Place) -> None:
    """Write the table of an order, a part at a time.

    Args:
        order: The order.
        ids: Those of `order.rows`, `(k · epochs,)`, or the pool, which has them.
        path: The file.
    """
    _write(order.table_schema(), order.batches(ids), path)


def _write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Place) -> None:
    """Write a table whole, some batches a row group."""
    rest = iter(batches)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while together := list(islice(rest, _GROUPED)):
            writer.write_table(pa.Table.from_batches(together))


def ids_of(order: TrainingOrder, chosen: Selection, ids: pa.StringArray) -> pa.StringArray:
    """The ids of an order's rows, from the ids of the selection it was made from."""
    return ids.take(pa.array(np.searchsorted(chosen.rows, order.rows)))


def read_order(path: Place) -> TrainingOrder:
    """A training order from its table or the folder that holds it."""
    path = path / "order.parquet" if path.is_dir() else path
    with _opened(path, "order") as (file, meta):
        rows = np.empty(file.metadata.num_rows, np.int64)
        for some, batch in _batches(file, ("position", "id")):
            with _of_anybody(path, "order"):
                rows[some] = batch.column("row").to_numpy()
        with _of_anybody(path, "order"):
            return TrainingOrder(
                rows=rows,
                pool_fingerprint=meta["pool_fingerprint"],
                method=meta["method"],
                settings=meta["settings"],
                epochs=meta["epochs"],
                batch_size=meta["batch_size"],
            )


def check_replaceable(path: Place) -> None:
    """Raise ConfigError when a file that is not one of our tables would be written over."""
    if not path.exists():
        return
    try:
        ours = path.is_file() and KEY in _schema(path)
    except pa.ArrowException:
        ours = False
    if not ours:
        raise ConfigError(
            f"{path} exists and is no table of didact's; choose another name with -o, or remove it"
        )


def _schema(path: Place) -> Mapping[bytes, bytes]:
    with arrow_source(path) as source:
        return pq.read_schema(source).metadata or {}


def write_table(table: pa.Table, path: Place) -> None:
    """Write a table whole."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


# What metadata holds, by key; a table may come from anybody.
_TYPES: dict[str, Any] = {
    "pool_fingerprint": str,
    "method": str,
    "settings": dict,
    "higher_is_better": bool | None,
    "tasks": list,
    "facts": dict,
    "spent": dict | None,
    "reasons": list,
    "notes": list,
    "epochs": int,
    "batch_size": int | None,
    "score_method": str | None,
}


def _changed(path: Place, kind: str, what: str) -> DataError:
    return DataError(f"{path}: is no {kind} table as didact writes it ({what}); {_REMEDY[kind]}")


@contextmanager
def _of_anybody(path: Place, kind: str) -> Iterator[None]:
    """What reading a table that was changed raises, as a DataError with the remedy."""
    try:
        yield
    except (DidactError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise _changed(path, kind, f"{type(error).__name__}: {error}") from error


@contextmanager
def _opened(path: Place, kind: str) -> Iterator[tuple[pq.ParquetFile, dict[str, Any]]]:
    """A table's file and what its metadata says."""
    with readable(path), arrow_source(path) as source, pq.ParquetFile(source) as file:
        yield file, _described(path, kind, file.schema_arrow.metadata or {})


def _batches(
    file: pq.ParquetFile, without: Sequence[str]
) -> Iterator[tuple[slice, pa.RecordBatch]]:
    """A table without some columns, some rows at a time, and which rows they are."""
    names = [name for name in file.schema_arrow.names if name not in without]
    done = 0
    for batch in file.iter_batches(_READ_ROWS, columns=names):
        yield slice(done, done + len(batch)), batch
        done += len(batch)


def _described(path: Place, kind: str, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        found = parse_json(metadata.get(KEY, b"{}"))
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    if found.get("table") != kind:
        what = "a table without didact's metadata"
        if "table" in found:
            what = f"a table of kind {found['table']!r:.60}"
        raise DataError(f"{path}: is {what}; expected {kind}: {_REMEDY[kind]}")
    odd = [k for k, v in found.items() if k in _TYPES and not isinstance(v, _TYPES[k])]
    if kind == "scores" and found.get("higher_is_better") is None:
        odd.append("higher_is_better")
    if odd:
        raise _changed(path, kind, f"its {odd[0]} is {found.get(odd[0])!r:.60}")
    return found
