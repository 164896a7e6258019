"""While training: the loss beside what was expected, spikes of it, jumps of the gradient's norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final

import numpy as np

from didact.analysis.risk.curve import HIGHEST_RATE, Curve
from didact.analysis.risk.flags import Judged
from didact.analysis.risk.odds import ENOUGH, Odds, as_normal, from_earlier, from_means, limit
from didact.core.arrays import Float1D

# What two trainings of like data differ by, as a share of the loss, at 272k parameters:
CONTINUED: Final = 0.003  # .008 of 2.8 between two shuffles, where a trained model goes on
FROM_SCRATCH: Final = 0.014  # √2 · .0276 of 2.8 between random sets, where one begins from nothing
MUCH: Final = 0.15  # of the loss: who loses more in an epoch knew little
BEFORE: Final = 40  # entries before a step, by whose spread its loss is judged
LATELY: Final = 9  # of them, with whose median it is compared
LEAST_BEFORE: Final = 16
AROUND: Final = 5  # entries before and behind a joint
TAIL: Final = 6.0  # degrees of freedom: losses and norms of steps have longer tails than a normal
MOST_SAME: Final = 0.1  # by how much numbers of steps may differ where step is compared with step
COURSE: Final = 21  # neighboring entries, whose mean is the course of a training
LEAST_DECIDING: Final = 12.0  # entries, as many equal ones would decide as much
LEAST_UNIT: Final = 0.05  # of a loss: near 0 a share of it is nothing
LEAST_WEIGHT: Final = 0.05  # of the loss, that a source needs to be judged on its own


@dataclass(frozen=True, slots=True)
class Run:
    """A training and, entry by entry, what was expected of its samples.

    Attributes:
        curve: Its first epoch.
        reference: Loss that the previous version's model has on the samples of each entry, `(n,)`,
            NaN where an entry has none; None where no model was asked.
        sources: The same by source.
        repeated: Share of each entry's tokens whose text an earlier entry read, `(n,)`; None where
            that is not known.
    """

    curve: Curve
    reference: Float1D | None = None
    sources: Mapping[str, Float1D] = field(default_factory=dict)
    repeated: Float1D | None = None

    def until(self, seen: float) -> Run:
        """The entries that end in a first share of the epoch."""
        curve = self.curve.until(seen)
        n = len(curve)
        return Run(
            curve, None if self.reference is None else self.reference[:n],
            {name: values[:n] for name, values in self.sources.items()},
            None if self.repeated is None else self.repeated[:n],
        )  # fmt: skip

    def gap(self, source: str = "", *, paired: bool = True) -> tuple[Float1D, Float1D]:
        """Loss less what was expected of it, entry by entry, and weights; 0 where unknown."""
        loss, weight = self.curve.loss, self.curve.weight
        if source:
            loss, weight = self.curve.sources[source]
        if paired and self.reference is not None:
            loss = loss - (self.sources[source] if source else self.reference)
        known = np.isfinite(loss)
        return np.where(known, loss, 0.0), np.where(known, weight, 0.0)


def comparable(this: Curve, other: Curve) -> str:
    """Why the losses of two trainings cannot be compared step by step; "" where they can."""
    if this.unit and other.unit and this.unit != other.unit:
        return f"the losses are in {this.unit} and in {other.unit}"
    for name in sorted(set(this.settings) & set(other.settings)):
        here, there = this.settings[name], other.settings[name]
        # logged every few steps of a schedule, the highest rate is known about
        if not (math.isclose(here, there, rel_tol=MOST_SAME) if name == HIGHEST_RATE
                else here == there):  # fmt: skip
            return f"{name} is {here!r}, and was {there!r}"
    if not (len(this) and len(other)):
        return "no step of the first epoch is told yet"
    if (
        len(this) > 1
        and len(other) > 1
        and this.step[1] - this.step[0] != (other.step[1] - other.step[0])
    ):
        return "one logs more often than the other"
    a, b = this.epoch_steps, other.epoch_steps
    if abs(a - b) > MOST_SAME * max(a, b):
        return f"an epoch has {a} steps, and had {b}: the learning rates differ"
    return ""


def between_runs(curve: Curve | None) -> float:
    """What two trainings like this one differ by, as a share of their loss.

    Args:
        curve: A whole first epoch; None where none is known, which counts as from scratch.
    """
    if curve is None or len(curve) < 2:
        return FROM_SCRATCH
    end = float(np.median(curve.loss[-max(len(curve) // 4, 1) :]))
    return FROM_SCRATCH if curve.loss[0] - end > MUCH * curve.loss[0] else CONTINUED


def judge_loss(this: Run, earlier: Sequence[Run], *, paired: bool, looks: int = 1) -> list[Judged]:
    """The loss so far beside that of earlier versions at the same steps, in all and by source.

    Where the previous version's model was asked (`paired`), what it expects of the very samples is
    taken off first, so that which samples came in a step hardly matters.

    Args:
        this: The training.
        earlier: Those of earlier versions, comparable ones, the previous one last.
        paired: Whether every one of them has a `reference`.
        looks: As in `odds.limit`.
    """
    names = [""] + [n for n in _weighty(this.curve) if all(n in r.curve.sources for r in earlier)]
    return [
        one
        for name in names
        if (one := _loss(this, earlier, name, limit(len(names), sides=2, looks=looks),
                         paired=paired)) is not None
    ]  # fmt: skip


def _loss(
    this: Run, earlier: Sequence[Run], source: str, beyond: float, *, paired: bool
) -> Judged | None:
    steps = reduce(np.intersect1d, [run.curve.step for run in (this, *earlier)])
    at = [np.searchsorted(run.curve.step, steps) for run in (this, *earlier)]
    gap, weight = (v[at[0]] for v in this.gap(source, paired=paired))
    pairs = [
        tuple(v[places] for v in run.gap(source, paired=paired))
        for run, places in zip(earlier, at[1:], strict=True)
    ]
    loss = (this.curve.sources[source][0] if source else this.curve.loss)[at[0]]
    used = (weight > 0) & np.all([w > 0 for _, w in pairs], axis=0)
    if np.count_nonzero(used) < 3:
        return None
    mean = [_mean(gap, weight, used), *(_mean(values, w, used) for values, w in pairs)]
    level = _mean(np.nan_to_num(loss), weight, used)
    off = (gap - pairs[-1][0])[used]
    within = float(off.std(ddof=1)) / math.sqrt(len(off))
    floor = between_runs(earlier[-1].curve) * level
    if len(earlier) >= ENOUGH:
        odds = from_earlier(mean[0], mean[1:], least_sd=math.hypot(within, floor) / 2**0.5)
    else:
        odds = from_means(mean[0], mean[-1], math.hypot(within, floor), len(off) - 1)
    # In the loss's own unit: what was seen, and what these samples should have taken.
    return Judged(
        kind="loss", seen=level, expected=level - (mean[0] - odds.expected), sd=odds.sd, z=odds.z,
        limit=beyond, source=source, both=True, unit=level,
    )  # fmt: skip


def _mean(values: Float1D, weight: Float1D, used: np.ndarray) -> float:
    return float(np.average(values[used], weights=weight[used]))


def _weighty(curve: Curve) -> list[str]:
    whole = float(curve.weight.sum())
    return [n for n, (_, w) in curve.sources.items() if w.sum() >= LEAST_WEIGHT * whole]


def judge_repeats(run: Run) -> list[Judged]:
    """Whether text that was read before in the run is easier by now: learnt by heart.

    What the previous version's model expects of the samples is taken off the loss of every entry,
    the course of the neighboring entries off that and off the share of repeated text, and the one
    is regressed on the other. Only steps of one run are compared, so that what runs differ in does
    not count; the standard error allows for entries that vary unequally, and the degrees of freedom
    for repeats that are all in a few of them.

    **Source:** MacKinnon and White 1985, "Some heteroskedasticity-consistent covariance matrix
    estimators with improved finite sample properties" (HC3).
    """
    if run.reference is None or run.repeated is None or len(run.curve) < 2 * COURSE:
        return []
    gap, weight = run.gap()
    known = (weight > 0) & np.isfinite(run.repeated)
    y, x = _off_course(gap[known]), _off_course(run.repeated[known])
    spread = float((x**2).sum())
    if len(y) < 2 * COURSE or not spread:
        return []
    # A few steps full of repeats would decide the slope, and its error with it.
    deciding = spread**2 / float((x**4).sum())
    if deciding < LEAST_DECIDING:
        return []
    slope = float((x * y).sum()) / spread
    residual = (y - slope * x) / (1 - x**2 / spread)
    sd = math.sqrt(float((x**2 * residual**2).sum())) / spread * math.sqrt(COURSE / (COURSE - 1))
    odds = from_means(-slope, 0.0, sd, deciding - 1)
    return [
        Judged(
            kind="repeats",
            seen=-slope,
            expected=0.0,
            sd=odds.sd,
            z=odds.z,
            limit=limit(),
        )
    ]


def _off_course(values: Float1D) -> Float1D:
    """Values less the mean of the `COURSE` around each; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at, half = np.arange(len(values)), COURSE // 2
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return np.asarray(values - (sums[high] - sums[low]) / (high - low))


