"""Points: a setting at a budget with what all its runs came to, from records or from a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from didact.analysis.evaluations import check_alike, evaluated_run
from didact.analysis.runs import Run
from didact.comparing.estimates import Estimates
from didact.comparing.records import Record
from didact.comparing.settings import Setting
from didact.comparing.trials import Trial
from didact.core.paths import Place
from didact.planning.comparison import BASE
from didact.training.settings import TrainSettings

Tables = dict[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A setting at a budget.

    Attributes:
        setting: The setting.
        beta: Its budget in full passes; 0 of the base model.
        k_flops: The same in FLOPs.
        selection_flops: FLOPs of scoring, from nothing.
        selection_cpu_seconds: Processor seconds of it.
        training_flops: FLOPs of training, the mean over runs.
        tokens: Tokens that were trained on, likewise.
        n_params: Parameters of the model that was trained.
        selector_params: Parameters of the model that scored; None without one.
        runs: Its runs; of a point that shares those of another, none.
        shares: Label of the point whose runs it shares; empty without.
        status: `done` where it has a run; else why not, see `didact.planning.comparison.Arm`.
        reason: Why it has no runs, or fewer than seeds.
        fill: Whether it repeats a fraction.
        order: Name of its order; empty of the base model.
        schedule: Learning-rate schedule of its training; likewise.
        learning_rate: Highest learning rate; None of the base model.
    """

    setting: Setting
    beta: float
    k_flops: float
    selection_flops: float
    selection_cpu_seconds: float
    training_flops: float
    tokens: int
    n_params: int
    selector_params: int | None = None
    runs: tuple[Run, ...] = ()
    shares: str = ""
    status: str = "done"
    reason: str = ""
    fill: bool = False
    order: str = ""
    schedule: str = ""
    learning_rate: float | None = None

    @property
    def label(self) -> str:
        """What its set of runs is called."""
        fill = ", repeated" if self.fill else ""
        return f"{self.setting.label} at {self.beta:g}{fill}"

    @property
    def base(self) -> str:
        """The model that it starts from, where there are several."""
        return self.setting.place[0]

    @property
    def set(self) -> str:
        """The set that its runs are of."""
        return self.shares or self.label


def points_of(
    ahead: Estimates,
    settings: Sequence[Setting],
    trials: Sequence[Trial],
    records: Mapping[str, Record],
    base_tables: Mapping[str, Place],
) -> tuple[list[Point], tuple[str, ...]]:
    """Every setting at every budget, and notes on what was asked differently.

    Args:
        ahead: What is foretold of them.
        settings: The settings.
        trials: The trials.
        records: Name of a trial → what it came to.
        base_tables: Digest of a base → the table of its evaluation.
    """
    tables: Tables = {}
    out: list[Point] = []
    notes: list[str] = []
    for setting in settings:
        base = ahead.ground.base_of(setting)
        if setting.method == BASE:
            run, meta = evaluated_run(base_tables[base.digest], "base")
            tables[run.name] = meta
            found = Point(
                setting=setting, beta=0.0, k_flops=0.0, selection_flops=0.0,
                selection_cpu_seconds=0.0, training_flops=0.0, tokens=0, n_params=base.n_params,
            )  # fmt: skip
            own = replace(run, name=found.label, set=found.label, size=base.n_params, draw="")
            out.append(replace(found, runs=(own,)))
            continue
        mine = [t for t in trials if t.setting == setting]
        for beta, fill in dict.fromkeys((t.beta, t.fill) for t in mine):
            group = [t for t in mine if (t.beta, t.fill) == (beta, fill)]
            out.append(_point(ahead, group, trials, records, tables))
        notes += _paid_after_all(setting, mine, records)
    return out, (*notes, *check_alike(tables))


def _paid_after_all(
    setting: Setting, trials: Sequence[Trial], records: Mapping[str, Record]
) -> Iterator[str]:
    """Budgets that an estimate of the scoring was too much for, and the scoring itself was not."""
    told = [records[t.name] for t in trials if t.name in records]
    took = [r.selection_flops for r in told if r.status == "done"]
    paid = sorted({t.beta for t in trials if t.reason and took and max(took) < t.k_flops})
    if paid:
        yield (
            f"{setting.label} at {', '.join(f'{beta:g}' for beta in paid)} was left out by an "
            f"estimate of its scoring; it took {max(took):.3g} FLOPs where it ran, which would "
            "have been paid: a tokenizer in data.tokenizer brings estimates closer"
        )


def trained_by(setting: Setting, training: TrainSettings) -> dict[str, Any]:
    """Order, schedule and learning rate of a setting's points."""
    return {
        "order": str(setting.sections["order"].get("method", "keep")),
        "schedule": training.schedule, "learning_rate": training.learning_rate,
    }  # fmt: skip


def _point(
    ahead: Estimates,
    group: Sequence[Trial],
    trials: Sequence[Trial],
    records: Mapping[str, Record],
    tables: Tables,
) -> Point:
    first, setting = group[0], group[0].setting
    scoring = ahead.scoring(setting) if setting.sections["select"] else None
    blank = Point(
        setting=setting, beta=first.beta, k_flops=first.k_flops,
        selection_flops=0.0 if scoring is None else scoring.flops,
        selection_cpu_seconds=0.0 if scoring is None else scoring.cpu_seconds,
        training_flops=0.0, tokens=0, n_params=ahead.ground.base_of(setting).n_params,
        selector_params=ahead.selector_params(setting), fill=first.fill,
        **trained_by(setting, ahead.train_settings(setting)),
    )  # fmt: skip
    if first.reason:
        return replace(blank, status="infeasible", reason=first.reason)
    names = [t.shared or t.name for t in group]
    told = [records[name] for name in names if name in records]
    done = [r for r in told if r.status == "done"]
    reasons = list(dict.fromkeys(r.reason for r in told if r.reason))
    reason = reasons[0] if reasons else ""
    if not done:
        # of several, what went wrong is told before what could not be paid
        status = next((s for s in ("failed", "infeasible") if s in {r.status for r in told}), "")
        return replace(blank, status=status or "missing", reason=reason or "not run")
    if len(done) < len(names):
        reason = f"{len(names) - len(done)} of {len(names)} runs {reason or 'not run'}"
    found = replace(
        blank,
        selection_flops=float(np.mean([r.selection_flops for r in done])),
        selection_cpu_seconds=float(np.mean([r.selection_cpu_seconds for r in done])),
        training_flops=float(np.mean([r.training_flops for r in done])),
        tokens=round(float(np.mean([r.tokens for r in done]))),
        n_params=done[0].n_params, reason=reason,
    )  # fmt: skip
    if first.shared:
        of = next(t for t in trials if t.name == first.shared)
        # the runs are those of all data, where no scores were made
        return replace(
            found, shares=f"{of.setting.label} at {of.beta:g}",
            selection_flops=blank.selection_flops,
            selection_cpu_seconds=blank.selection_cpu_seconds,
        )  # fmt: skip
    seeds = {t.name: t.seed for t in group}
    runs = []
    for record in done:
        run, meta = evaluated_run(ahead.ground.home / record.evaluation, found.label)
        tables[run.name] = meta
        draw = f"draw {seeds[record.name]}" if setting.draws else ""
        runs.append(replace(run, name=record.name, draw=draw, size=record.n_params))
    return replace(found, runs=tuple(runs))
