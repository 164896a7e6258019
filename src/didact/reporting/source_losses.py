"""The loss of each source over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.reporting.bins import MaybeFloats, or_none, smoothed, step_edges
from didact.reporting.formatting import source_name
from didact.training.telemetry import Step

SOURCE_BINS: Final = 80
MOST_LINES: Final = 4  # sources with a line of their own; more cannot be told apart
LISTED: Final = 300  # sources in the table
REST: Final = "other sources"


@dataclass(frozen=True, slots=True)
class SourceLoss:
    """One source's loss in nats per token, means by weight.

    Attributes:
        name: The source; "(no source)" when it is empty.
        share: Its share of the weight of all learnt tokens, 0-1.
        first_epoch: Over the first epoch; None where it has no learnt token there.
        first: Over the first tenth of the steps.
        last: Over the last tenth.
    """

    name: str
    share: float
    first_epoch: float | None
    first: float | None
    last: float | None

    @property
    def change(self) -> float | None:
        """From the first tenth to the last."""
        if self.first is None or self.last is None:
            return None
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class SourceLosses:
    """The loss by source over the steps.

    Attributes:
        edges: `b + 1` ascending counts of steps.
        names: The sources with the most learnt tokens, then `REST` when there are more.
        smooth: For each name its `b` means, each over neighboring bins.
        rows: Every source, the largest first; what is beyond `LISTED` is one last row.
        n: How many sources there are.
    """

    edges: tuple[int, ...]
    names: tuple[str, ...]
    smooth: tuple[MaybeFloats, ...]
    rows: tuple[SourceLoss, ...]
    n: int


def source_losses(
    steps: Sequence[Step], joints: Sequence[int], first_epoch: Bool1D, tenth: int
) -> SourceLosses | None:
    """Lines of the largest sources and means of all; None where fewer than two are told.

    Args:
        steps: The log.
        joints: Steps behind which a part of the order begins.
        first_epoch: True for the steps of the first epoch.
        tenth: Steps of a tenth of the training.
    """
    sums: dict[str, Float1D] = {}  # over all, first epoch, first and last tenth: value, weight
    for i, step in enumerate(steps):
        where = np.array([True, first_epoch[i], i < tenth, i >= len(steps) - tenth], dtype=float)
        for name, (loss, weight) in step.loss_by_source.items():
            if math.isfinite(loss) and weight > 0:
                own = sums.setdefault(name, np.zeros((2, 4)))
                own[0] += where * loss * weight
                own[1] += where * weight
    if len(sums) < 2:
        return None
    ranked = sorted(sums, key=lambda name: -sums[name][1, 0])  # ties in order of appearance
    shown = ranked if len(ranked) <= MOST_LINES + 1 else ranked[:MOST_LINES]
    edges = step_edges(steps, joints, SOURCE_BINS)
    lines = _source_lines(steps, shown, edges, joints)
    names = [source_name(name) for name in shown]
    if len(lines) > len(names):
        names.append(REST)
    everything = float(sum(own[1, 0] for own in sums.values()))
    beyond = ranked[LISTED:] if len(ranked) > LISTED + 1 else []
    listed = [(source_name(name), sums[name]) for name in ranked[: len(ranked) - len(beyond)]]
    if beyond:
        rest = np.sum([sums[name] for name in beyond], axis=0)
        listed.append((f"({len(beyond):,} more sources)", rest))
    rows = []
    for name, (total, weight) in listed:
        means = [t / w if w > 0 else None for t, w in zip(total, weight, strict=True)]
        rows.append(SourceLoss(name, float(weight[0]) / everything, *means[1:]))
    return SourceLosses(tuple(edges.tolist()), tuple(names), lines, tuple(rows), len(ranked))


def _source_lines(
    steps: Sequence[Step], shown: Sequence[str], edges: Int1D, joints: Sequence[int]
) -> tuple[MaybeFloats, ...]:
    """A line for each source shown, and one for all the others where there are others."""
    nth = {name: i for i, name in enumerate(shown)}
    bins = np.repeat(np.arange(len(edges) - 1), np.diff(edges)).tolist()
    table = np.zeros((2, len(shown) + 1, len(edges) - 1))
    for at, step in zip(bins, steps, strict=True):
        for name, (loss, weight) in step.loss_by_source.items():
            if math.isfinite(loss) and weight > 0:
                i = nth.get(name, len(shown))
                table[0, i, at] += loss * weight
                table[1, i, at] += weight
    starts = np.searchsorted(edges[:-1], [steps[0].step - 1, *joints])
    half = 2 if len(edges) - 1 > SOURCE_BINS // 2 else 0
    return tuple(
        or_none(smoothed(table[0, i], table[1, i], starts, half))
        for i in range(len(shown) + 1)
        if table[1, i].any()
    )
