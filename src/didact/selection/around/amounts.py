"""What a budget counts of each row: samples, tokens, or the FLOPs of training on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from didact.core.errors import BudgetError

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.budget import Budget, Unit
    from didact.core.pool import Pool

_EXACT: Final = 2**52  # sums of whole numbers up to here are exact, in float64 too


@dataclass(frozen=True, slots=True)
class TrainingFlops:
    """What training on rows takes, and what is left for it of a budget of FLOPs.

    Attributes:
        each: float64 `(n,)`: FLOPs of every row of the pool over all epochs, without padding; 0 of
            a row without a token to learn, which a training leaves out.
        left: FLOPs, ≥ 0, that are left once everything before the training is paid.
    """

    each: Float1D
    left: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A budget, and what it counts of every row of a pool, in whole numbers.

    FLOPs are counted in thousands, millions, … as far as that keeps all sums exact: rounded up of
    rows and down of the limit, so that nothing goes over.

    Attributes:
        unit: What is counted.
        asked: The budget in counts; None without one.
        each: Counts of every row of the pool, int64 `(n,)`; None for one each.
        scale: How many of `unit` a count is.
    """

    unit: Unit = "samples"
    asked: int | None = None
    each: Int1D | None = None
    scale: int = 1

    def sizes(self, rows: Int1D) -> Int1D:
        """Counts of some rows."""
        return np.ones(len(rows), np.int64) if self.each is None else self.each[rows]

    def number(self, amount: int) -> str:
        """An amount for messages, without its unit."""
        return f"{float(amount) * self.scale:.4g}" if self.unit == "flops" else f"{amount:,}"

    def told(self, amount: int) -> str:
        """An amount with its unit, for messages."""
        return f"{self.number(amount)} {'FLOPs' if self.unit == 'flops' else self.unit}"


def counted(pool: Pool, budget: Budget | None, training: TrainingFlops | None = None) -> Counted:
    """What a budget counts of the rows of a pool.

    Args:
        pool: The pool.
        budget: How much; rows are counted when None.
        training: For a budget of FLOPs.

    Raises:
        BudgetError: A budget of FLOPs without a model that is trained.
    """
    if budget is None:
        return Counted()
    if budget.unit != "flops":
        each = pool.n_tokens if budget.unit == "tokens" else None
        return Counted(budget.unit, budget.amount(len(pool)), each)
    if training is None:
        raise BudgetError(
            f"budget {budget} needs the model that it trains: a 'train:' section in the config, or "
            "select.train.model; '--set train.model=MODEL' on the command line; "
            "train={'model': …} in Python"
        )
    scale, total = 1, float(training.each.sum())
    while total / scale > _EXACT - len(pool):  # each row is rounded up
        scale *= 1000
    sizes = np.ceil(training.each / scale).astype(np.int64)
    return Counted("flops", int(training.left // scale), sizes, scale)


def refuse_too_little(count: Counted, sizes: Int1D, budget: Budget, pool: Pool) -> None:
    """Raise BudgetError where FLOPs are fewer than the cheapest candidate trains with.

    Args:
        count: What the budget counts.
        sizes: The candidates' counts.
        budget: The budget.
        pool: The pool, whose own sizes tell what may have been meant.
    """
    taking = sizes[sizes > 0]
    if (
        count.unit != "flops"
        or count.asked is None
        or not len(taking)
        or count.asked >= min(taking)
    ):
        return
    least = float(min(taking)) * count.scale
    refuse_mistaken(pool, budget, least)
    raise BudgetError(
        f"budget {budget}: {count.told(count.asked)} are left for training and the cheapest sample "
        f"takes {least:.4g}; score with less, or raise the budget"
    )


def refuse_mistaken(pool: Pool, budget: Budget, least: float) -> None:
    """Raise BudgetError for a number of FLOPs that is one of something else.

    Args:
        pool: The pool, whose sizes tell what may have been meant.
        budget: A budget of FLOPs.
        least: FLOPs that training on the cheapest sample takes.
    """
    given = float(budget.flops or 0)
    if given >= least:
        return
    meant = f"{'samples' if given <= len(pool) else 'tokens'}={given:.0f}"
    raise BudgetError(
        f"budget {budget} is less than one sample trains with: the cheapest takes {least:.4g} "
        f"FLOPs; did you mean {meant}?"
    )
