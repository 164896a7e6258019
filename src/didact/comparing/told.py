"""Told: what points come to. Means with intervals, differences from random samples, ranks, laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from didact.analysis.arms import Table, tables
from didact.analysis.decisions import ranked_alike
from didact.analysis.intervals import mean_estimate, run_error
from didact.analysis.runs import Run, checked, without_twins
from didact.analysis.spread import run_sd, set_sd
from didact.comparing.differences import beside_free, beside_random
from didact.comparing.measured import Choice, Measured, whole_files
from didact.comparing.points import Point
from didact.comparing.verdict import verdict
from didact.core.errors import DataError
from didact.core.statistics import spearman
from didact.planning.compared import panels_of
from didact.planning.comparison import ALL, BASE, Arm, Comparison
from didact.planning.law import LEAST_POINTS, fit_own, fit_shared

Json = dict[str, Any]
_LEAST_RANKED: Final = 3  # arms between which a rank correlation means something
_LEAST_UNSPENT: Final = 0.01  # of a budget
_ENDS: Final = frozenset({BASE, ALL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be told.

    Attributes:
        metric: The measure.
        choosing: Tasks that settings are chosen by.
        telling: Tasks that tell; empty for all others there are.
    """

    metric: str
    choosing: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()


def told(points: Sequence[Point], asked: Asked, about: Mapping[str, Any]) -> Comparison:
    """What the points come to.

    Args:
        points: All of them, those without runs too.
        asked: What is to be told.
        about: What stands beside it in `about`.

    Raises:
        DataError: No run came to an end, or no two arms have the metric on a file.
    """
    runs = [run for point in points for run in point.runs]
    if all(point.setting.method == BASE for point in points if point.runs):
        raise DataError(f"there is nothing to compare: {_why_nothing(points)}")
    kept, notes = without_twins(checked(runs))
    whole = whole_files({what for run in kept for what in run.measures}, asked.metric)
    found = [(base, t) for base, t in _tables(points, kept) if t.what in whole]
    ends = {point.label for point in points if point.setting.method == BASE}
    telling = [
        Measured.of(t, whole[t.what], base, ends)
        for base, t in found
        if whole[t.what] not in asked.choosing
        and (not asked.telling or whole[t.what] in asked.telling)
    ]
    if not telling:
        raise DataError(
            f"no two arms have {asked.metric} on {', '.join(asked.telling) or 'a task'}; give a "
            "metric that the files have (bits_per_byte; of multiple choice answer_probability)"
        )
    choice = Choice.of(points, [t for _, t in found if whole[t.what] in asked.choosing])
    once = [p for p in points if not p.fill]
    filled = [p for p in points if p.fill]
    arms = tuple(_arms(once, telling, choice))
    beside = {m.contest: beside_random(m, once, choice) for m in telling}
    repeated = {m.contest: beside_random(m, filled, choice) for m in telling if filled}
    bare = Comparison(arms, snr={m.contest: _snr(m, once, choice) for m in telling})
    fits, said = _fits(bare)
    ranks = list(_ranks(once, arms))
    of_size = [
        r["decision_accuracy"] for r in ranks if r["axis"] == "base" and len({*r["sizes"]}) > 1
    ]
    told_of = dict.fromkeys(f"{m.contest}: {note}" for m in telling for note in m.notes)
    whole_about = {
        **about,
        "detectable": {contest: family.detectable for contest, family in beside.items()},
        "paying": [d for m in telling for d in beside_free(m, once, choice).differences],
        "notes": [*about.get("notes", ()), *notes, *told_of, *_unspent(points), *said],
    }
    comparison = replace(
        bare,
        fits=tuple(fits), ranks=ranks or None,
        decision_accuracy=float(np.mean(of_size)) if of_size else None,
        filled=tuple(_arms(filled, telling, choice)),
        differences=tuple(
            d for some in (beside, repeated) for family in some.values() for d in family.differences
        ),
        about=whole_about,
    )  # fmt: skip
    return replace(comparison, verdict=verdict(comparison))


