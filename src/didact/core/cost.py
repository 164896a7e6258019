"""What work costs: quantities that add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """Quantities that add up over items, workers and stages.

    Wall-clock time and peak memory do not add; they live in the stage record.

    Attributes:
        flops: Floating-point operations of models, a count.
        tokens: Tokens that went through a model, a count.
        cpu_seconds: Processor time, summed over threads and processes.
        device_seconds: Accelerator time, summed over devices.
    """

    flops: float = 0.0
    tokens: int = 0
    cpu_seconds: float = 0.0
    device_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.tokens + other.tokens,
            self.cpu_seconds + other.cpu_seconds,
            self.device_seconds + other.device_seconds,
        )


@dataclass(frozen=True, slots=True)
class Metered(Generic[T]):
    """A value together with what it cost."""

    value: T
    cost: Cost = field(default_factory=Cost)
