"""scores.parquet, selection.parquet, order.parquet: the values of the stages, as tables.

Every table carries in its metadata what it is: pool fingerprint, method, direction, settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from didact.core.arrays import Float1D
from didact.core.atomic import replacing
from didact.core.errors import ConfigError, DataError, DidactError
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.core.value_tables import KEY
from didact.data.reading.files import arrow_source, readable

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
    table, meta = _read(path, "scores", without=("row", "id"))
    with _of_anybody(path, "scores"):
        missing = {}
        if "missing" in table.column_names:
            reasons = table.column("missing").combine_chunks().dictionary_encode()
            known = reasons.dictionary.to_pylist()  # rows share the text of their reason
            rows = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False))
            codes = reasons.indices.drop_null().to_pylist()
            missing = {row: known[code] for row, code in zip(rows.tolist(), codes, strict=True)}
        tasks = tuple(meta["tasks"])
        by_task = [_floats(table, f"task:{name}") for name in tasks]
        return Scores(
            values=_floats(table, "score"),
            higher_is_better=meta["higher_is_better"],
            method=meta["method"],
            settings=meta["settings"],
            pool_fingerprint=meta["pool_fingerprint"],
            tasks=tasks,
            by_task=np.stack(by_task, axis=1) if by_task else None,
            parts={
                name.removeprefix("part:"): _floats(table, name)
                for name in table.column_names
                if name.startswith("part:")
            },
            missing=missing,
            facts=meta["facts"],
            spent=meta.get("spent"),  # tables of earlier versions do not say
        )


def _floats(table: pa.Table, name: str) -> Float1D:
    values: Float1D = table.column(name).fill_null(np.nan).to_numpy()
    return values


def write_selection(selection: Selection, scores: Scores | None, pool: Pool, path: Place) -> None:
    """Write `selection.to_table(pool, scores)`."""
    write_table(selection.to_table(pool, scores), path)


def read_selection(path: Place) -> tuple[Selection, pa.StringArray]:
    """A selection and the ids of its rows, from its table or the folder that holds it."""
    path = path / "selection.parquet" if path.is_dir() else path
    table, meta = _read(path, "selection")
    with _of_anybody(path, "selection"):
        reasons = meta["reasons"]
        why = pc.index_in(table.column("why"), pa.array(reasons, pa.string()))
        if why.null_count:
            raise ValueError("a row's reason is none of the table's")
        rank = table.column("rank")
        selection = Selection(
            rows=table.column("row").to_numpy(),
            pool_fingerprint=meta["pool_fingerprint"],
            method=meta["method"],
            settings=meta["settings"],
            rank=rank.to_numpy() if rank.null_count == 0 else None,
            reasons=tuple(reasons),
            why=why.to_numpy().astype(np.int16),
            notes=tuple(meta["notes"]),
        )
        return selection, table.column("id").combine_chunks()


def write_order(order: TrainingOrder, ids: pa.StringArray, path: Place) -> None:
    """Write the table of an order. `ids` are those of `order.rows`, `(k · epochs,)`."""
    write_table(order.table_with(ids), path)


def ids_of(order: TrainingOrder, chosen: Selection, ids: pa.StringArray) -> pa.StringArray:
    """The ids of an order's rows, from the ids of the selection it was made from."""
    return ids.take(pa.array(np.searchsorted(chosen.rows, order.rows)))


def read_order(path: Place) -> TrainingOrder:
    """A training order from its table or the folder that holds it."""
    path = path / "order.parquet" if path.is_dir() else path
    table, meta = _read(path, "order", without=("position", "id"))
    with _of_anybody(path, "order"):
        return TrainingOrder(
            rows=table.column("row").to_numpy(),
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


@contextmanager
def _of_anybody(path: Place, kind: str) -> Iterator[None]:
    """What reading a table that was changed raises, as a DataError with the remedy."""
    try:
        yield
    except (DidactError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise _changed(path, kind, f"{type(error).__name__}: {error}") from error


def _changed(path: Place, kind: str, what: str) -> DataError:
    return DataError(f"{path}: is no {kind} table as didact writes it ({what}); {_REMEDY[kind]}")


def _read(path: Place, kind: str, without: tuple[str, ...] = ()) -> tuple[pa.Table, dict[str, Any]]:
    with readable(path), arrow_source(path) as source, pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        table = file.read([name for name in schema.names if name not in without])
    try:
        found = parse_json((schema.metadata or {}).get(KEY, b"{}"))
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    if found.get("table") != kind:
        what = "a table without didact's metadata"
        if "table" in found:
            what = f"a {found['table']} table"
        raise DataError(f"{path}: is {what}; expected {kind}: {_REMEDY[kind]}")
    odd = [k for k, v in found.items() if k in _TYPES and not isinstance(v, _TYPES[k])]
    if kind == "scores" and found.get("higher_is_better") is None:
        odd.append("higher_is_better")
    if odd:
        raise _changed(path, kind, f"its {odd[0]} is {found.get(odd[0])!r:.60}")
    return table, found
