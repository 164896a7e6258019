"""Where an inner training keeps its state, so that its adjoint can visit every step again."""

from __future__ import annotations

import math
from itertools import pairwise


def segments(steps: int) -> tuple[tuple[int, int], ...]:
    """First step and stop of each of about √T segments; θ is kept where one begins."""
    starts = range(0, steps, max(1, round(math.sqrt(steps))))
    return tuple(pairwise([*starts, steps]))
