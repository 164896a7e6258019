"""A budget of FLOPs: what is spent before the training, what is left, and what it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from didact.core.errors import BudgetError, ConfigError
from didact.selection.around.amounts import TrainingFlops

if TYPE_CHECKING:
    from collections.abc import Callable

    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Selection
    from didact.training.foresight import Foresight, PlannedTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A budget of FLOPs, shared out between what comes before the training and the training.

    Attributes:
        budget: The budget.
        spent: FLOPs before the training, as they would be from nothing: a warm cache is not free.
        foreseen: Whether that is an estimate.

    Raises:
        ConfigError: What is spent is no number of 0 or more.
        BudgetError: Nothing is left to train with.
    """

    budget: Budget
    spent: float
    foreseen: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.spent, int | float) or not 0 <= self.spent < math.inf:
            raise ConfigError(f"spent={self.spent!r}; expected FLOPs, 0 or more, as in 3e18")
        if self.spent < self.flops:
            return
        takes = "is estimated to take" if self.foreseen else "takes"
        raise BudgetError(
            f"budget {self.budget}: scoring {takes} {self.spent:.4g} FLOPs, "
            f"{self.spent / self.flops:.3g} times the budget, so that nothing is left to train "
            "with; score with a smaller model or without one (bm25, compression, random), or raise "
            "the budget"
        )

    @property
    def flops(self) -> float:
        """FLOPs of all of it."""
        return float(self.budget.flops or 0)

    @property
    def left(self) -> float:
        """FLOPs that are left for the training."""
        return self.flops - self.spent

    def __str__(self) -> str:
        return (
            f"budget {self.budget}: scoring {self.spent:.4g} ({self.spent / self.flops:.1%})"
            f", left for training {self.left:.4g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """What a budget of FLOPs is spent on.

    Attributes:
        spending: How it is shared out.
        training: The training that the rest is for.
        unknown: The scores do not say what they took, and nobody else does.
    """

    spending: Spending
    training: PlannedTraining
    unknown: bool = False

    @property
    def key(self) -> dict[str, Any]:
        """Everything that a selection depends on of it, JSON values."""
        return {
            "spent": self.spending.spent, "unknown": self.unknown, **self.training.identity()
        }  # fmt: skip

    def choose(
        self, pool: Pool, ctx: Context, chosen_by: Callable[[TrainingFlops], Selection]
    ) -> Selection:
        """A selection that keeps to it, and says what it comes to.

        Args:
            pool: The pool.
            ctx: Where the tokens of its rows are counted and kept.
            chosen_by: Makes the selection from what training on rows takes.
        """
        ahead = self.training.foresee(pool, ctx)
        chosen = chosen_by(TrainingFlops(ahead.each, self.spending.left))
        notes = (*chosen.notes, *told(chosen, ahead, self.spending), *self.training.notes)
        if self.unknown:
            notes = (*notes, _UNKNOWN)
        said = {**self.training.said(), "flops": self.spending.left}
        settings = {**chosen.settings, "train": said}
        return replace(chosen, settings=settings, notes=notes)


_UNKNOWN: Final = (
    "what the scores took is not known (their table is of an earlier version, or made elsewhere) "
    "and counted as 0 FLOPs: score again, or say it with spent"
)


def told(chosen: Selection, foresight: Foresight, spending: Spending) -> tuple[str, ...]:
    """What a selection under a budget of FLOPs comes to, in sentences.

    Padding is that of random batches of the configured size: in which order the rows will be read
    is not known yet.
    """
    rows = chosen.rows
    bare, padding = float(foresight.each[rows].sum()), foresight.padding(rows)
    passes = "1 epoch" if foresight.epochs == 1 else f"{foresight.epochs} epochs"
    note = (
        f"training on what is chosen takes {bare:.4g} FLOPs in {passes}, {bare / spending.left:.1%}"
        f" of what is left; with padding of the configured batches: {padding:+.1%}"
    )
    if bare * (1 + padding) > spending.left:
        share = spending.left / (bare * (1 + padding))
        note += (
            f", so that it ends after about {share:.1%} of the order, at the last step that fits"
        )
    empty = int((foresight.lengths[rows] == 0).sum())
    more = (f"chosen without a token to learn, left out by the training: {empty:,}",)
    return (str(spending), note, *(more if empty else ()))
