"""How a sample's gradient becomes the step of an optimizer; without torch, so that it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """How a sample's gradient becomes the step an optimizer would take.

    Attributes:
        kind: `adam`, or `sgd` for the gradient itself.
        epsilon: Adam's ε.
        epsilon_inside: √(v + ε) as the reference has it; √v + ε otherwise, as Adam's authors.
        bias_correction: Divide the moments by 1 - βᵗ.
    """

    kind: Literal["adam", "sgd"] = "adam"
    epsilon: float = 1e-8
    epsilon_inside: bool = True
    bias_correction: bool = False
