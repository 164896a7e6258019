"""Learning rates over the steps of a training."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "wsd"]


def learning_rate_factor(step: int, *, steps: int, warm_up: int, schedule: Schedule) -> float:
    """Share of the highest learning rate at an update, counted from 0, of `steps` in all.

    As transformers has it, but for the warm-up, which there starts at 0, so that the first update
    does nothing. Every update here has a rate above 0.

    Args:
        step: Number of the update, from 0.
        steps: Number of all updates.
        warm_up: Number of updates at the beginning that rise to the highest rate.
        schedule: The course after the warm-up: `cosine` or `linear` to zero, `constant`, or `wsd`:
            constant, then linear to zero over the last fifth.
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, steps - warm_up)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    if schedule == "wsd":
        return min(1.0, (steps - step) / max(1, steps // 5))
    return 1.0
