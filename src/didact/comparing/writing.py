"""Writing: the files that a comparison ends in, each whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from didact.core.atomic import replacing, write_text
from didact.core.paths import Place
from didact.planning.comparison import Arm, Comparison

COMPARISON: Final = "comparison.json"
PAGE: Final = "comparison.html"
TABLE: Final = "arms.parquet"
_SCHEMA: Final = pa.schema(
    [
        ("name", pa.string()), ("setting", pa.string()), ("chosen", pa.bool_()),
        ("filled", pa.bool_()), ("method", pa.string()), ("order", pa.string()),
        ("task", pa.string()), ("base", pa.string()), ("beta", pa.float64()),
        ("k_flops", pa.float64()),
        ("n_tokens", pa.int64()), ("selector_params", pa.int64()), ("train_params", pa.int64()),
        ("schedule", pa.string()), ("learning_rate", pa.float64()),
        ("selection_flops", pa.float64()), ("selection_flops_shared", pa.float64()),
        ("selection_cpu_seconds", pa.float64()), ("training_flops", pa.float64()),
        ("metric", pa.string()), ("higher_is_better", pa.bool_()), ("value", pa.float64()),
        ("low", pa.float64()), ("high", pa.float64()), ("error", pa.float64()),
        ("seeds", pa.int64()),
        ("feasible", pa.bool_()), ("status", pa.string()), ("reason", pa.string()),
    ]
)  # fmt: skip


def write_comparison(found: Comparison, home: Place) -> list[Place]:
    """Write `comparison.json`, `arms.parquet` and `comparison.html`; their paths."""
    from didact.reporting.compare_page import render_comparison

    values = found.to_json()
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    out = [home / COMPARISON, home / TABLE, home / PAGE]
    write_text(out[0], text)
    with replacing(out[1]) as temporary:
        pq.write_table(arms_table(found), temporary)
    write_text(out[2], render_comparison(values))
    return out


def arms_table(found: Comparison) -> pa.Table:
    """The arms as a table, a row each; with what their scoring costs shared by the tasks."""
    tasks = int((found.about or {}).get("tasks", 1))

    def row(arm: Arm, *, filled: bool) -> dict[str, object]:
        shared = arm.selection_flops / tasks
        return {**asdict(arm), "filled": filled, "selection_flops_shared": shared}

    rows = [row(arm, filled=False) for arm in found.arms]
    rows += [row(arm, filled=True) for arm in found.filled]
    return pa.Table.from_pylist(rows, _SCHEMA)
