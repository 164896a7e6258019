"""The log and the record of a training as the numbers that the report tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.scores import TrainingOrder
from didact.reporting.bins import MaybeFloats, or_none, smoothed, step_edges
from didact.reporting.joints import Joint, step_joints
from didact.reporting.recorded import real, values, whole, words
from didact.reporting.source_losses import SourceLosses, source_losses
from didact.reporting.subject import TrainingFacts
from didact.training.telemetry import Step

BINS: Final = 400
STRETCHES: Final = 20  # lines of the table
LAST: Final = 0.05  # share of the steps that the last loss is the mean of
TENTH: Final = 0.1


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over the steps; None where a bin has no value.

    Attributes:
        mean: Of each bin, by weight.
        low: The lowest of each bin's steps.
        high: The highest of each bin's steps.
    """

    mean: MaybeFloats
    low: MaybeFloats
    high: MaybeFloats


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some consecutive steps in numbers.

    Attributes:
        first: Number of the first step.
        last: Number of the last.
        tokens: Tokens read by then; None when they are not told.
        loss: Nats per token, mean by weight.
        rate: Mean learning rate.
        norm: Mean norm of the gradient.
    """

    first: int
    last: int
    tokens: float | None
    loss: float | None
    rate: float | None
    norm: float | None


@dataclass(frozen=True, slots=True)
class Training:
    """A training as the report tells it.

    Attributes:
        first_step: Number of the first step told.
        last_step: Number of the last.
        edges: `b + 1` ascending counts of steps; bin i holds the steps behind edges[i] up to
            edges[i + 1].
        loss: Nats per token.
        smooth: The loss as the line shows it: means by weight over neighboring bins, never across
            a joint.
        window: Bins in such a mean, at most.
        rate: The learning rate; None when it is not told.
        norm: The gradient's norm; None when it is not told.
        amounts: Tokens read at each of the edges; () when they are not told.
        stretches: The same in few numbers.
        joints: Where parts of the order meet, in steps.
        by_source: The loss by source; None when it is not told of more than one.
        first_epoch_loss: Mean over the first epoch, by weight; None when it is not in the log.
        first_loss: Mean over the first tenth of the steps, by weight.
        last_loss: Mean over the last `last_steps` steps, by weight.
        last_steps: Their number.
        samples: Samples learnt from.
        skipped: Samples without a loss.
        epochs: Passes over the data.
        tokens: Tokens read, without padding.
        executed: Tokens as executed, with padding.
        seconds: From the first step to the last.
        flops: As executed.
        foretold_flops: As foretold.
        mfu: Model FLOPs utilization, 0-1.
        device: What it ran on.
        dtype: Type of the arithmetic.
        seeds: Name → seed; None where nothing was drawn.
        settings: Those of the training.
    """

    first_step: int
    last_step: int
    edges: tuple[int, ...]
    loss: Curve
    smooth: MaybeFloats
    window: int
    rate: Curve | None
    norm: Curve | None
    amounts: tuple[float, ...]
    stretches: tuple[Stretch, ...]
    joints: tuple[Joint, ...]
    by_source: SourceLosses | None
    first_epoch_loss: float | None
    first_loss: float | None
    last_loss: float | None
    last_steps: int
    samples: int | None
    skipped: int | None
    epochs: int | None
    tokens: int | None
    executed: int | None
    seconds: float | None
    flops: float | None
    foretold_flops: float | None
    mfu: float | None
    device: str
    dtype: str
    seeds: Mapping[str, int | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of steps told."""
        return self.last_step - self.first_step + 1

    @property
    def flops_ratio(self) -> float | None:
        """Executed ÷ foretold FLOPs."""
        return _ratio(self.flops, self.foretold_flops)

    @property
    def padding_ratio(self) -> float | None:
        """Tokens with padding ÷ tokens without."""
        return _ratio(self.executed, self.tokens)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens without padding, a second."""
        return _ratio(self.tokens, self.seconds)


def training(facts: TrainingFacts, order: TrainingOrder) -> Training | None:
    """A training as the report tells it; None of one without a step.

    Args:
        facts: Its log and its record.
        order: The sequence it read.

    **Cost:** O(steps · sources of a step); about two seconds for 100,000 steps of four sources.
    """
    steps, about = facts.steps, facts.about
    if not steps:
        return None
    batch_size = order.batch_size or whole(values(about.get("settings")).get("batch_size"))
    joints = step_joints(steps, order, batch_size)
    whole_joints = sorted({round(j.at) for j in joints} - {steps[0].step - 1})
    edges = step_edges(steps, whole_joints, BINS)
    loss, weight = _values(steps, "loss"), weights(steps)
    starts = np.searchsorted(edges[:-1], [steps[0].step - 1, *whole_joints])
    half = (len(edges) - 1) // 50
    by_weight = _binned(loss * weight, edges), _binned(weight, edges)
    first_epoch = np.array([s.epoch == 1 for s in steps])
    if (whole(about.get("epochs")) or order.epochs) == 1:
        first_epoch |= np.array([s.epoch is None for s in steps])
    first_epoch &= steps[0].step == 1  # a log that begins later has not all of it
    last_steps = max(1, round(LAST * len(steps)))
    tenth = max(1, round(TENTH * len(steps)))
    spent = [s.seconds for s in steps if s.seconds is not None]
    run = [s.total_flops for s in steps if s.total_flops is not None]
    return Training(
        first_step=steps[0].step, last_step=steps[-1].step,
        edges=tuple(edges.tolist()),
        loss=_curve(loss, weight, edges),
        smooth=or_none(smoothed(*by_weight, starts, half)),
        window=2 * half + 1,
        rate=_told(steps, "learning_rate", edges),
        norm=_told(steps, "grad_norm", edges),
        amounts=_amounts(steps, edges),
        stretches=_stretches(steps, loss, weight),
        joints=joints,
        by_source=source_losses(steps, whole_joints, first_epoch, tenth),
        first_epoch_loss=_mean(loss, weight, first_epoch),
        first_loss=_mean(loss, weight, np.arange(len(steps)) < tenth),
        last_loss=_mean(loss, weight, np.arange(len(steps)) >= len(steps) - last_steps),
        last_steps=last_steps,
        samples=_sum(steps, "samples"), skipped=_sum(steps, "skipped"),
        epochs=whole(about.get("epochs")) or steps[-1].epoch,
        tokens=_sum(steps, "tokens") or steps[-1].total_tokens or whole(about.get("tokens")),
        executed=_sum(steps, "executed"),
        seconds=spent[-1] if spent else real(about.get("seconds")),
        flops=real(about.get("flops")) or (run[-1] if run else None),
        foretold_flops=real(about.get("foretold_flops")),
        mfu=real(about.get("mfu")),
        device=_device(about), dtype=words(about.get("dtype")),
        seeds={name: whole(seed) for name, seed in values(about.get("seeds")).items()},
        settings=values(about.get("settings")),
    )  # fmt: skip


def weights(steps: Sequence[Step]) -> Float1D:
    """Weight of each step in means over steps: its learnt tokens, else its tokens, else 1."""
    for name in ("learnt", "tokens"):
        told = _values(steps, name)
        if np.isfinite(told).all() and told.sum() > 0:
            return told
    return np.array([0.0 if s.samples == 0 else 1.0 for s in steps])


def _values(steps: Sequence[Step], name: str) -> Float1D:
    """One of the steps' quantities; NaN where it is not told."""
    told = (getattr(step, name) for step in steps)
    return np.array([np.nan if v is None else v for v in told], dtype=np.float64)


