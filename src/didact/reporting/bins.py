"""Bins of consecutive positions, and means over neighboring ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.training.telemetry import Step

MaybeFloats = tuple[float | None, ...]
WIDE: Final = 20  # largest ÷ smallest value from which an axis is logarithmic


def bin_edges(length: int, joints: list[int], batch_size: int | None, at_most: int) -> Int1D:
    """Where bins begin and end: on steps when they are few enough, else never across a joint.

    Args:
        length: Positions in all.
        joints: Positions that a bin should not straddle.
        batch_size: Positions in a step, when it is known.
        at_most: Bins wanted; as many more as there are joints may come.

    Returns:
        int64, ascending from 0 to `length`; each position is a bin of its own when they are few.
    """
    if length <= at_most:
        return np.arange(length + 1)
    if batch_size is not None and -(-length // batch_size) <= at_most:
        return np.append(np.arange(0, length, batch_size), length)
    ends = np.array([0, *joints, length])
    parts = [
        np.linspace(a, b, max(round(at_most * (b - a) / length), 1), endpoint=False)
        for a, b in pairwise(ends.tolist())
    ]
    return np.unique(np.append(np.concatenate(parts), length).astype(np.int64))


def step_edges(steps: Sequence[Step], joints: Sequence[int], at_most: int) -> Int1D:
    """Counts of steps between bins that no joint is inside of; `joints` are whole steps."""
    first = steps[0].step - 1
    return first + bin_edges(len(steps), [j - first for j in joints], None, at_most)


def smoothed(total: Float1D, weight: Float1D, starts: Int1D, half: int) -> Float1D:
    """Means by weight over each bin and `half` neighbors on either side, within a segment.

    Args:
        total: Sum of weighted values of each bin, `(b,)`.
        weight: Sum of weights of each bin.
        starts: First bin of each segment, ascending from 0.
        half: Neighbors on either side.

    Returns:
        `(b,)`; NaN where all the weights are 0.
    """
    out = np.full(len(total), np.nan)
    for a, b in pairwise([*starts.tolist(), len(total)]):
        if a == b:
            continue
        places = np.arange(b - a)
        low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, b - a)
        sums = [np.concatenate([[0.0], np.cumsum(v[a:b])]) for v in (total, weight)]
        value, by = (s[high] - s[low] for s in sums)
        np.divide(value, by, out=out[a:b], where=by > 0)
    return out


def or_none(values: Float1D) -> MaybeFloats:
    """Values with None for what is not finite."""
    return tuple(v if math.isfinite(v) else None for v in values.tolist())


def wide(values: Sequence[float | None]) -> bool:
    """Whether a linear axis would hide most of them: positive, and of many magnitudes."""
    known = [v for v in values if v is not None]
    return bool(known) and min(known) > 0 and max(known) > WIDE * min(known)
