"""report: one page that shows what was chosen, in what order, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from didact.analysis.risk.flags import Watched, read_risk
from didact.core.cost import Cost
from didact.core.paths import Place
from didact.core.protocols import Context
from didact.runs.folder import Outcome, environment
from didact.stages.stage import Stage, Values

if TYPE_CHECKING:
    from didact.evaluation.results import Evaluation
    from didact.reporting import EvaluationFacts

# Processor seconds a byte and in all, from benchmarks/main_job.py on one core: text is read twice.
_SECONDS_PER_BYTE = 0.5e-8
_SECONDS = 0.4  # half of them for the table of samples
_FILE = "report.html"


def _depends(values: Values) -> Mapping[str, Any]:
    return {
        "stages": {r.name: r.fingerprint for r in values.records},
        "config": values.resolved,
    }


def _estimate(values: Values) -> Cost:
    stats = values.read["data"].pool.stats
    return Cost(cpu_seconds=_SECONDS + _SECONDS_PER_BYTE * stats.n_bytes)


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    write(folder / _FILE, values, ctx, environment(), risks=read_risk(folder))
    return Outcome([folder / _FILE], timed=[folder / _FILE])


def write(
    path: Place,
    values: Values,
    ctx: Context,
    versions: Mapping[str, str],
    *,
    samples: bool | None = None,
    risks: Sequence[Watched] = (),
) -> None:
    """Write the report of a run, from what its stages made.

    Args:
        path: The file.
        values: What all stages before the report made.
        ctx: Seed and cache.
        versions: Versions of the libraries the run was made with.
        samples: Show samples to read; None as the run's config has it.
        risks: What a monitor found, of `read_risk`.
    """
    from didact.reporting import Subject, TrainingFacts, write_report

    if samples is None:
        samples = bool(values.resolved["report"]["samples"])
    made = values.made
    training, evaluation = made.get("train"), made.get("evaluate")
    subject = Subject(
        pool=values.pool, scores=made.get("score"), order_scores=made.get("order_score"),
        selection=made["select"], order=made["order"], stages=values.records,
        config=values.resolved, samples=samples, ctx=ctx, environment=versions,
        output_files=made["export"],
        training=None if training is None else TrainingFacts(training.steps, training.about),
        evaluation=None if evaluation is None else _evaluation(evaluation.values()), risks=risks,
    )  # fmt: skip
    write_report(path, subject)


def _evaluation(found: Iterable[Evaluation]) -> EvaluationFacts:
    """What the models of a run foretell, as the report shows it."""
    from didact.reporting import EvaluationFacts

    each = list(found)
    notes = dict.fromkeys(note for one in each for note in one.notes)
    return EvaluationFacts(tuple(r for one in each for r in one.summary()), tuple(notes))


STAGE = Stage(name="report", depends=_depends, estimate=_estimate, work=_work)
