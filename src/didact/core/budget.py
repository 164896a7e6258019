"""Budget: how much to select, a frozen value that is checked once when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final, Literal

import numpy as np

from didact.core.errors import BudgetError

Unit = Literal["samples", "tokens", "flops"]
_BUDGETS: Final = ("samples", "tokens", "ratio", "flops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much to select: exactly one of samples, tokens, ratio, flops.

    Attributes:
        samples: Number of samples, ≥ 0; more than the pool has is an error.
        tokens: Number of tokens; the longest prefix of the ranking that fits, never over.
        ratio: Share of the pool's rows, 0 to 1, floored in decimal (0.29 of 100 is 29, where
            binary floating point gives 28).
        flops: FLOPs of scoring and training together, > 0: the longest prefix that what scoring
            leaves still trains, never over. Which model is trained is said beside it.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic in RunConfig

    samples: int | None = None
    tokens: int | None = None
    ratio: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = {k: getattr(self, k) for k in _BUDGETS}
        given = {k: v for k, v in given.items() if v is not None}
        if len(given) != 1:
            raise BudgetError(
                f"a budget is exactly one of {', '.join(_BUDGETS)}; got {given or 'none'}; to "
                "replace the one of a file: --set 'select.budget={ratio: 0.2}'"
            )
        ((name, value),) = given.items()
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise BudgetError(f"budget {name}={value!r} is not a number")
        if name == "flops":
            _check_flops(float(value))
        elif name != "ratio" and value != int(value if math.isfinite(value) else 0):
            raise BudgetError(f"budget {name}={value!r} is not a whole number")
        elif not value >= 0 or (name == "ratio" and value > 1):
            expected = "between 0 and 1" if name == "ratio" else "0 or more"
            raise BudgetError(f"budget {name}={value!r}; expected {expected}")
        whole = name in {"samples", "tokens"}
        object.__setattr__(self, name, int(value) if whole else float(value))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read 'samples=N', 'tokens=N', 'ratio=R' or 'flops=F' as the command line writes it."""
        name, found, value = text.partition("=")
        if not found or name not in _BUDGETS:
            raise BudgetError(f"budget {text!r}; expected samples=N, tokens=N, ratio=R or flops=F")
        try:
            number = float(value.replace("_", ""))
        except ValueError as error:
            raise BudgetError(
                f"budget {text!r}: {value!r} is not a number, as in tokens=2e6 or flops=2e19"
            ) from error
        given: dict[str, Any] = {name: number}
        return cls(**given)

    @property
    def unit(self) -> Unit:
        """What is counted."""
        if self.flops is not None:
            return "flops"
        return "samples" if self.tokens is None else "tokens"

    def amount(self, n_rows: int) -> int:
        """The budget in its unit for a pool of `n_rows`; of FLOPs, scoring is not taken off."""
        if self.ratio is not None:
            exact = Decimal(repr(self.ratio)) * n_rows
            return int(exact.to_integral_value(rounding=ROUND_FLOOR))
        if self.flops is not None:
            return max(int(self.flops), 1)
        return int(self.samples if self.samples is not None else self.tokens or 0)

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"ratio={self.ratio}"
        if self.flops is not None:
            short = f"{self.flops:g}"
            return f"flops={short if float(short) == self.flops else repr(self.flops)}"
        return f"{self.unit}={self.amount(0)}"


def _check_flops(flops: float) -> None:
    if not (math.isfinite(flops) and flops > 0):
        raise BudgetError(f"budget flops={flops!r}; expected a number of FLOPs above 0, as in 2e19")
    if flops <= 1:
        raise BudgetError(
            f"budget flops={flops!r} is a share; did you mean ratio={flops!r}? FLOPs are counted, "
            "as in 2e19"
        )
