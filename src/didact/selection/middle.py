"""Middle: the rows around a quantile of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.core.identity import method
from didact.core.protocols import Composition, Ranking
from didact.core.statistics import best_first
from didact.selection.around.budget import eligible

if TYPE_CHECKING:
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores


@method("middle")
@Composition(needs_scores=True)
def middle(
    pool: Pool,
    scores: Scores,
    _budget: Budget | None,
    _ctx: Context,
    /,
    *,
    center: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Ranking:
    """The rows nearest to a quantile of the score, outward; equal distance: the lowest row.

    Distance is in ranks, so the shape of the score's distribution does not matter.

    Args:
        pool: The samples.
        scores: One number per sample.
        center: Quantile of the utility among the rows that may be chosen: 0 is the worst row, 1
            the best.

    **Source:** mid-range pruning, Marion et al. 2023 "When Less is More" (arXiv:2309.04564), which
    keeps the middle of the perplexity distribution.
    **Cost:** two sorts, O(n log n); no model.
    """
    ranking = best_first(scores.utility)
    ranking = ranking[eligible(pool, ranking, scores)]
    # From the worst row up, as quantiles count. Rounded so that a center whose binary form is a
    # hair off a whole rank (0.3 · 10) still finds both neighbours equally far.
    target = round((len(ranking) - 1) * (1 - center), 6)
    distance = np.abs(np.arange(len(ranking)) - target)
    return Ranking(rows=ranking[np.lexsort((ranking, distance))])