def _why_nothing(points: Sequence[Point]) -> str:
    """The first reason for which an arm has no run, what failed before what was not run."""
    for status in ("failed", "missing", "infeasible"):
        for point in points:
            if point.status == status:
                return f"{point.label}: {point.reason}"
    return "the base model is all there is"


def _tables(points: Sequence[Point], runs: Sequence[Run]) -> Iterator[tuple[str, Table]]:
    """The tables of each base model: runs of two bases are never compared in one."""
    for base in dict.fromkeys(point.base for point in points):
        labels = {point.label for point in points if point.base == base}
        some = [run for run in runs if run.set in labels]
        if len({run.set for run in some}) > 1:
            yield from ((base, table) for table in tables(some))


def _unspent(points: Sequence[Point]) -> Iterator[str]:
    """How much of their budgets points leave, where that is a hundredth or more."""
    left = {
        p.label: 1 - (p.selection_flops + p.training_flops) / p.k_flops
        for p in points
        if p.runs and not p.shares and p.setting.arm not in _ENDS
    }
    most = max(left, key=left.__getitem__, default="")
    if most and left[most] >= _LEAST_UNSPENT:
        yield (
            "training moves in whole steps that its budget pays for: up to "
            f"{100 * left[most]:.2g} % of it is not spent ({most}), "
            f"{100 * float(np.mean(list(left.values()))):.2g} % on average"
        )


# -- rows ------------------------------------------------------------------------------------------


def _arms(points: Sequence[Point], telling: Sequence[Measured], choice: Choice) -> Iterator[Arm]:
    """A row of each point on each task."""
    of = {(m.task, m.base): m for m in telling}
    for one in {m.task: m for m in telling}.values():
        for point in points:
            yield _arm(point, one, of.get((one.task, point.base)), choice)


def _arm(point: Point, like: Measured, at: Measured | None, choice: Choice) -> Arm:
    """The row of a point on a task: of some table of it, and of that of the point's base."""
    value = low = high = error = None
    seeds = 0
    if at is not None and point.set in at.sets:
        found = at.sets[point.set]
        value, seeds = found.mean, len(found.values)
        estimate = None
        if point.setting.method != BASE:
            estimate = mean_estimate(found, at.spread, at.rest)
            error = run_error(found, at.spread)
        if estimate is not None:
            low, high = estimate.interval()
    status = "missing" if value is None and point.status == "done" else point.status
    return Arm(
        name=point.setting.arm, method=point.setting.method, order=point.order, task=like.task,
        base=point.base, beta=point.beta, k_flops=point.k_flops, n_tokens=point.tokens,
        selector_params=point.selector_params, train_params=point.n_params,
        schedule=point.schedule, learning_rate=point.learning_rate,
        selection_flops=point.selection_flops, selection_cpu_seconds=point.selection_cpu_seconds,
        training_flops=point.training_flops, metric=like.table.what.metric,
        higher_is_better=like.table.higher_is_better, value=value, low=low, high=high,
        seeds=seeds, feasible=status != "infeasible", status=status,
        reason=point.reason or ("" if value is not None else "has no value on this task"),
        setting=point.setting.axes_text, chosen=point.label in choice.labels, error=error,
    )  # fmt: skip


def _snr(at: Measured, points: Sequence[Point], choice: Choice) -> float | None:
    """SD of the arms' means at one budget, pooled over budgets, ÷ pooled SD of runs of an arm."""
    noise = run_sd(list(at.sets.values()))
    if not noise:
        return None
    squares, degrees = 0.0, 0
    for beta in dict.fromkeys(p.beta for p in points):
        sets = {
            p.set: at.sets[p.set] for p in points
            if p.beta == beta and p.setting.arm not in _ENDS and p.label in choice.labels
            and p.set in at.sets
        }  # fmt: skip
        if len(sets) > 1:
            squares += (len(sets) - 1) * set_sd(list(sets.values())) ** 2
            degrees += len(sets) - 1
    return math.sqrt(squares / degrees) / noise if degrees else None