def judge_spikes(curve: Curve, reference: Float1D | None = None, *, first: int = 0) -> list[Judged]:
    """Steps whose loss is far above the median of the steps just before.

    Only those that are flagged are told apart; of the others the highest one stands for all.

    Args:
        curve: The first epoch so far.
        reference: What was expected of each entry's samples, taken off first; None for nothing.
        first: Entry from which on steps are looked at.
    """
    values = curve.loss if reference is None else curve.loss - reference
    beyond, out, highest = limit(curve.epoch_steps), [], None
    for at in range(max(first, LEAST_BEFORE), len(curve)):
        before = values[max(at - BEFORE, 0) : at]
        middle = float(np.median(before[-LATELY:]))
        # Differences of neighbors know nothing of the course: a loss that falls does not vary.
        spread = robust_sd(np.diff(before)) / 2**0.5
        odds = _odds(float(values[at]), middle, spread, curve.loss[at] - values[at])
        one = Judged(
            kind="spike", seen=float(curve.loss[at]), expected=odds.expected, sd=odds.sd, z=odds.z,
            limit=beyond, unit=max(odds.expected, LEAST_UNIT), place=f"step {int(curve.step[at])}",
        )  # fmt: skip
        if one.flagged:
            out.append(one)
        if highest is None or one.z > highest.z:
            highest = one
    return out or ([] if highest is None else [highest])


