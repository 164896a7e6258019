"""The runs of a set as the units that vary: runs, or draws of rows with their runs inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from didact.analysis.runs import Run, Samples, What
from didact.core.arrays import Float1D, Float2D, Int1D
from didact.core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """The runs of one set, by one measure.

    Attributes:
        set: Label of the set.
        values: Value of every run, `(r,)`.
        unit_of: Which unit each run belongs to, `(r,)`, from 0. A unit is a run; where the runs of
            a set are of several draws of rows, a unit is a draw, for runs of one draw share it.
        draws: Whether the units are draws.
        influences: What every held-out sample moves the value of each unit by, times n,
            `(units, n)`; None where samples are not known.
    """

    set: str
    values: Float1D
    unit_of: Int1D
    draws: bool = False
    influences: Float2D | None = None

    @property
    def units(self) -> Float1D:
        """Value of every unit, `(units,)`: the mean of its runs."""
        return grouped_means(self.values, self.unit_of)

    @property
    def mean(self) -> float:
        """Mean over units."""
        return float(self.units.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All sets by one measure, at one size.

    Attributes:
        what: File, task and metric.
        higher_is_better: Direction of the metric.
        size: Number of parameters of the models; None when not known.
        arms: A set each, by label.
        n_samples: Number of held-out samples that all runs have; 0 where samples are not known.
        effective: As how many samples of equal weight they count: (Σ d)² ÷ Σ d² of the
            denominators d.
        notes: What was left out.
    """

    what: What
    higher_is_better: bool
    size: int | None
    arms: tuple[Arm, ...]
    n_samples: int = 0
    effective: float = 0.0
    notes: tuple[str, ...] = field(default=())


def grouped_means(values: Float1D, group_of: Int1D) -> Float1D:
    """Mean of the rows of each group, `(groups, …)`; groups are numbered from 0, none is empty."""
    inside = (group_of == np.arange(group_of.max() + 1)[:, None]).astype(np.float64)
    sums: Float1D = inside @ values
    return np.asarray((sums.T / inside.sum(axis=1)).T)


def influences(samples: Samples) -> Float1D:
    """How far each sample moves Σ numerators ÷ Σ denominators, times n, `(n,)`.

    (n − 1) times the change of the value when the sample is left out: the deviation from the mean
    where all denominators are equal, and close to it in mean and spread where they are not. One
    sample, or all weight on one, says nothing: zeros.

    **Source:** the jackknife of a ratio, Miller 1974, "The jackknife: a review", Biometrika 61.
    **Cost:** O(n).
    """
    rest = samples.denominators.sum() - samples.denominators
    if not (rest > 0).all():
        return np.zeros(len(samples))
    moved = samples.numerators - samples.value * samples.denominators
    return np.asarray((len(samples) - 1) * moved / rest)


def tables(runs: Sequence[Run]) -> tuple[Table, ...]:
    """What the runs are compared by: every measure that two sets have, at each size.

    Raises:
        DataError: No measure is in runs of two sets, or runs share less than half of their
            held-out samples.
    """
    found = []
    whats = sorted({what for run in runs for what in run.measures})
    sizes = sorted({run.size or 0 for run in runs if run.size})
    for what in whats:
        for size in sizes or [0]:
            # a size that is not told is that of the others: `checked` has seen to it
            same = [r for r in runs if not sizes or r.size in {None, size}]
            having = [r for r in same if what in r.measures]
            if len({run.set for run in having}) < 2:
                continue
            left = sorted(run.name for run in same if what not in run.measures)
            notes = _missing(left, len(same), what)
            found.append(_table(what, size or None, having, notes))
    if not found:
        raise DataError(
            f"no file and task is in runs of two sets ({', '.join(map(str, whats)) or 'none'} "
            "found); evaluate all models on the same files"
        )
    return tuple(found)


def _missing(left: Sequence[str], n: int, what: What) -> tuple[str, ...]:
    if not left:
        return ()
    named = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return (f"{len(left)} of {n} runs have no {what} and are left out of it: {named}",)


def _table(what: What, size: int | None, runs: Sequence[Run], notes: tuple[str, ...]) -> Table:
    measures = {run.name: run.measures[what] for run in runs}
    samples = {name: m.samples for name, m in measures.items() if m.samples is not None}
    n, effective = 0, 0.0
    if samples and len(samples) < len(runs):
        some = next(run.name for run in runs if run.name not in samples)
        notes += (f"samples are not known of all runs, such as {some}, so they are not used",)
        samples = {}
    if samples:
        samples, told = on_common_samples(samples, what)
        weights = next(iter(samples.values())).denominators
        n, effective = len(weights), float(weights.sum() ** 2 / (weights**2).sum())
        notes += told
    values = {name: samples[name].value if samples else m.value for name, m in measures.items()}
    arms = []
    for label in sorted({run.set for run in runs}):
        mine = [run for run in runs if run.set == label]
        arms.append(_arm(label, mine, values, samples))
    direction = next(iter(measures.values())).higher_is_better
    return Table(
        what=what, higher_is_better=direction, size=size, arms=tuple(arms), n_samples=n,
        effective=effective, notes=notes,
    )  # fmt: skip


def _arm(
    label: str, runs: Sequence[Run], values: Mapping[str, float], samples: Mapping[str, Samples]
) -> Arm:
    known = {run.draw for run in runs}
    draws = len(known) > 1 and "" not in known
    numbers = {draw: i for i, draw in enumerate(dict.fromkeys(run.draw for run in runs))}
    unit_of = np.array([numbers[run.draw] if draws else i for i, run in enumerate(runs)])
    moved = None
    if samples:
        of_runs = np.stack([influences(samples[run.name]) for run in runs])
        moved = grouped_means(of_runs, unit_of)
    return Arm(
        set=label, values=np.array([values[run.name] for run in runs]), unit_of=unit_of,
        draws=draws, influences=moved,
    )  # fmt: skip


def on_common_samples(
    samples: Mapping[str, Samples], what: What
) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """The same held-out samples of every run, and a note where some have others.

    Rows that a model was trained on are dropped from its evaluation, so what is left differs
    between models: only what all have been asked is compared.

    Raises:
        DataError: Less than half of the samples of some run are common to all.
    """
    common = reduce(np.intersect1d, (s.keys for s in samples.values()))
    largest, most = max(((name, len(s)) for name, s in samples.items()), key=lambda p: p[1])
    if 2 * len(common) < most or not len(common):
        raise DataError(
            f"{what}: {len(common):,} samples are common to all runs, {largest} has {most:,}; "
            "expected the same held-out samples: evaluate all models on one file"
        )
    cut = {}
    for name, of_run in samples.items():
        at = np.searchsorted(of_run.keys, common)
        cut[name] = Samples(common, of_run.numerators[at], of_run.denominators[at])
    notes = []
    short = sum(len(s) > len(common) for s in samples.values())
    if short:
        notes.append(
            f"{len(common):,} samples that all runs have are compared; {short} of {len(samples)} "
            f"runs have more, up to {most:,}"
        )
    first, *others = cut.values()
    unequal = np.zeros(len(common), np.bool_)
    for other in others:
        unequal |= other.denominators != first.denominators
    if unequal.any():
        notes.append(
            f"{unequal.sum():,} of {len(common):,} samples were read at different lengths by "
            "different runs: their templates, tokenizers or cuts differ"
        )
    return cut, tuple(notes)
