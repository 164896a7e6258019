"""Told: what points come to. Means with intervals, differences from random samples, ranks, laws."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from didact.analysis.arms import Arm as SetOfRuns
from didact.analysis.arms import Table, tables
from didact.analysis.intervals import (
    difference_estimate,
    holm_levels,
    mean_estimate,
    rest_variance,
)
from didact.analysis.power import power_constant
from didact.analysis.runs import What, checked, without_twins
from didact.analysis.spread import Spread, run_sd, set_sd, spreads
from didact.comparing.points import Point
from didact.comparing.verdict import verdict
from didact.core.errors import DataError
from didact.core.statistics import spearman
from didact.planning.compared import trials_of
from didact.planning.comparison import ALL, BASE, RANDOM, Arm, Comparison
from didact.planning.law import LEAST_POINTS, fit_own, fit_shared

Json = dict[str, Any]
_LEAST_RANKED: Final = 3  # arms between which a rank correlation means something
_ENDS: Final = frozenset({BASE, ALL})


@dataclass(frozen=True, slots=True)
class _Measured:
    """A table of runs by one measure, with what intervals need."""

    table: Table
    task: str
    sets: Mapping[str, SetOfRuns]
    spread: Mapping[str, Spread]
    rest: float

    @classmethod
    def of(cls, table: Table, task: str) -> _Measured:
        found, _ = spreads(table.arms)
        rest = rest_variance(table.arms)
        return cls(table, task, {arm.set: arm for arm in table.arms}, found, rest)

    def better(self, difference: float) -> float:
        """A difference turned so that above 0 is better."""
        return difference if self.table.higher_is_better else -difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be told.

    Attributes:
        metric: The measure.
        choosing: Tasks that settings are chosen by.
        telling: Tasks that tell; empty for all others there are.
        schedules: Label of a setting → schedule and learning rate of its training.
        orders: Label of a setting → name of its order.
    """

    metric: str
    choosing: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()
    schedules: Mapping[str, tuple[str, float | None]]
    orders: Mapping[str, str]


def told(points: Sequence[Point], asked: Asked, about: Mapping[str, Any]) -> Comparison:
    """What the points come to.

    Args:
        points: All of them, those without runs too.
        asked: What is to be told.
        about: What stands beside it in `about`.

    Raises:
        DataError: No two arms have the metric on a file.
    """
    runs = [run for point in points for run in point.runs]
    if all(point.setting.method == BASE for point in points if point.runs):
        why = next((p.reason for p in points if p.reason.startswith("failed")), "none was feasible")
        raise DataError(f"no run came to an end: {why}")
    kept, notes = without_twins(checked(runs))
    whole = _whole_files({what for run in kept for what in run.measures}, asked.metric)
    found = [t for t in tables(kept) if t.what in whole]
    telling = [
        _Measured.of(t, whole[t.what])
        for t in found
        if whole[t.what] not in asked.choosing
        and (not asked.telling or whole[t.what] in asked.telling)
    ]
    if not telling:
        raise DataError(
            f"no two arms have {asked.metric} on {', '.join(asked.telling) or 'a task'}; give a "
            "metric that the files have (bits_per_byte; of multiple choice answer_probability)"
        )
    chosen = _chosen(points, [t for t in found if whole[t.what] in asked.choosing])
    once = [p for p in points if not p.fill]
    filled = [p for p in points if p.fill]
    arms = tuple(_arms(once, telling, chosen, asked))
    differences = [
        d for some in (once, filled) if some for m in telling for d in _differences(m, some, chosen)
    ]
    snr = {m.task: _snr(m, once, chosen) for m in telling}
    bare = Comparison(arms, snr=snr)
    fits, said = _fits(bare)
    ranks = list(_ranks(once, arms, telling))
    of_size = [r["decision_accuracy"] for r in ranks if r["axis"] == "base"]
    table_notes = dict.fromkeys(note for m in telling for note in m.table.notes)
    whole_about = {
        **about,
        "detectable": {
            f"{m.task}": _detectable([d for d in differences if d["task"] == m.task])
            for m in telling
        },
        "notes": [*about.get("notes", ()), *notes, *table_notes, *said],
    }
    comparison = replace(
        bare,
        fits=tuple(fits), ranks=ranks or None,
        decision_accuracy=float(np.mean(of_size)) if of_size else None,
        filled=tuple(_arms(filled, telling, chosen, asked)),
        differences=tuple(differences), about=whole_about,
    )  # fmt: skip
    return replace(comparison, verdict=verdict(comparison))


def _whole_files(whats: set[What], metric: str) -> dict[What, str]:
    """The measure of each file as a whole → what the task is called."""
    out: dict[str, What] = {}
    named: dict[What, str] = {}
    for what in sorted(w for w in whats if w.metric == metric):
        if not what.file:  # of a table that names tasks alone, each is its own
            named[what] = what.task or "all"
            continue
        out.setdefault(what.file, what)  # that of all tasks has no name, and comes first
    return {**named, **{what: task_of(file) for file, what in out.items()}}


