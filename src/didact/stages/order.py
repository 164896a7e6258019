"""order: the selection in training sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from didact.config import RunConfig
from didact.core.manifest import StageRecord
from didact.core.paths import Place
from didact.core.protocols import Context
from didact.core.scores import TrainingOrder
from didact.data import tables
from didact.runs.folder import Outcome, output
from didact.stages.stage import Stage, Values
from didact.verbs import identified, order

_FILE = "order.parquet"


def _depends(values: Values) -> Mapping[str, Any]:
    section = values.config.order
    method = None
    if section is not None:
        method = identified("orderers", section.method, section.settings())
    return {
        "select": values.result("select"),
        "scores": values.result("order_score") or values.result("score"),
        # scores of its own count by their content, above
        "order": {k: v for k, v in (values.resolved["order"] or {}).items() if k != "score"},
        "method": method,
        "seed": values.config.seed_of("order"),
    }


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    pool, chosen, section = values.pool, values.made["select"], values.config.order
    scores = values.made.get("order_score", values.made.get("score"))
    ctx = replace(ctx, seed=values.config.seed_of("order"))
    if section is None:
        ordered = order(pool, chosen, scores, "keep", ctx=ctx)
    else:
        ordered = order(pool, chosen, scores, section.method, ctx=ctx, **section.arguments())
    tables.write_order(ordered, pool, folder / _FILE)
    return Outcome([folder / _FILE], {"rows": len(ordered), "steps": ordered.steps})


def _load(folder: Place, record: StageRecord, values: Values, ctx: Context) -> TrainingOrder:
    del values, ctx
    return tables.read_order(output(folder, record, _FILE))


def _compare(a: TrainingOrder, b: TrainingOrder) -> Mapping[str, Any]:
    same = len(a) == len(b)
    return {
        "order": {
            "equal": bool(np.array_equal(a.rows, b.rows)),
            "rows_at_the_same_position": int((a.rows == b.rows).sum()) if same else 0,
        }
    }


def _does(config: RunConfig) -> str:
    return config.order.method if config.order is not None else ""


STAGE = Stage(name="order", depends=_depends, work=_work, load=_load, compare=_compare, does=_does)
