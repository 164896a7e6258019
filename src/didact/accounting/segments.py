"""Segments of an inner training: its state is kept where one begins, to visit every step again."""

from __future__ import annotations

import math
from itertools import pairwise


def segments(steps: int) -> tuple[tuple[int, int], ...]:
    """First step and stop of each of about √T segments; θ is kept where one begins."""
    starts = range(0, steps, max(1, round(math.sqrt(steps))))
    return tuple(pairwise([*starts, steps]))
