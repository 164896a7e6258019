"""export: the user's own rows in training order, and the trainer's settings that keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from didact.core import registry
from didact.core.cost import Cost
from didact.core.manifest import StageRecord
from didact.core.paths import Place
from didact.core.protocols import Context
from didact.data.export.data_set import (
    check_trainer,
    export_notes,
    output_counts,
    write_data_set,
)
from didact.runs.folder import Outcome
from didact.stages.stage import Stage, Values


def _depends(values: Values) -> Mapping[str, Any]:
    depends = {
        "pool": values.pool.fingerprint,
        "order": values.result("order"),
        "export": values.resolved["export"],
    }
    trainer = values.config.export.trainer
    if trainer != "none" and registry.is_plug_in("trainers", trainer):
        depends["trainer"] = registry.source_of(registry.find("trainers", trainer))
    return depends


def _estimate(values: Values) -> Cost | None:
    """Nothing worth a number; refuses what the trainer cannot keep in order, before any scoring."""
    check_trainer(values.read["data"].pool, values.config.export)
    return None


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    del ctx
    pool, ordered, settings = values.pool, values.made["order"], values.config.export
    files = write_data_set(pool, ordered, folder, settings)
    return Outcome(files, output_counts(pool, ordered), export_notes(pool, settings, files))


def _load(folder: Place, record: StageRecord, values: Values, ctx: Context) -> list[str]:
    """Names of the files, relative to the run folder."""
    del folder, values, ctx
    return list(record.outputs)


STAGE = Stage(name="export", depends=_depends, work=_work, load=_load, estimate=_estimate)
