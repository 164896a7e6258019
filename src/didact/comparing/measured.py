"""Runs by one measure, and what is chosen by others: what all that is told stands on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from didact.analysis.apart import cautions
from didact.analysis.arms import Arm as SetOfRuns
from didact.analysis.arms import Table
from didact.analysis.intervals import rest_variance
from didact.analysis.runs import What
from didact.analysis.spread import Spread, run_sd, set_sd, spreads
from didact.comparing.points import Point
from didact.planning.comparison import contest


@dataclass(frozen=True, slots=True)
class Measured:
    """A table of runs by one measure, with what intervals need.

    Attributes:
        table: The table.
        task: What it is a measure of.
        base: The model that all its runs started from, where there are several.
        sets: Label of a set → its runs.
        spread: Label of a set → how far its runs come apart.
        rest: What is left of the variance of a sample in a run.
        notes: What was left out or decided, and where intervals hold less than they say.
    """

    table: Table
    task: str
    base: str
    sets: Mapping[str, SetOfRuns]
    spread: Mapping[str, Spread]
    rest: float
    notes: tuple[str, ...]

    @classmethod
    def of(cls, table: Table, task: str, base: str, ends: AbstractSet[str]) -> Measured:
        """A table with its spreads.

        Args:
            table: The table.
            task: What it is a measure of.
            base: See the attributes.
            ends: Sets of which one run is all there can be: base models.
        """
        found, notes = spreads(table.arms)
        rest = rest_variance(table.arms)
        said = cautions(table, [arm for arm in table.arms if arm.set not in ends])
        sets = {arm.set: arm for arm in table.arms}
        return cls(table, task, base, sets, found, rest, (*table.notes, *notes, *said))

    @property
    def contest(self) -> str:
        """What its sets are compared within."""
        return contest(self.task, self.base)

    def better(self, difference: float) -> float:
        """A difference turned so that above 0 is better."""
        return difference if self.table.higher_is_better else -difference


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen on files by which nothing is told.

    Attributes:
        tables: Those files' tables.
        labels: Labels of the points that speak for their arm, base, target and budget.
    """

    tables: tuple[Table, ...]
    labels: frozenset[str]

    @classmethod
    def of(cls, points: Sequence[Point], tables: Sequence[Table]) -> Choice:
        """The best setting of every arm at every budget; the first one without such files."""
        groups: dict[Any, list[Point]] = defaultdict(list)
        for point in points:
            groups[point.setting.arm, point.setting.place, point.beta, point.fill].append(point)
        blank = cls(tuple(tables), frozenset())
        best = (max(group, key=blank.worth) for group in groups.values())
        return replace(blank, labels=frozenset(point.label for point in best))

    def worth(self, point: Point) -> float:
        """Mean performance on the files, higher is better; the least where it is not known.

        Each file in the unit of its own noise, the SD of runs: else that with the largest numbers
        would decide alone.
        """
        signed = [
            (1 if table.higher_is_better else -1) * arm.mean / _unit(table)
            for table in self.tables
            for arm in table.arms
            if arm.set == point.set
        ]
        return float(np.mean(signed)) if signed else -math.inf


def _unit(table: Table) -> float:
    """SD of runs of a set; where that is not known, of the sets' means."""
    return run_sd(table.arms) or set_sd(table.arms) or 1.0


def whole_files(whats: set[What], metric: str) -> dict[What, str]:
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
