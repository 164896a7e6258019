"""Order: what a model meets along the training order: scores, lengths, sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.core.pool import Pool
from didact.core.scores import Scores, TrainingOrder
from didact.reporting import charts
from didact.reporting.bins import MaybeFloats, bin_edges, wide
from didact.reporting.distributions import drawable
from didact.reporting.formatting import count, shorten, source_name, visible
from didact.reporting.joints import epoch_joints, part_joints, sweeps
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

BINS = 400
MIX_BINS = 80
MIX_SAMPLES = 20  # in a bin at least: shares of fewer are noise
MOST_SOURCES = 6
REST = "other sources"
_LOG = ", log scale"


@dataclass(frozen=True, slots=True)
class Course:
    """A quantity along the order.

    Attributes:
        edges: `b + 1` positions; bin i holds positions edges[i] ≤ p < edges[i + 1].
        mean: Mean of each bin; None where no sample of it has a value.
        low: 10 % quantile of each bin, interpolated.
        high: 90 % quantile of each bin.
    """

    edges: tuple[int, ...]
    mean: MaybeFloats
    low: MaybeFloats
    high: MaybeFloats


@dataclass(frozen=True, slots=True)
class SourceMix:
    """Sources along the order.

    Attributes:
        edges: `b + 1` positions.
        names: The most frequent sources, then `REST` when there are more.
        shares: For each name its `b` shares; they add up to 1 in each bin.
    """

    edges: tuple[int, ...]
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class AlongOrder:
    """The whole order at a glance.

    Attributes:
        length: Samples in the sequence, all epochs.
        steps: Optimizer steps, when the batch size is known.
        batch_size: Samples per optimizer step.
        part_joints: Positions where a part of the order ends and the next begins.
        sweeps: Number of sweeps in an epoch that are marked; 0 where the parts are others.
        epoch_joints: Positions where an epoch ends and the next begins.
        score_method: The score drawn, or None.
        higher_is_better: Its direction.
        score: The score along the order, in natural units.
        tokens: Tokens per sample along the order.
        mix: Sources along the order; None when the pool has only one.
    """

    length: int
    steps: int | None
    batch_size: int | None
    part_joints: tuple[int, ...]
    sweeps: int
    epoch_joints: tuple[int, ...]
    score_method: str | None
    higher_is_better: bool | None
    score: Course | None
    tokens: Course
    mix: SourceMix | None

    @property
    def joints(self) -> tuple[int, ...]:
        """All of them, ascending."""
        return tuple(sorted({*self.part_joints, *self.epoch_joints}))


def along_order(pool: Pool, order: TrainingOrder, scores: Scores | None) -> AlongOrder:
    """The order as the report draws it.

    Args:
        pool: The pool.
        order: The sequence.
        scores: The score the order was made with, when there is one.

    Cost: O(m log m) for m positions, over columns in memory.
    """
    length = len(order)
    epochs = tuple(int(joint.at) for joint in epoch_joints(length, order.epochs))
    parts = tuple(int(joint.at) for joint in part_joints(order))
    joints = sorted({*epochs, *parts})
    edges = bin_edges(length, joints, order.batch_size, BINS)
    mix_edges = bin_edges(length, joints, None, max(min(MIX_BINS, length // MIX_SAMPLES), 1))
    return AlongOrder(
        length=length,
        steps=order.steps,
        batch_size=order.batch_size,
        part_joints=parts,
        sweeps=sweeps(order),
        epoch_joints=epochs,
        score_method=scores.method if scores else None,
        higher_is_better=scores.higher_is_better if scores else None,
        score=course(drawable(scores.values[order.rows]), edges) if scores else None,
        tokens=course(pool.n_tokens[order.rows].astype(np.float64), edges),
        mix=_mix(pool, order.rows, mix_edges),
    )


def course(values: Float1D, edges: Int1D) -> Course:
    """Mean and 10-90 % band of values in bins of consecutive positions; NaN values are skipped."""
    means, lows, highs = list[float | None](), list[float | None](), list[float | None]()
    for a, b in pairwise(edges.tolist()):
        inside = values[a:b]
        inside = np.sort(inside[np.isfinite(inside)], kind="stable")
        total = np.bincount(np.zeros(len(inside), np.int64), inside, 1)[0]  # one after another
        means.append(float(total / len(inside)) if len(inside) else None)
        lows.append(_quantile(inside, 0.1))
        highs.append(_quantile(inside, 0.9))
    return Course(tuple(edges.tolist()), tuple(means), tuple(lows), tuple(highs))


def _quantile(ascending: Float1D, q: float) -> float | None:
    """Linearly interpolated quantile; None of no values."""
    if not len(ascending):
        return None
    place = q * (len(ascending) - 1)
    below = math.floor(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(low + (place - below) * (high - low))


def _mix(pool: Pool, rows: Int1D, edges: Int1D) -> SourceMix | None:
    names = pool.source_names
    if len(names) < 2 or not len(rows):
        return None
    codes = pool.source_codes[rows]
    counts = np.bincount(codes, minlength=len(names))
    # One more than fits is no reason for a rest of one.
    fits = len(names) <= MOST_SOURCES + 1
    top = np.argsort(-counts, kind="stable")[: len(names) if fits else MOST_SOURCES]
    top = top[counts[top] > 0]
    nth = np.full(len(names), len(top))
    nth[top] = np.arange(len(top))
    inside = (nth[codes[a:b]] for a, b in pairwise(edges.tolist()))
    table = np.stack([np.bincount(shown, minlength=len(top) + 1) for shown in inside], axis=1)
    shares = table / np.diff(edges)
    labels = [source_name(names[i]) for i in top]
    if shares[-1].any():
        labels.append(REST)
    else:
        shares = shares[:-1]
    return SourceMix(
        edges=tuple(int(e) for e in edges),
        names=tuple(labels),
        shares=tuple(tuple(source) for source in shares.tolist()),
    )


def _gather(subject: Subject) -> AlongOrder | None:
    if not len(subject.order):
        return None
    by = subject.order_scores if subject.order_scores is not None else subject.scores
    return along_order(subject.pool, subject.order, by)


def _template_values(along: AlongOrder, header: Header) -> Mapping[str, Any]:
    tokens = "tokens per sample" + (" (estimate)" if header.tokens_estimated else "")
    return {
        "charts": _charts(along, tokens),
        "binning": _binning(along),
    }


def _charts(along: AlongOrder, tokens: str) -> dict[str, str]:
    per_x = along.batch_size or 1
    x_label = f"optimizer step ({per_x:,} samples each)" if along.batch_size else "samples read"
    out = {}
    if along.score is not None:
        name = shorten(visible(along.score_method or ""), 20)
        direction = "higher" if along.higher_is_better else "lower"
        log = wide((*along.score.low, *along.score.high))
        out["order_score"] = charts.course(
            along.score.edges, along.score.mean, along.score.low, along.score.high,
            joints=along.joints, per_x=per_x, x_label=x_label, log=log,
            y_label=f"{name} score, {direction} is preferred{_LOG if log else ''}",
            described=f"{along.score_method} score along the training order",
        )  # fmt: skip
    log = wide((*along.tokens.low, *along.tokens.high))
    out["order_tokens"] = charts.course(
        along.tokens.edges, along.tokens.mean, along.tokens.low, along.tokens.high,
        joints=along.joints, per_x=per_x, x_label=x_label, from_zero=not log, log=log,
        y_label=tokens + (_LOG if log else ""),
        described="Tokens per sample along the training order", height=140,
    )  # fmt: skip
    if along.mix is not None:
        out["order_mix"] = charts.layers(
            along.mix.edges, along.mix.shares, along.mix.names, per_x=per_x, x_label=x_label,
            described="Sources along the training order",
        )  # fmt: skip
    return out


def _binning(along: AlongOrder) -> str:
    """How the lines along the order were made."""
    bins = len(along.tokens.edges) - 1
    if bins == along.length:
        return "One point per sample."
    per_bin = count(along.length / bins)
    what = "optimizer step" if bins == along.steps else f"bin of about {per_bin} samples"
    return f"Line: mean of each {what}; band: its 10% and 90% quantiles."


SECTION = Section(name="order", title="Order", gather=_gather, template_values=_template_values)
