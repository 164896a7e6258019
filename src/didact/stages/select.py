"""select: a set of samples under a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from didact.config import RunConfig
from didact.core.cost import Cost
from didact.core.manifest import StageRecord
from didact.core.paths import Place
from didact.core.protocols import Context
from didact.core.scores import Selection
from didact.data import tables
from didact.runs.folder import Outcome, output
from didact.selection.around.about_selection import about_selection
from didact.stages import spending
from didact.stages.stage import Stage, Values
from didact.training.starting import planned_training
from didact.verbs import (
    context_of,
    estimate_selection,
    everything,
    identified_selector,
    select,
)

_FILE = "selection.parquet"


def _depends(values: Values) -> Mapping[str, Any]:
    section = values.config.select
    method = None
    if section is not None:
        method = identified_selector(section.method, section.settings(), section.near_duplicates)
    ctx, budget = context_of(values.pool), None if section is None else section.budget
    later = spending.later_training(values, ctx)
    planned = planned_training(values.pool, budget, later, ctx)
    paying: Mapping[str, Any] = {}
    if planned is not None:
        paying = {
            "paying": {
                "spent": spending.spent(values),
                **planned.identity(),
            }
        }
    return {
        "pool": values.pool.fingerprint,
        "scores": values.result("score"),
        "select": values.resolved["select"],
        **paying,
        "method": method,
        "seed": values.config.seed_of("draw"),
    }


def _estimate(values: Values) -> Cost:
    section = values.config.select
    if section is None:
        return Cost()
    pool = values.read["data"].pool
    ahead = spending.foreseen(values)
    arguments = {**section.arguments(), "train": spending.later_training(values, context_of(pool))}
    spent = 0.0 if ahead is None else ahead.spent
    return estimate_selection(pool, section.method, spent=spent, **arguments)


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    pool, scores, section = values.pool, values.made.get("score"), values.config.select
    ctx = replace(ctx, seed=values.config.seed_of("draw"))
    if section is None:
        chosen = everything(pool, scores)
    else:
        later = spending.later_training(values, ctx)
        arguments = {**section.arguments(), "train": later}
        if later is not None:
            arguments["spent"] = spending.spent(values)
        chosen = select(pool, scores, section.method, ctx=ctx, **arguments)
    tables.write_selection(chosen, scores, pool, folder / _FILE)
    counts = {"in": len(pool), **chosen.describe(pool, scores)}
    findings = about_selection(chosen, pool)
    return Outcome([folder / _FILE], counts, chosen.notes, findings)


def _load(folder: Place, record: StageRecord, values: Values, ctx: Context) -> Selection:
    del values, ctx
    return tables.read_selection(output(folder, record, _FILE))


def _compare(a: Selection, b: Selection) -> Mapping[str, Any]:
    shared = len(np.intersect1d(a.rows, b.rows, assume_unique=True))
    united = len(a) + len(b) - shared
    return {
        "selection": {
            "a": len(a), "b": len(b), "shared": shared,
            "jaccard": shared / united if united else 1.0,
        }
    }  # fmt: skip


def _does(config: RunConfig) -> str:
    return config.select.method if config.select is not None else ""


STAGE = Stage(
    name="select",
    check=spending.check,
    depends=_depends,
    estimate=_estimate,
    work=_work,
    load=_load,
    compare=_compare,
    does=_does,
    samples="samples",
)