def _binned(values: Float1D, edges: Int1D) -> Float1D:
    """Sums of each bin; what is not finite counts as 0."""
    there = np.where(np.isfinite(values), values, 0.0)
    return np.add.reduceat(there, edges[:-1] - edges[0])


def _curve(values: Float1D, weight: Float1D, edges: Int1D) -> Curve:
    known = np.isfinite(values) & (weight > 0)
    by = _binned(np.where(known, weight, 0.0), edges)
    total = _binned(np.where(known, values * weight, 0.0), edges)
    starts = edges[:-1] - edges[0]
    low = np.minimum.reduceat(np.where(known, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, values, -np.inf), starts)
    mean = np.divide(total, by, out=np.full(len(by), np.nan), where=by > 0)
    return Curve(or_none(mean), or_none(low), or_none(high))


def _told(steps: Sequence[Step], name: str, edges: Int1D) -> Curve | None:
    values = _values(steps, name)
    if not np.isfinite(values).any():
        return None
    return _curve(values, np.ones(len(values)), edges)


def _amounts(steps: Sequence[Step], edges: Int1D) -> tuple[float, ...]:
    """Tokens read at each edge."""
    told = _values(steps, "tokens")
    if not np.isfinite(told).all():
        total = _values(steps, "total_tokens")
        if not np.isfinite(total).all():
            return ()
        told = np.diff(total, prepend=0.0 if steps[0].step == 1 else total[0])
    return (0.0, *np.cumsum(_binned(told, edges)).tolist())


def _stretches(steps: Sequence[Step], loss: Float1D, weight: Float1D) -> tuple[Stretch, ...]:
    edges = step_edges(steps, [], STRETCHES)
    n = len(edges) - 1
    amounts = _amounts(steps, edges)[1:] or (None,) * n
    told = [_told(steps, name, edges) for name in ("learning_rate", "grad_norm")]
    rate, norm = (curve.mean if curve is not None else (None,) * n for curve in told)
    spans = [(a + 1, b) for a, b in pairwise(edges.tolist())]
    means = _curve(loss, weight, edges).mean
    return tuple(
        Stretch(*span, *numbers)
        for span, *numbers in zip(spans, amounts, means, rate, norm, strict=True)
    )


def _mean(values: Float1D, weight: Float1D, where: Bool1D) -> float | None:
    known = where & np.isfinite(values) & (weight > 0)
    by = float(weight[known].sum())
    return float((values[known] * weight[known]).sum()) / by if by > 0 else None


def _sum(steps: Sequence[Step], name: str) -> int | None:
    told = [getattr(step, name) for step in steps]
    return None if any(v is None for v in told) else int(sum(told))


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _device(about: Mapping[str, Any]) -> str:
    device, devices = words(about.get("device")), whole(about.get("devices"))
    return f"{devices} × {device}" if device and devices and devices > 1 else device
