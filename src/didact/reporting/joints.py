"""Where the parts of a training order meet: sweeps, folded windows, outer parts, epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from didact.core.budget import Budget
from didact.core.scores import TrainingOrder
from didact.ordering.stair import windows
from didact.training.telemetry import Step

MOST_SWEEPS: Final = 50  # more joints than that would hide the line they explain
MOST_JOINTS: Final = 60
_EPOCH: Final = "epoch"


@dataclass(frozen=True, slots=True)
class Joint:
    """A place where one part of an order ends and the next begins.

    Attributes:
        at: Position of the next part's first sample, in samples; or its place in steps.
        name: What begins there; "" where an earlier joint says it.
    """

    at: float
    name: str

    @property
    def starts_epoch(self) -> bool:
        """Whether an epoch begins there."""
        return self.name.startswith(_EPOCH)


def epoch_joints(length: int, epochs: int) -> tuple[Joint, ...]:
    """Positions where an epoch ends and the next begins, of `length` positions in all."""
    if not length:
        return ()
    size = length // epochs
    return tuple(Joint(epoch * size, f"{_EPOCH} {epoch + 1}") for epoch in range(1, epochs))


def part_joints(order: TrainingOrder) -> tuple[Joint, ...]:
    """Positions where the parts of an order meet, in every epoch.

    A fold or zigzag has sweeps, a stair or saw has windows rearranged around its cuts, a segment
    has outer parts. Interleaving spreads each source's own parts over the epoch; then there are
    none to mark.
    """
    n, settings = len(order) // order.epochs, order.settings
    parts = _PARTS.get(order.method)
    if parts is None or settings.get("interleave"):
        return ()
    try:
        once = [(at, name) for at, name in parts(n, settings) if 0 < at < n]
    except (KeyError, TypeError, ValueError):
        return ()  # a foreign method of that name, with settings of its own
    named = dict(reversed(once))  # of parts without a row, the first one's name stays
    return tuple(
        Joint(at + epoch * n, named[at]) for epoch in range(order.epochs) for at in sorted(named)
    )


def step_joints(
    steps: Sequence[Step], order: TrainingOrder, batch_size: int | None
) -> tuple[Joint, ...]:
    """Where parts of an order meet, in steps: 2.5 is in the middle of the third.

    A step reads as many positions of the order as it has samples, those without a loss included. A
    training that goes on behind the order's end reads it again. Epochs begin where the steps say.
    """
    first, last = steps[0].step - 1, steps[-1].step
    read = np.array([(s.samples or 0) + (s.skipped or 0) for s in steps], dtype=np.float64)
    if any(s.samples is None for s in steps) or not read.all():
        if batch_size is None:
            read[:] = len(order) / (last - first)
        else:
            read[:] = batch_size
    begin = first * (batch_size or 0)
    positions = begin + np.concatenate([[0.0], np.cumsum(read)])
    found = list(part_joints(order))
    told = [s.epoch for s in steps if s.epoch is not None]
    if not told:
        found.extend(epoch_joints(len(order), order.epochs))
    laps = math.ceil(positions[-1] / len(order)) if len(order) else 0
    placed = [
        Joint(float(np.interp(at, positions, np.arange(first, last + 1))), joint.name)
        for lap in range(laps)
        for joint in found
        if positions[0] < (at := joint.at + lap * len(order)) < positions[-1]
    ]
    epochs = [
        Joint(float(before.step), f"{_EPOCH} {after.epoch}")
        for before, after in pairwise(steps)
        if after.epoch is not None and after.epoch != before.epoch
    ]
    # Where there are too many to tell apart, epochs alone are marked, or nothing.
    for marked in ([*placed, *epochs], [*(j for j in placed if j.starts_epoch), *epochs]):
        if len(marked) <= MOST_JOINTS:
            return tuple(sorted(marked, key=lambda joint: joint.at))
    return ()


def sweeps(order: TrainingOrder) -> int:
    """Number of sweeps in an epoch of a fold or zigzag whose joints are marked, else 0."""
    if order.method not in {"fold", "zigzag"}:
        return 0
    marked = len(part_joints(order))
    return marked // order.epochs + 1 if marked else 0


def _swept(n: int, settings: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Layer j of L holds every L-th row of the sorted ones."""
    layers = settings["layers"]
    if layers > MOST_SWEEPS:
        return []
    ends = _sweep_ends(n, layers, settings.get("phase", 0))
    return [(end, f"sweep {i}") for i, end in enumerate(ends, 2)]


def _sweep_ends(n: int, layers: int, phase: int = 0) -> list[int]:
    firsts = [(phase + j) % layers for j in range(layers)]
    ends: list[int] = np.cumsum([max(-(-(n - first) // layers), 0) for first in firsts]).tolist()
    return ends


def _windowed(n: int, settings: Mapping[str, Any]) -> list[tuple[int, str]]:
    layers = settings["layers"]
    found = list(windows(n, settings["sections"], settings["ratio"]))
    if layers * len(found) > MOST_SWEEPS:
        return []
    out = []
    for i, (begin, end) in enumerate(found, 1):
        ends = _sweep_ends(end - begin, layers)
        out.append((begin, f"cut {i}"))
        out.extend((begin + inner, "") for inner in ends)
    return out


def _segmented(n: int, settings: Mapping[str, Any]) -> list[tuple[int, str]]:
    low, high = (Budget(ratio=settings[name]).amount(n) for name in ("low", "high"))
    if settings["lowest_first"]:
        return [(low, "the rest"), (n - high, "the best")]
    return [(high, "the rest"), (n - low, "the worst")]


_PARTS: Final = {
    "fold": _swept,
    "zigzag": _swept,
    "stair": _windowed,
    "saw": _windowed,
    "segment": _segmented,
}
