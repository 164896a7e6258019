"""Gumbel top k: good rows with luck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from didact.core.identity import method
from didact.core.protocols import Composition, Ranking
from didact.core.statistics import best_first, zscore
from didact.selection.around.budget import eligible

if TYPE_CHECKING:
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores


@method("gumbel_top_k")
@Composition(needs_scores=True)
def gumbel_top_k(
    pool: Pool,
    scores: Scores,
    _budget: Budget | None,
    ctx: Context,
    /,
    *,
    temperature: Annotated[float, Field(gt=0)] = 0.1,
    unit: Literal["deviation", "score"] = "deviation",
) -> Ranking:
    """Good rows with luck: z-scored utility / temperature plus Gumbel noise, then the best k.

    The same as drawing rows one after another without replacement, each with probability in
    proportion to exp(z / temperature) among those left. Exact duplicates are one draw, not many.
    Scores that are logarithms of weights are drawn by these with `unit: score, temperature: 1`:
    importance resampling, given the weights of `dsir`.

    Args:
        pool: The samples.
        scores: One number per sample.
        ctx: Its seed decides the noise.
        temperature: Near 0 it is `top_k`; large, a uniform draw.
        unit: What the temperature counts in: standard deviations of the scores, or the scores' own
            unit, where z is the utility as it is.

    **Source:** PDS (microsoft/LMOps `data_selection/select_pretrain_data.py`, temperature 0.1 on
    z-scored labels); with `unit: score` DSIR (arXiv:2302.03169, package `data-selection`); the law
    is Kool, van Hoof & Welling 2019 (arXiv:1903.06059).
    **Cost:** two sorts and n random numbers, O(n log n); no model.
    """
    ranking = best_first(scores.utility)
    ranking = ranking[eligible(pool, ranking, scores)]  # before the noise: copies are one draw
    noise = ctx.rng("select", "gumbel").gumbel(size=len(pool))  # by row, whoever may be chosen
    utility = scores.utility[ranking]
    z = zscore(utility) if unit == "deviation" else utility
    luck = z / temperature + noise[ranking]
    return Ranking(rows=ranking[best_first(luck)])
