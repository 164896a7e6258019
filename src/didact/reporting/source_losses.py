"""The loss of each source over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    told = _Told.of(steps)
    if len(told.names) < 2:
        return None
    everything = np.ones(len(steps), bool)
    first, last = np.arange(len(steps)) < tenth, np.arange(len(steps)) >= len(steps) - tenth
    sums = np.array([told.sums(where) for where in (everything, first_epoch, first, last)])
    ranked = np.argsort(-sums[0, 1], kind="stable")  # ties in order of appearance
    shown = ranked if len(ranked) <= MOST_LINES + 1 else ranked[:MOST_LINES]
    edges = step_edges(steps, joints, SOURCE_BINS)
    starts = np.searchsorted(edges[:-1], [steps[0].step - 1, *joints])
    half = 2 if len(edges) - 1 > SOURCE_BINS // 2 else 0
    lines = tuple(
        or_none(smoothed(total, weight, starts, half)) for total, weight in told.lines(shown, edges)
    )
    names = [source_name(told.names[i]) for i in shown]
    if len(shown) < len(ranked):
        names.append(REST)
    beyond = ranked[LISTED:] if len(ranked) > LISTED + 1 else ranked[:0]
    listed = [
        (source_name(told.names[i]), sums[..., i]) for i in ranked[: len(ranked) - len(beyond)]
    ]
    if len(beyond):
        listed.append((f"({len(beyond):,} more sources)", sums[..., beyond].sum(axis=-1)))
    whole = float(sums[0, 1].sum())
    rows = tuple(
        SourceLoss(name, float(own[0, 1]) / whole, *(_mean(*pair) for pair in own[1:].tolist()))
        for name, own in listed
    )
    return SourceLosses(tuple(edges.tolist()), tuple(names), lines, rows, len(ranked))


@dataclass(frozen=True, slots=True)
class _Told:
    """What the steps tell of sources, one entry for each source of a step: parallel arrays.

    Attributes:
        names: The sources, in order of appearance.
        at: Which step.
        source: Which source.
        total: Its loss times its weight.
        weight: The weight of its learnt tokens, above 0.
    """

    names: tuple[str, ...]
    at: Int1D
    source: Int1D
    total: Float1D
    weight: Float1D

    @classmethod
    def of(cls, steps: Sequence[Step]) -> _Told:
        codes: dict[str, int] = {}
        entries = [
            (i, codes.setdefault(name, len(codes)), loss * weight, weight)
            for i, step in enumerate(steps)
            for name, (loss, weight) in step.loss_by_source.items()
            if weight > 0 and math.isfinite(loss)
        ]
        columns = list(zip(*entries, strict=True)) or [(), (), (), ()]
        at, source = (np.array(column, dtype=np.int64) for column in columns[:2])
        total, weight = (np.array(column, dtype=np.float64) for column in columns[2:])
        return cls(tuple(codes), at, source, total, weight)

    def sums(self, where: Bool1D) -> tuple[Float1D, Float1D]:
        """Total and weight of each source over some steps, `(sources,)` each."""
        there = where[self.at]
        source, n = self.source[there], len(self.names)
        total = np.bincount(source, self.total[there], n).astype(np.float64)
        return total, np.bincount(source, self.weight[there], n).astype(np.float64)

    def lines(self, shown: Int1D, edges: Int1D) -> Iterator[tuple[Float1D, Float1D]]:
        """Total and weight in each bin: of the sources shown, then of all others if there are."""
        nth = np.full(len(self.names), len(shown))
        nth[shown] = np.arange(len(shown))
        bins = np.repeat(np.arange(len(edges) - 1), np.diff(edges))[self.at]
        n_lines = len(shown) + (len(shown) < len(self.names))
        place, size = nth[self.source] * (len(edges) - 1) + bins, n_lines * (len(edges) - 1)
        columns = (np.bincount(place, values, size) for values in (self.total, self.weight))
        return zip(*(column.reshape(n_lines, -1) for column in columns), strict=True)


def _mean(total: float, weight: float) -> float | None:
    return total / weight if weight > 0 else None