# -- ranks and laws --------------------------------------------------------------------------------


def _ranks(points: Sequence[Point], arms: Sequence[Arm]) -> Iterator[Json]:
    """How alike arms are ranked at two values of an axis, at each budget.

    Of base models between two of them, of an axis of the training within each.
    """
    tasks = {arm.task: arm for arm in arms}
    rows = dict(zip(itertools.product(tasks, [p.label for p in points]), arms, strict=True))
    axes = dict.fromkeys(a for p in points for a in p.setting.axes if _ranked(a))
    for axis in axes:
        bases = dict.fromkeys("" if axis == "base" else p.base for p in points)
        for base, task in itertools.product(bases, tasks):
            of = [p for p in points if axis == "base" or p.base == base]
            told = {p.label: rows[task, p.label] for p in of}
            yield from (
                {"axis": axis, "task": task, "base": base, **found}
                for found in _between(of, axis, told)
            )


def _between(points: Sequence[Point], axis: str, rows: Mapping[str, Arm]) -> Iterator[Json]:
    """The same on a task, by its rows: every two values of the axis at every budget."""
    having = [p for p in points if axis in p.setting.axes]
    values = {repr(p.setting.axes[axis]): p for p in having}
    for a, b in itertools.combinations(values, 2):
        for beta in dict.fromkeys(p.beta for p in points if p.setting.arm not in _ENDS):
            one, other = (_worth(having, axis, value, beta, rows) for value in (a, b))
            common = sorted(one.keys() & other.keys())
            if len(common) >= _LEAST_RANKED:
                both = [np.array([of[key] for key in common]) for of in (one, other)]
                correlation = spearman(*both)
                yield {
                    "a": values[a].setting.axes[axis], "b": values[b].setting.axes[axis],
                    "sizes": [values[a].n_params, values[b].n_params], "beta": beta,
                    "arms": len(common),
                    "spearman": correlation if math.isfinite(correlation) else None,
                    "decision_accuracy": ranked_alike(one, other),
                }  # fmt: skip


def _ranked(axis: str) -> bool:
    return axis == "base" or axis.startswith("train.")


def _worth(
    points: Sequence[Point], axis: str, value: str, beta: float, rows: Mapping[str, Arm]
) -> dict[str, float]:
    """Performance of every arm at a value of an axis, shared runs left out."""
    out = {}
    for point in points:
        row = rows[point.label]
        same = point.beta == beta and point.setting.arm not in _ENDS and not point.shares
        if same and row.value is not None and repr(point.setting.axes[axis]) == value:
            others = {k: repr(v) for k, v in point.setting.axes.items() if k != axis}
            out[repr((point.setting.arm, sorted(others.items())))] = row.performance
    return out


def _fits(comparison: Comparison) -> tuple[list[Json], list[str]]:
    """The law of every panel, and why where there is none."""
    fits: list[Json] = []
    said: list[str] = []
    for size in sorted({arm.train_params for arm in comparison.arms}):
        try:
            panels, left_out = panels_of(comparison, train_params=size)
        except DataError as error:
            said.append(f"no performance law: {error}")
            continue
        said += [f"of the performance law {note}" for note in left_out]
        for panel in panels:
            try:
                shared = fit_shared(panel.curves, end=panel.end, base=panel.base)
            except DataError as error:
                said.append(f"no performance law: {panel.name}: {error}")
                continue
            of = {"panel": panel.name, "train_params": size, "terms": dict(panel.terms),
                  "arms": dict(panel.arms)}  # fmt: skip
            fits.append({**of, **shared.to_json()})
            if min(len(curve.compute) for curve in panel.curves) >= LEAST_POINTS:
                own = fit_own(panel.curves, end=panel.end)
                fits.append({**of, **own.to_json()})
    return fits, said
