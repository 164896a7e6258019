"""Threshold: every row better than a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from didact.core.identity import method
from didact.core.protocols import Composition, Ranking
from didact.core.statistics import best_first

if TYPE_CHECKING:
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores


@method("threshold")
@Composition(needs_scores=True)
def threshold(
    _pool: Pool, scores: Scores, _budget: Budget | None, _ctx: Context, /, *, value: float
) -> Ranking:
    """Every row strictly better than a value; a budget, if there is one, is a ceiling.

    Args:
        scores: One number per sample.
        value: In the score's natural unit and direction: rows above it when higher is better, rows
            below it when lower is better.

    **Source:** DELT's `threshold` (microsoft/DELT `data_selection`), strict there too.
    **Cost:** one sort, O(n log n); no model.
    """
    passes = scores.values > value if scores.higher_is_better else scores.values < value
    ranking = best_first(scores.utility)
    side = "above" if scores.higher_is_better else "below"
    return Ranking(rows=ranking[passes[ranking]], reasons=(f"{side} threshold",), partial=True)
