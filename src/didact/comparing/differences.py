"""Differences of arms at one budget, with the test that decides which are ties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

import numpy as np

from didact.analysis.intervals import difference_estimate, holm_levels
from didact.analysis.power import power_constant
from didact.comparing.measured import Choice, Measured
from didact.comparing.points import Point
from didact.planning.comparison import ALL, BASE, RANDOM

Json = dict[str, Any]
Pair = tuple[Measured, Point, Point]  # a measure, and two points that have it
_ENDS: Final = frozenset({BASE, ALL})


def beside_random(
    measured: Sequence[Measured], points: Sequence[Point], choice: Choice
) -> Iterator[Json]:
    """Every chosen arm beside random samples at its budget, of models of all sizes.

    Args:
        measured: One task at every size of the trained model.
        points: The points.
        choice: Which of them speak for their arm.
    """
    pairs: list[Pair] = []
    for at in measured:
        there = [p for p in points if p.label in choice.labels and p.set in at.sets]
        pairs += [
            (at, point, random)
            for random in there
            if random.setting.arm == RANDOM
            for point in there
            if point.setting.arm not in {*_ENDS, RANDOM} and _alike(point, random)
        ]
    return _tested(pairs)


def beside_free(
    measured: Sequence[Measured], points: Sequence[Point], choice: Choice
) -> Iterator[Json]:
    """At every budget the best arm whose scoring takes FLOPs beside the best of the others.

    Both are chosen by the files that settings are chosen by, so that nothing is gained by having
    been picked; without such files there is nothing.
    """
    if not choice.tables:
        return iter(())
    pairs: list[Pair] = []
    for at in measured:
        there = [
            p for p in points
            if p.label in choice.labels and p.set in at.sets and p.setting.arm not in _ENDS
        ]  # fmt: skip
        for place in dict.fromkeys((p.beta, p.setting.place[0]) for p in there):
            here = [p for p in there if (p.beta, p.setting.place[0]) == place]
            paying = [p for p in here if p.selection_flops > 0]
            free = [p for p in here if p.selection_flops == 0]
            if paying and free:
                pairs.append((at, max(paying, key=choice.worth), max(free, key=choice.worth)))
    return _tested(pairs)


def _alike(a: Point, b: Point) -> bool:
    return a.beta == b.beta and a.setting.place[0] == b.setting.place[0]


def _tested(pairs: Sequence[Pair]) -> Iterator[Json]:
    """The differences of some pairs, Holm's test over all of them; shared runs are ties."""
    apart = [pair for pair in pairs if pair[1].set != pair[2].set]
    estimates = [
        difference_estimate(at.sets[a.set], at.sets[b.set], at.spread, at.rest)
        for at, a, b in apart
    ]
    levels, passed = holm_levels([e.p_value if e else 1.0 for e in estimates])
    for (at, a, b), e, level, told_apart in zip(apart, estimates, levels, passed, strict=True):
        low, high = e.interval() if e else (None, None)
        holm_low, holm_high = e.interval(level) if e else (None, None)
        yield _told(
            at, a, b, difference=at.sets[a.set].mean - at.sets[b.set].mean, low=low, high=high,
            holm_low=holm_low, holm_high=holm_high, p=e.p_value if e else None,
            tie=not told_apart, error=e.error if e else None, df=e.df if e else None,
        )  # fmt: skip
    for at, a, b in pairs:
        if a.set == b.set:
            yield _told(
                at, a, b, difference=0.0, low=None, high=None, holm_low=None, holm_high=None,
                p=None, tie=True, error=None, df=None,
            )  # fmt: skip


def _told(at: Measured, point: Point, other: Point, *, difference: float, **more: Any) -> Json:
    return {
        "task": at.task, "arm": point.setting.arm, "setting": point.setting.told,
        "against": other.setting.label, "beta": point.beta, "train_params": point.n_params,
        "filled": point.fill, "selection_flops": point.selection_flops,
        "shares_runs": bool(point.shares), "difference": difference,
        "better": at.better(difference) > 0, **more,
    }  # fmt: skip


def detectable(differences: Sequence[Json]) -> float | None:
    """The smallest difference that is found with 80 % power at 5 % among some."""
    known = [d for d in differences if d["error"] is not None]
    if not known:
        return None
    error = math.sqrt(float(np.mean([d["error"] ** 2 for d in known])))
    return power_constant(len(known), median(d["df"] for d in known)) * error
