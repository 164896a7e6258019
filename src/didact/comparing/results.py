"""Results of other people's trainings and evaluations, taken back as runs of a comparison."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from didact.analysis.run_tables import csv_rows, direction, finite
from didact.analysis.runs import Measure, Run, What
from didact.comparing.exporting import COLUMNS, Exported, read_exported
from didact.comparing.grid import Grid, GridGiven, read_grid
from didact.comparing.measured import task_of
from didact.comparing.points import Point, trained_by
from didact.comparing.settings import Setting, parsed, settings_of
from didact.comparing.told import Asked, told
from didact.comparing.writing import write_comparison
from didact.core.errors import DataError, did_you_mean
from didact.core.paths import Given, Place, place
from didact.planning.comparison import BASE, RANDOM, Comparison
from didact.training.settings import TrainSettings

_WHOLE: Final = re.compile(r"([0-9]{1,19})(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table."""

    arm: str
    seed: int | None
    task: str
    metric: str
    value: float
    higher_is_better: bool
    training_flops: float | None
    place: str


def compared_results(given: GridGiven, out: Given, results: Given) -> Comparison:
    """What was trained and evaluated elsewhere, told as a comparison; its files are written.

    Args:
        given: The grid that the arms were exported by, as `didact.compare` takes it.
        out: The folder they were exported into.
        results: A CSV: `arm, seed, task, metric, value, higher_is_better, training_flops`; the last
            is what is left for the training where it is empty, and the direction of didact's own
            metrics is known.

    Raises:
        DataError: No arms were exported there, a row is bad or given twice, several metrics are
            given and none is the grid's, or there is no run of random samples.
    """
    grid, where = read_grid(given)
    home, path = place(out).absolute(), place(results)
    settings = {setting.label: setting for setting in settings_of(grid, where)}
    arms: dict[str, list[Exported]] = defaultdict(list)
    for each in read_exported(home):
        if each.setting not in settings:
            raise DataError(
                f"{where}: has no arm {each.setting!r}, which was exported into {home}; give the "
                "grid that it was exported by"
            )
        arms[each.arm].append(each)
    rows = _of_one_metric(_read(path, arms), grid.metric, path)
    if not any(settings[arms[row.arm][0].setting].arm == RANDOM for row in rows):
        raise DataError(
            f"{path}: has no run of random samples, beside which every arm is judged; train and "
            f"evaluate {next((a for a in arms if a.startswith(RANDOM)), 'random')!r}"
        )
    choosing = tuple(task_of(file) for file in grid.choose_on)
    absent = [task for task in choosing if task not in {row.task for row in rows}]
    if absent and grid.choice_axes:
        raise DataError(
            f"{path}: has no {rows[0].metric} on {absent[0]!r}, by which settings of axes are "
            f"chosen; add rows of task {absent[0]}, or leave choose_on and axes out of the grid"
        )
    points = [
        _point(grid, settings[group[0].setting], group, [r for r in rows if r.arm == name])
        for name, group in arms.items()
    ]
    named = dict(zip(arms, points, strict=True))
    points = [_shared(point, named[point.shares]) if point.shares else point for point in points]
    asked = Asked(metric=rows[0].metric, choosing=choosing)
    note = f"values are those of {path.name}: trained and evaluated elsewhere, samples not known"
    about = {
        "budgets": list(grid.budgets), "seeds": list(grid.seeds), "metric": rows[0].metric,
        "tasks": grid.tasks, "choose_on": list(choosing), "tell_on": [], "notes": [note],
    }  # fmt: skip
    found = told(points, asked, about)
    write_comparison(found, home)
    return found


def _trained_by(grid: Grid, setting: Setting) -> dict[str, Any]:
    """Order, schedule and learning rate; none of the base model."""
    if setting.method == BASE:
        return {}
    config = parsed(grid, setting, where=setting.label)
    settings = {} if config.train is None else config.train.settings()
    return trained_by(setting, TrainSettings(**settings))


