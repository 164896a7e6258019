"""Scores, selections and orders as Arrow tables, whose metadata says what they are.

`didact.data.tables` writes and reads them as Parquet files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Float1D

if TYPE_CHECKING:
    from didact.core.scores import Scores, Selection, TrainingOrder

KEY: Final = b"didact"  # of the metadata


def described(table: str, facts: Mapping[str, Any]) -> dict[bytes, str]:
    """The metadata of a table: its name and what it depends on."""
    return {KEY: json.dumps({"table": table, **facts}, sort_keys=True)}


def scores_schema(scores: Scores) -> pa.Schema:
    """`row, id, score`, then `task:<name>`, `part:<name>` and `missing` where there are any."""
    fields = [
        pa.field("row", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("score", pa.float64()),
    ]
    fields += [pa.field(f"task:{name}", pa.float64()) for name in scores.tasks]
    fields += [pa.field(f"part:{name}", pa.float64()) for name in scores.parts]
    if scores.missing:
        fields.append(pa.field("missing", pa.string()))
    facts = {
        "pool_fingerprint": scores.pool_fingerprint,
        "method": scores.method,
        "higher_is_better": scores.higher_is_better,
        "settings": dict(scores.settings),
        "tasks": list(scores.tasks),
        "facts": dict(scores.facts),
        "spent": None if scores.spent is None else dict(scores.spent),
    }
    return pa.schema(fields, metadata=described("scores", facts))


def scores_batch(scores: Scores, rows: range, ids: pa.Array, schema: pa.Schema) -> pa.RecordBatch:
    """Some rows of the table of scores, `ids` theirs."""
    inside = slice(rows.start, rows.stop)
    columns: list[Any] = [np.arange(rows.start, rows.stop), ids, _nullable(scores.values[inside])]
    if scores.by_task is not None:
        columns += [_nullable(scores.by_task[inside, t]) for t in range(len(scores.tasks))]
    columns += [_nullable(values[inside]) for values in scores.parts.values()]
    if scores.missing:
        columns.append([scores.missing.get(row) for row in rows])
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def selection_table(selection: Selection, scores: Scores | None, ids: pa.Array) -> pa.Table:
    """`row, id, rank, score, why`, ascending by row."""
    rows = selection.rows
    score = scores.values[rows] if scores is not None else np.full(len(rows), np.nan)
    why = pa.DictionaryArray.from_arrays(pa.array(selection.why), pa.array(selection.reasons))
    columns = {
        "row": pa.array(rows),
        "id": ids,
        "rank": pa.nulls(len(rows), pa.int64()) if selection.rank is None else selection.rank,
        "score": _nullable(score),
        "why": why.cast(pa.string()),
    }
    facts = {
        "pool_fingerprint": selection.pool_fingerprint,
        "method": selection.method,
        "settings": dict(selection.settings),
        "reasons": list(selection.reasons),
        "notes": list(selection.notes),
        "score_method": scores.method if scores is not None else None,
        "higher_is_better": scores.higher_is_better if scores is not None else None,
    }
    return pa.table(columns).replace_schema_metadata(described("selection", facts))


def order_table(order: TrainingOrder, ids: pa.Array) -> pa.Table:
    """`position, row, id`, in training order."""
    columns = {"position": np.arange(len(order)), "row": order.rows, "id": ids}
    facts = {
        "pool_fingerprint": order.pool_fingerprint,
        "method": order.method,
        "settings": dict(order.settings),
        "epochs": order.epochs,
        "batch_size": order.batch_size,
    }
    return pa.table(columns).replace_schema_metadata(described("order", facts))


def _nullable(values: Float1D) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))
