"""Top k: the best rows by score."""

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


@method("top_k")
@Composition(needs_scores=True)
def top_k(_pool: Pool, scores: Scores, _budget: Budget | None, _ctx: Context, /) -> Ranking:
    """The best rows by score; ties go to the lowest row.

    Args:
        scores: One number per sample.

    **Source:** DELT §3 (arXiv:2506.21545), where ties go to the later row and k = 0 returns every
    row; here k = 0 gives none.
    **Cost:** one sort, O(n log n); no model.
    """
    return Ranking(rows=best_first(scores.utility))
