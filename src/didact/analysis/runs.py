"""Runs: what one training came to on held-out data, and of which set of samples it was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, NamedTuple

from didact.core.arrays import Float1D, UInt64s, frozen
from didact.core.errors import DataError

SEEDS: Final = ("init", "draw", "order")


class What(NamedTuple):
    """What a value is of.

    Attributes:
        file: Base name of the held-out file; empty in a table that names none.
        task: The task; empty for all of them together.
        metric: Such as `bits_per_byte`.
    """

    file: str
    task: str
    metric: str

    def __str__(self) -> str:
        """For messages."""
        return " · ".join(part for part in self if part)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What every held-out sample adds to a value, which is Σ numerators ÷ Σ denominators.

    Attributes:
        keys: Identity of each sample, `(n,)` uint64, ascending and unique.
        numerators: Such as bits, `(n,)`.
        denominators: Such as bytes, `(n,)`, positive; ones where the value is a mean.
    """

    keys: UInt64s
    numerators: Float1D
    denominators: Float1D

    def __post_init__(self) -> None:
        for name, dtype in (("keys", "u8"), ("numerators", "f8"), ("denominators", "f8")):
            object.__setattr__(self, name, frozen(getattr(self, name), dtype))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def value(self) -> float:
        """The value of all of them."""
        return float(self.numerators.sum() / self.denominators.sum())


@dataclass(frozen=True, slots=True)
class Measure:
    """One value of a run.

    Attributes:
        value: In the metric's own unit; finite.
        higher_is_better: Direction of the metric.
        samples: What the value is made of; None where only the value is known.
    """

    value: float
    higher_is_better: bool
    samples: Samples | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trained model, evaluated.

    Attributes:
        name: What messages call it: the path of its evaluation, or its name in a table.
        set: Label of the set, or of the recipe, that it was trained on; runs of one set are told
            apart by their seeds alone.
        measures: What was found.
        seeds: `init`, `draw`, `order`, or whatever else was drawn; None where none was.
        draw: Identity of the very rows that it was trained on; empty when not known. A set that is
            a recipe has several.
        size: Number of parameters; None when not known.
    """

    name: str
    set: str
    measures: Mapping[What, Measure]
    seeds: Mapping[str, int | None] = field(default_factory=dict)
    draw: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        for what, measure in self.measures.items():
            if not math.isfinite(measure.value):
                raise DataError(
                    f"{self.name}: {what} is {measure.value}; expected a number: evaluate it "
                    "again, or leave the run out"
                )

    def same_training(self, other: Run) -> bool:
        """Whether two runs are of one set, one size and seeds that are known and equal.

        Evaluations of one model on different files are not: they have no value in common.
        """
        mine, its = ({k: v for k, v in r.seeds.items() if v is not None} for r in (self, other))
        place = (self.set, self.draw, self.size) == (other.set, other.draw, other.size)
        return bool(mine) and mine == its and place and bool(self.measures.keys() & other.measures)


def checked(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs, of which there are two sets at least and none twice.

    Raises:
        DataError: There is one set, a run is given twice, some runs have a size and others none,
            or a metric has two directions; the message names the runs.
    """
    sets = sorted({run.set for run in runs})
    if len(sets) < 2:
        found = f"one, {sets[0]!r}" if sets else "none"
        raise DataError(
            f"runs of two sets are needed to tell sets apart, there is {found}; add runs of "
            "another, or name the sets with NAME=PATH"
        )
    for a, b in combinations(runs, 2):
        if a.name == b.name:
            raise DataError(f"{a.name}: is given twice; a run counts once: remove one")
        if a.same_training(b):
            told = ", ".join(f"{k} {v}" for k, v in a.seeds.items() if v is not None)
            raise DataError(
                f"{a.name} and {b.name}: are runs of one set, {a.set!r}, with the same seeds "
                f"({told}); a run counts once: remove one, or train it with another seed"
            )
    sizes = {run.size for run in runs}
    if None in sizes and len(sizes) > 2:
        unknown = next(run.name for run in runs if run.size is None)
        raise DataError(
            f"{unknown}: has no size, and the others are of several "
            f"({', '.join(f'{s:,}' for s in sorted(s for s in sizes if s is not None))} "
            "parameters); give it one, or leave it out"
        )
    _check_directions(runs)
    return tuple(runs)


def _check_directions(runs: Iterable[Run]) -> None:
    first: dict[What, Run] = {}
    for run in runs:
        for what, measure in run.measures.items():
            other = first.setdefault(what, run)
            if other.measures[what].higher_is_better != measure.higher_is_better:
                raise DataError(
                    f"{other.name} and {run.name}: of {what}, higher is better in one and worse "
                    "in the other; expected one direction: mend higher_is_better"
                )


def without_twins(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs of which no two of a set agree in every sample to the last bit; what is left out.

    A seed that changes nothing gives the same model; such runs are one and say nothing of the
    spread. Of runs whose samples are not known nothing is left out: equal values may be rounded.
    """
    kept: dict[tuple[str, str], Run] = {}
    notes = []
    for run in runs:
        twin = kept.setdefault((run.set, _signature(run)), run)
        if twin is not run:
            notes.append(
                f"{run.name} is left out: every sample is as in {twin.name} to the last bit, so "
                "the seeds in which they differ changed nothing, and they count as one run"
            )
    return tuple(kept.values()), tuple(notes)


def _signature(run: Run) -> str:
    """What a run shares with its twins; its name where that cannot be known."""
    digest = hashlib.blake2b(repr(run.size).encode(), digest_size=16)
    for what, measure in sorted(run.measures.items()):
        if measure.samples is None:
            return run.name
        digest.update(repr(what).encode())
        digest.update(measure.samples.keys.tobytes())
        digest.update(measure.samples.numerators.tobytes())
    return digest.hexdigest()
