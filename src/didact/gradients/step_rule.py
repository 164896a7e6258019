"""The rule by which a gradient becomes an optimizer's step; without torch, so that it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """The rule by which a sample's gradient becomes the step an optimizer would take.

    Attributes:
        kind: The optimizer: `adam`, or `sgd` for the gradient itself.
        epsilon: Adam's ε.
        epsilon_inside: Whether the divisor is √(v + ε), as the reference has it, or √v + ε, as
            Adam's authors have it.
        bias_correction: Whether the moments are divided by 1 - βᵗ.
    """

    kind: Literal["adam", "sgd"] = "adam"
    epsilon: float = 1e-8
    epsilon_inside: bool = True
    bias_correction: bool = False