def task_of(file: str) -> str:
    """What the task of a held-out file is called: its name without folder and ending."""
    return Path(file).name.partition(".")[0]


# -- what is chosen --------------------------------------------------------------------------------


def _chosen(points: Sequence[Point], choosing: Sequence[Table]) -> frozenset[str]:
    """Labels of the points that are chosen among those of their arm, base, target and budget."""
    groups: dict[Any, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.setting.arm, point.setting.place, point.beta, point.fill].append(point)
    sets = [({arm.set: arm for arm in t.arms}, 1 if t.higher_is_better else -1) for t in choosing]

    def worth(point: Point) -> float:
        found = [sign * arms[point.set].mean for arms, sign in sets if point.set in arms]
        return float(np.mean(found)) if found else -math.inf

    return frozenset(max(group, key=worth).label for group in groups.values())


# -- rows ------------------------------------------------------------------------------------------


def _arms(
    points: Sequence[Point], telling: Sequence[_Measured], chosen: frozenset[str], asked: Asked
) -> Iterator[Arm]:
    tasks = dict.fromkeys((m.task, m.table.what.metric, m.table.higher_is_better) for m in telling)
    for task, metric, higher in tasks:
        for point in points:
            yield _arm(point, task, metric, telling, chosen, asked, higher=higher)


def _arm(
    point: Point,
    task: str,
    metric: str,
    telling: Sequence[_Measured],
    chosen: frozenset[str],
    asked: Asked,
    *,
    higher: bool,
) -> Arm:
    at = next((m for m in telling if m.task == task and point.set in m.sets), None)
    value = low = high = None
    seeds = 0
    if at is not None:
        found = at.sets[point.set]
        value, seeds = found.mean, len(found.values)
        estimate = None
        if point.setting.method != BASE:
            estimate = mean_estimate(found, at.spread, at.rest)
        if estimate is not None:
            low, high = estimate.interval()
    label = point.setting.label
    schedule, rate = asked.schedules.get(label, ("", None))
    base = point.setting.method == BASE
    return Arm(
        name=point.setting.arm, method=point.setting.method, order=asked.orders.get(label, ""),
        task=task, beta=point.beta, k_flops=point.k_flops, n_tokens=point.tokens,
        selector_params=point.selector_params, train_params=point.n_params,
        schedule="" if base else schedule, learning_rate=None if base else rate,
        selection_flops=point.selection_flops, selection_cpu_seconds=point.selection_cpu_seconds,
        training_flops=point.training_flops, metric=metric, higher_is_better=higher, value=value,
        low=low, high=high, seeds=seeds, feasible=value is not None,
        reason=point.reason or ("" if value is not None else "has no value on this task"),
        setting=point.setting.told, chosen=point.label in chosen,
    )  # fmt: skip


# -- differences -----------------------------------------------------------------------------------


def _differences(at: _Measured, points: Sequence[Point], chosen: frozenset[str]) -> Iterator[Json]:
    """Every chosen arm beside random samples at its budget; Holm's test over all of them."""
    pairs = [
        (point, random)
        for random in points
        if random.setting.arm == RANDOM and random.label in chosen and random.set in at.sets
        for point in points
        if point.setting.arm not in {*_ENDS, RANDOM}
        and point.label in chosen
        and point.set in at.sets
        and point.beta == random.beta
        and point.setting.place[0] == random.setting.place[0]
    ]
    apart = [(p, r) for p, r in pairs if p.set != r.set]
    estimates = [
        difference_estimate(at.sets[p.set], at.sets[r.set], at.spread, at.rest) for p, r in apart
    ]
    levels, passed = holm_levels([e.p_value if e else 1.0 for e in estimates])
    for (point, random), e, level, told_apart in zip(apart, estimates, levels, passed, strict=True):
        low, high = e.interval() if e else (None, None)
        holm_low, holm_high = e.interval(level) if e else (None, None)
        difference = at.sets[point.set].mean - at.sets[random.set].mean
        yield _difference(
            at, point, difference=difference, low=low, high=high, holm_low=holm_low,
            holm_high=holm_high, p=e.p_value if e else None, tie=not told_apart,
            error=e.error if e else None, df=e.df if e else None,
        )  # fmt: skip
    for point, random in pairs:
        if point.set == random.set:
            yield _difference(
                at, point, difference=0.0, low=None, high=None, holm_low=None, holm_high=None,
                p=None, tie=True, error=None, df=None,
            )  # fmt: skip


def _difference(at: _Measured, point: Point, *, difference: float, **more: Any) -> Json:
    return {
        "task": at.task, "arm": point.setting.arm, "setting": point.setting.told,
        "beta": point.beta, "train_params": point.n_params, "filled": point.fill,
        "selection_flops": point.selection_flops, "shares_runs": bool(point.shares),
        "difference": difference, "better": at.better(difference) > 0, **more,
    }  # fmt: skip