def _point(grid: Grid, setting: Setting, group: Sequence[Exported], rows: Sequence[_Row]) -> Point:
    first = group[0]
    there = bool(rows or first.shares)
    status = "infeasible" if first.reason else "done" if there else "missing"
    left = float(np.mean([each.training_flops for each in group]))
    spent = [row.training_flops for row in rows if row.training_flops is not None]
    reason = first.reason or ("" if there else "not in the table of results")
    done = len({row.seed for row in rows})
    if 0 < done < len(group):
        reason = f"{len(group) - done} of {len(group)} runs not in the table of results"
    point = Point(
        setting=setting, beta=first.beta, k_flops=first.k_flops,
        selection_flops=float(np.mean([each.selection_flops for each in group])),
        selection_cpu_seconds=float(np.mean([each.selection_cpu_seconds for each in group])),
        training_flops=0.0 if not rows else float(np.mean(spent)) if spent else left, tokens=0,
        n_params=first.n_params, selector_params=first.selector_params, shares=first.shares,
        status=status, reason=reason,
        **_trained_by(grid, setting),
    )  # fmt: skip
    by_seed: dict[int | None, list[_Row]] = defaultdict(list)
    for row in rows:
        by_seed[row.seed].append(row)
    runs = tuple(
        Run(
            name=f"{first.arm}, seed {seed}", set=point.label,
            measures={
                What("", r.task, r.metric): Measure(r.value, r.higher_is_better) for r in some
            },
            seeds={"seed": seed}, draw=f"draw {seed}" if setting.draws else "",
            size=first.n_params,
        )
        for seed, some in by_seed.items()
    )  # fmt: skip
    return replace(point, runs=runs)


def _shared(point: Point, of: Point) -> Point:
    """A point that is the same training as another."""
    return replace(
        point, shares=of.label, training_flops=of.training_flops, status=of.status,
        reason=point.reason or of.reason,
    )  # fmt: skip


def _of_one_metric(rows: Sequence[_Row], metric: str, path: Place) -> list[_Row]:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    if metric not in metrics and len(metrics) > 1:
        raise DataError(
            f"{path}: has {', '.join(metrics)}, and the grid's metric is {metric!r}; set metric in "
            "the grid to the one that is to be told"
        )
    taken = metric if metric in metrics else metrics[0]
    return [row for row in rows if row.metric == taken]


def _read(path: Place, arms: Mapping[str, Sequence[Exported]]) -> list[_Row]:
    out: list[_Row] = []
    seen: dict[tuple[Any, ...], str] = {}
    for number, given in csv_rows(path, COLUMNS[:-1]):
        told = {name: value.strip() for name, value in given.items()}
        if not told["value"]:
            continue  # of a run that was not made
        row = _row(told, f"{path}:{number}", arms)
        key = (row.arm, row.seed, row.task, row.metric)
        if key in seen:
            raise DataError(f"{row.place}: is given at {seen[key]}, too; a run counts once")
        seen[key] = row.place
        out.append(row)
    if not out:
        raise DataError(f"{path}: has no row with a value; expected a run a line")
    return out


def _row(given: Mapping[str, str], place: str, arms: Mapping[str, Sequence[Exported]]) -> _Row:
    arm = given["arm"]
    if arm not in arms:
        raise DataError(f"{place}: arm {arm!r} was not exported{did_you_mean(arm, arms)}")
    if arms[arm][0].shares:
        raise DataError(
            f"{place}: {arm!r} is the same training as {arms[arm][0].shares!r} and has no runs of "
            "its own; leave the row out"
        )
    seeds = [each.seed for each in arms[arm]]
    # a column that has empty fields, too, is one of floats to many a tool: 0.0
    whole = _WHOLE.fullmatch(given["seed"])
    seed = int(whole[1]) if whole else None
    if seed not in seeds or bool(given["seed"]) != (seed is not None):
        expected = "no seed: it is one model" if seeds == [None] else f"one of {seeds}"
        raise DataError(f"{place}: seed {given['seed']!r} of {arm!r}; expected {expected}")
    for name in ("task", "metric"):
        if not given[name]:
            raise DataError(f"{place}: has no {name}; expected what the value is of")
    flops = None
    if given.get("training_flops"):
        flops = finite(given["training_flops"], "training_flops", place)
        if flops < 0:
            raise DataError(f"{place}: training_flops is {flops:g}; expected 0 or more")
    return _Row(
        arm, seed, given["task"], given["metric"], finite(given["value"], "value", place),
        direction(given["higher_is_better"] or None, given["metric"], place), flops, place,
    )  # fmt: skip