def judge_jumps(curve: Curve) -> list[Judged]:
    """Gradient norms that are higher behind a joint than before it, beside how they vary elsewhere.

    Where joints are not known every step may be one.
    """
    known = np.flatnonzero(~np.isnan(curve.norm))
    if not len(known) or len(curve) < 4 * AROUND:
        return []
    # a step without a norm has that of the step before
    told = known[np.maximum(np.searchsorted(known, np.arange(len(curve)), "right") - 1, 0)]
    logs = np.log(np.maximum(curve.norm[told], 1e-12))
    places = np.arange(AROUND, len(curve) - AROUND + 1)
    change = np.array(
        [np.median(logs[p : p + AROUND]) - np.median(logs[p - AROUND : p]) for p in places]
    )
    joints = places
    if curve.joints is not None:
        at = np.searchsorted(curve.step, np.array(curve.joints, np.int64), "right")
        joints = np.intersect1d(at, places)
    elsewhere = change[~np.isin(places, joints)] if curve.joints is not None else change
    if not len(joints) or len(elsewhere) < LEAST_BEFORE:
        return []
    middle, sd = float(np.median(elsewhere)), robust_sd(elsewhere)
    beyond = limit(len(joints))
    found = []
    for p in joints.tolist():
        odds = _odds(float(change[p - AROUND]), middle, sd, 0.0)
        found.append(
            Judged(
                kind="jump",
                seen=math.exp(change[p - AROUND]),
                expected=math.exp(middle),
                sd=math.exp(middle) * sd,
                z=odds.z,
                limit=beyond,
                place=f"step {int(curve.step[min(p, len(curve) - 1)])}",
            )
        )
    found.sort(key=lambda one: -one.z)
    flagged = [one for one in found if one.flagged]
    return flagged[:1] if curve.joints is None else flagged or found[:1]


def robust_sd(values: Float1D) -> float:
    """SD of normal numbers with this median distance from their median."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _odds(value: float, middle: float, sd: float, shift: float) -> Odds:
    off = value - middle
    z = as_normal(off / sd if sd else math.copysign(math.inf, off), TAIL) if off else 0.0
    return Odds(float(middle + shift), sd, z)
