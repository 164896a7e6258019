"""Differences of arms at one budget, with the test that decides which are ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from didact.analysis.apart import tested
from didact.analysis.intervals import Estimate
from didact.analysis.told import Difference
from didact.comparing.measured import Choice, Measured
from didact.comparing.points import Point
from didact.planning.comparison import ALL, BASE, RANDOM

Json = dict[str, Any]
Pair = tuple[Point, Point]
_ENDS: Final = frozenset({BASE, ALL})


class Tested(NamedTuple):
    """Differences that were tested together, and the smallest that would have been found."""

    differences: tuple[Json, ...]
    detectable: float | None


def beside_random(at: Measured, points: Sequence[Point], choice: Choice) -> Tested:
    """Every chosen arm beside random samples at its budget."""
    there = [p for p in points if p.label in choice.labels and p.set in at.sets]
    pairs = [
        (point, random)
        for random in there
        if random.setting.arm == RANDOM
        for point in there
        if point.setting.arm not in {*_ENDS, RANDOM} and point.beta == random.beta
    ]
    return _tested(at, pairs)


def beside_free(at: Measured, points: Sequence[Point], choice: Choice) -> Tested:
    """At every budget the best arm whose scoring takes FLOPs beside the best of the others.

    Both are chosen by the files that settings are chosen by, so that nothing is gained by having
    been picked; without such files there is nothing.
    """
    if not choice.tables:
        return Tested((), None)
    there = [
        p for p in points
        if p.label in choice.labels and p.set in at.sets and p.setting.arm not in _ENDS
    ]  # fmt: skip
    pairs = []
    for beta in dict.fromkeys(p.beta for p in there):
        here = [p for p in there if p.beta == beta]
        paying = [p for p in here if p.selection_flops > 0]
        free = [p for p in here if p.selection_flops == 0]
        if paying and free:
            pairs.append((max(paying, key=choice.worth), max(free, key=choice.worth)))
    return _tested(at, pairs)


def _tested(at: Measured, pairs: Sequence[Pair]) -> Tested:
    """The differences of some pairs, Holm's test over all of them; shared runs are ties."""
    apart = [(a, b) for a, b in pairs if a.set != b.set]
    family = tested([(at.sets[a.set], at.sets[b.set]) for a, b in apart], at.spread, at.rest)
    found = [
        _told(at, a, b, d, e)
        for (a, b), d, e in zip(apart, family.differences, family.estimates, strict=True)
    ]
    found += [_told(at, a, b, _same(a), None) for a, b in pairs if a.set == b.set]
    return Tested(tuple(found), family.detectable)


def _same(point: Point) -> Difference:
    """That of two points which are the same runs: no evidence of anything."""
    return Difference(
        a=point.set, b=point.set, difference=0.0, low=None, high=None, holm_low=None,
        holm_high=None, p=None, tie=True,
    )  # fmt: skip


def _told(
    at: Measured, point: Point, other: Point, found: Difference, estimate: Estimate | None
) -> Json:
    return {
        "task": at.task, "base": at.base, "arm": point.setting.arm,
        "setting": point.setting.axes_text, "against": other.setting.label, "beta": point.beta,
        "train_params": point.n_params, "filled": point.fill,
        "selection_flops": point.selection_flops, "shares_runs": bool(point.shares),
        "difference": found.difference, "better": at.better(found.difference) > 0,
        "low": found.low, "high": found.high,
        "holm_low": found.holm_low, "holm_high": found.holm_high, "p": found.p, "tie": found.tie,
        "error": estimate.error if estimate else None, "df": estimate.df if estimate else None,
    }  # fmt: skip
