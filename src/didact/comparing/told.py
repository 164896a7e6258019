"""Told: what points come to. Means with intervals, differences from random samples, ranks, laws."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from didact.analysis.arms import tables
from didact.analysis.intervals import mean_estimate
from didact.analysis.runs import checked, without_twins
from didact.analysis.spread import run_sd, set_sd
from didact.comparing.differences import beside_free, beside_random, detectable
from didact.comparing.measured import Choice, Measured, whole_files
from didact.comparing.points import Point
from didact.comparing.settings import Setting
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
        reasons = [p.reason for p in points if p.reason]
        failed = [reason for reason in reasons if reason.startswith("failed")]
        not_run = ["none is done yet"] if "not run" in reasons else []
        why = next(iter([*failed, *not_run]), "none was feasible")
        raise DataError(f"no run came to an end: {why}")
    points, renamed = _told_apart(points)
    kept, notes = without_twins(checked(runs))
    whole = whole_files({what for run in kept for what in run.measures}, asked.metric)
    found = [t for t in tables(kept) if t.what in whole]
    telling = [
        Measured.of(t, whole[t.what])
        for t in found
        if whole[t.what] not in asked.choosing
        and (not asked.telling or whole[t.what] in asked.telling)
    ]
    if not telling:
        raise DataError(
            f"no two arms have {asked.metric} on {', '.join(asked.telling) or 'a task'}; give a "
            "metric that the files have (bits_per_byte; of multiple choice answer_probability)"
        )
    choice = Choice.of(points, [t for t in found if whole[t.what] in asked.choosing])
    once = [p for p in points if not p.fill]
    filled = [p for p in points if p.fill]
    arms = tuple(_arms(once, telling, choice, asked))
    of_task = {m.task: [o for o in telling if o.task == m.task] for m in telling}
    differences = [
        d
        for some in (once, filled)
        if some
        for measured in of_task.values()
        for d in beside_random(measured, some, choice)
    ]
    of_sizes: list[Json] = [
        {"task": m.task, "train_params": m.table.size, "snr": _snr(m, once, choice)}
        for m in telling
    ]
    snr = {str(each["task"]): each["snr"] for each in of_sizes}  # of several sizes the largest
    bare = Comparison(arms, snr=snr, about={"snr_of_sizes": of_sizes})
    fits, said = _fits(bare)
    ranks = list(_ranks(once, arms, telling))
    of_size = [r["decision_accuracy"] for r in ranks if r["axis"] == "base"]
    table_notes = dict.fromkeys(note for m in telling for note in m.table.notes)
    whole_about = {
        **about,
        "snr_of_sizes": of_sizes,
        "detectable": {
            f"{m.task}": detectable([d for d in differences if d["task"] == m.task])
            for m in telling
        },
        "paying": list(beside_free(telling, once, choice)),
        "notes": [
            *about.get("notes", ()),
            *renamed,
            *notes,
            *table_notes,
            *_unspent(points),
            *said,
        ],
    }
    comparison = replace(
        bare,
        fits=tuple(fits), ranks=ranks or None,
        decision_accuracy=float(np.mean(of_size)) if of_size else None,
        filled=tuple(_arms(filled, telling, choice, asked)),
        differences=tuple(differences), about=whole_about,
    )  # fmt: skip
    return replace(comparison, verdict=verdict(comparison))


def _told_apart(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """The points, with a method of its own for every arm but the first by a method; and notes."""
    names: dict[str, list[str]] = defaultdict(list)
    for point in points:
        if point.setting.arm not in names[point.setting.method]:
            names[point.setting.method].append(point.setting.arm)

    def own(setting: Setting) -> Setting:
        first = names[setting.method][0] == setting.arm
        return setting if first else replace(setting, method=f"{setting.method}, {setting.arm}")

    notes = [
        f"{method} has several arms ({', '.join(arms)}); a plan from this takes {arms[0]} for it"
        for method, arms in names.items()
        if len(arms) > 1
    ]
    return [replace(point, setting=own(point.setting)) for point in points], notes


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


def _arms(
    points: Sequence[Point], telling: Sequence[Measured], choice: Choice, asked: Asked
) -> Iterator[Arm]:
    tasks = dict.fromkeys((m.task, m.table.what.metric, m.table.higher_is_better) for m in telling)
    for task, metric, higher in tasks:
        for point in points:
            yield _arm(point, task, metric, telling, choice, asked, higher=higher)


def _arm(
    point: Point,
    task: str,
    metric: str,
    telling: Sequence[Measured],
    choice: Choice,
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
        setting=point.setting.told, chosen=point.label in choice.labels,
    )  # fmt: skip


def _snr(at: Measured, points: Sequence[Point], choice: Choice) -> float | None:
    """SD of the arms' means at one budget, pooled over budgets, ÷ pooled SD of runs of an arm."""
    noise = run_sd(list(at.sets.values()))
    if not noise:
        return None
    spreads_at = []
    for beta in dict.fromkeys(p.beta for p in points):
        sets = {
            p.set: at.sets[p.set] for p in points
            if p.beta == beta and p.setting.arm not in _ENDS and p.label in choice.labels
            and p.set in at.sets
        }  # fmt: skip
        if len(sets) > 1:
            spreads_at.append(set_sd(list(sets.values())) ** 2)
    return math.sqrt(float(np.mean(spreads_at))) / noise if spreads_at else None


# -- ranks and laws --------------------------------------------------------------------------------


def _ranks(
    points: Sequence[Point], arms: Sequence[Arm], telling: Sequence[Measured]
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
            fits.append({"panel": panel.name, "train_params": size, **shared.to_json()})
            if min(len(curve.compute) for curve in panel.curves) >= LEAST_POINTS:
                own = fit_own(panel.curves, end=panel.end)
                fits.append({"panel": panel.name, "train_params": size, **own.to_json()})
    return fits, said
