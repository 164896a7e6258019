"""Learning rates over the steps of a training."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "wsd"]


def learning_rate_factor(
    step: int, *, steps: int, warm_up: int, schedule: Schedule, final_rate: float = 0.0
) -> float:
    """Share of the highest learning rate at an update, counted from 0, of `steps` in all.

    As transformers has it, but for the warm-up, which there starts at 0, so that the first update
    does nothing. The rate comes to `final_rate` after the last update, so every update has a rate
    above it.

    Args:
        step: Number of the update, from 0.
        steps: Number of all updates.
        warm_up: Number of updates at the beginning that rise to the highest rate.
        schedule: The course after the warm-up: `cosine` or `linear` to `final_rate`, `constant`, or
            `wsd`: constant, then linear to it over the last fifth.
        final_rate: Share of the highest rate that the rate falls to, 0 to 1; `constant` does not
            fall.
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, steps - warm_up)
    left = 1.0
    if schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * done))
    elif schedule == "linear":
        left = 1 - done
    elif schedule == "wsd":
        left = min(1.0, (steps - step) / max(1, steps // 5))
    return final_rate + (1 - final_rate) * left