def _detectable(differences: Sequence[Json]) -> float | None:
    """The smallest difference from random samples that is found with 80 % power at 5 %."""
    known = [d for d in differences if d["error"] is not None]
    if not known:
        return None
    error = math.sqrt(float(np.mean([d["error"] ** 2 for d in known])))
    return power_constant(len(known), median(d["df"] for d in known)) * error


def _snr(at: _Measured, points: Sequence[Point], chosen: frozenset[str]) -> float | None:
    """SD of the arms' means at one budget, pooled over budgets, ÷ pooled SD of runs of an arm."""
    noise = run_sd(list(at.sets.values()))
    if not noise:
        return None
    spreads_at = []
    for beta in dict.fromkeys(p.beta for p in points):
        sets = {
            p.set: at.sets[p.set] for p in points
            if p.beta == beta and p.setting.arm not in _ENDS and p.label in chosen
            and p.set in at.sets
        }  # fmt: skip
        if len(sets) > 1:
            spreads_at.append(set_sd(list(sets.values())) ** 2)
    return math.sqrt(float(np.mean(spreads_at))) / noise if spreads_at else None


# -- ranks and laws --------------------------------------------------------------------------------


def _ranks(
    points: Sequence[Point], arms: Sequence[Arm], telling: Sequence[_Measured]
) -> Iterator[Json]:
    """How alike arms are ranked at two values of an axis, at each budget."""
    tasks = list(dict.fromkeys(m.task for m in telling))
    of_task = {
        task: dict(zip([p.label for p in points], rows, strict=True))
        for task, rows in zip(tasks, _split(arms, len(points)), strict=True)
    }
    axes = dict.fromkeys(a for p in points for a in p.setting.axes if _ranked(a))
    for axis in axes:
        values = list(dict.fromkeys(map(repr, _values(points, axis))))
        names = {repr(v): v for v in _values(points, axis)}
        for a, b in combinations(values, 2):
            for task in tasks:
                for beta in dict.fromkeys(p.beta for p in points if p.setting.arm not in _ENDS):
                    pairs = _pairs(points, axis, (a, b), beta, of_task[task])
                    if len(pairs) >= _LEAST_RANKED:
                        yield {
                            "axis": axis, "a": names[a], "b": names[b], "task": task, "beta": beta,
                            "arms": len(pairs), **_agreement(pairs),
                        }  # fmt: skip


def _ranked(axis: str) -> bool:
    return axis == "base" or axis.startswith("train.")


def _values(points: Sequence[Point], axis: str) -> list[Any]:
    return [p.setting.axes[axis] for p in points if axis in p.setting.axes]


def _split(arms: Sequence[Arm], size: int) -> Iterator[Sequence[Arm]]:
    return (arms[i : i + size] for i in range(0, len(arms), size))


def _pairs(
    points: Sequence[Point], axis: str, values: tuple[str, str], beta: float,
    rows: Mapping[str, Arm],
) -> list[tuple[float, float]]:  # fmt: skip
    """Performance of every arm at both values, shared runs left out."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for point in points:
        row = rows[point.label]
        same = point.beta == beta and point.setting.arm not in _ENDS and not point.shares
        if same and row.value is not None and axis in point.setting.axes:
            others = {k: repr(v) for k, v in point.setting.axes.items() if k != axis}
            key = repr((point.setting.arm, sorted(others.items())))
            found[key][repr(point.setting.axes[axis])] = row.performance
    a, b = values
    return [(both[a], both[b]) for both in found.values() if a in both and b in both]


def _agreement(pairs: Sequence[tuple[float, float]]) -> Json:
    one, other = np.array(pairs).T
    signs = [np.sign(one[i] - one[j]) * np.sign(other[i] - other[j])
             for i, j in combinations(range(len(one)), 2)]  # fmt: skip
    correlation = spearman(one, other)
    return {
        "spearman": correlation if math.isfinite(correlation) else None,
        "decision_accuracy": float(np.mean([(1 + s) / 2 for s in signs])),
    }


def _fits(comparison: Comparison) -> tuple[list[Json], list[str]]:
    """The law of every panel, and why where there is none."""
    fits: list[Json] = []
    for size in sorted({arm.train_params for arm in comparison.arms}):
        try:
            panels = trials_of(comparison, train_params=size)
        except DataError as error:
            return fits, [f"no performance law: {error}"]
        for panel in panels:
            try:
                shared = fit_shared(panel.curves, end=panel.end, base=panel.base)
            except DataError as error:
                return fits, [f"no performance law: {panel.name}: {error}"]
            fits.append({"panel": panel.name, "train_params": size, **shared.to_json()})
            if min(len(curve.compute) for curve in panel.curves) >= LEAST_POINTS:
                own = fit_own(panel.curves, end=panel.end)
                fits.append({"panel": panel.name, "train_params": size, **own.to_json()})
    return fits, []
