"""A budget of FLOPs: what is spent before the training, what is left, and what it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from didact.core.errors import BudgetError

if TYPE_CHECKING:
    from didact.core.scores import Selection
    from didact.training.foresight import Foresight


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A budget of FLOPs, shared out between what comes before the training and the training.

    Attributes:
        flops: The budget.
        spent: FLOPs before the training, as they would be from nothing: a warm cache is not free.
        foreseen: Whether that is an estimate.

    Raises:
        BudgetError: Nothing is left to train with.
    """

    flops: float
    spent: float
    foreseen: bool = False

    def __post_init__(self) -> None:
        if self.spent < self.flops:
            return
        takes = "is estimated to take" if self.foreseen else "takes"
        raise BudgetError(
            f"budget flops={self.flops!r}: scoring {takes} {self.spent:.4g} FLOPs, "
            f"{self.spent / self.flops:.3g} times the budget, so that nothing is left to train "
            "with; score with a smaller model or without one (bm25, compression, random), or raise "
            "the budget"
        )

    @property
    def left(self) -> float:
        """FLOPs that are left for the training."""
        return self.flops - self.spent

    def __str__(self) -> str:
        return (
            f"budget flops={self.flops!r}: scoring {self.spent:.4g} ({self.spent / self.flops:.1%})"
            f", left for training {self.left:.4g}"
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
        note += f", so that it ends after about {share:.1%} of the order, at the last step that fits"
    empty = int((foresight.lengths[rows] == 0).sum())
    more = (f"chosen without a token to learn, left out by the training: {empty:,}",)
    return (str(spending), note, *(more if empty else ()))
