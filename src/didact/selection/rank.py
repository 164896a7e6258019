"""Selectors that rank rows by one score: top_k, threshold, middle, gumbel_top_k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.core.binding import as_json
from didact.core.identity import method
from didact.core.protocols import estimated_by
from didact.selection.around.budget import eligible, required, take
from didact.selection.around.near_duplicates import NearDuplicates, compared_by, estimate_walk
from didact.selection.around.quotas import Quotas

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Budget, Scores, Selection


def best_first(utility: Float1D) -> Int1D:
    """Row indices from largest utility to smallest; ties keep row order. No NaN (by `Scores`).

    The same permutation as a stable argsort of `-utility`, in a third of its time: numpy's
    vectorised sort is not stable, so rows of equal utility are put back in row order afterwards.

    **Cost:** O(n log n).
    """
    order = np.argsort(-utility)
    ranked = utility[order]
    new_value = ranked[1:] != ranked[:-1]
    if new_value.all():
        return order
    block = np.concatenate([[0], np.cumsum(new_value)])
    return np.sort(block * len(order) + order) % len(order)


def zscore(values: Float1D, *, clip: float | None = None) -> Float1D:
    """`(values - mean) / std` with the population's std; zeros when all values are equal.

    Args:
        values: Finite, `(n,)`.
        clip: Cut to ±clip afterwards; None leaves the tails.

    **Source:** DELT, `prepare_data_scorer_train_data.py` (population std, clip at ±3).
    **Cost:** O(n).
    """
    if not len(values) or values.min() == values.max():
        return np.zeros(len(values))
    z = (values - values.mean()) / values.std()
    return np.asarray(z if clip is None else np.clip(z, -clip, clip))


@method("top_k", libraries=compared_by)
@estimated_by(estimate_walk)
def top_k(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """The best rows by score; ties go to the lowest row.

    Args:
        pool: The samples.
        scores: One number per sample.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Its workers read the texts that `near_duplicates` compares.
        quotas: Limits per source.
        near_duplicates: Going down the ranking, refuse rows that are nearly one already chosen.

    Raises:
        ConfigError: No scores, or a quota that names an unknown source.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.

    **Source:** DELT §3 (arXiv:2506.21545), where ties go to the later row and k = 0 returns every
    row; here k = 0 gives none.
    **Cost:** one sort, O(n log n); no model. `near_duplicates` reads texts.
    """
    scores = required(scores, pool, "top_k")
    return take(
        pool,
        best_first(scores.utility),
        budget,
        quotas,
        method="top_k",
        settings=as_json(top_k, {"quotas": quotas, "near_duplicates": near_duplicates}),
        scores=scores,
        reasons=("top_k",),
        near_duplicates=near_duplicates,
        ctx=ctx,
    )


@method("threshold", libraries=compared_by)
@estimated_by(estimate_walk)
def threshold(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    value: float,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """Every row strictly better than a value; a budget, if there is one, is a ceiling.

    Args:
        pool: The samples.
        scores: One number per sample.
        budget: None takes every row that passes.
        ctx: Its workers read the texts that `near_duplicates` compares.
        value: In the score's natural unit and direction: rows above it when higher is better, rows
            below it when lower is better.
        quotas: Limits per source.
        near_duplicates: Going down the ranking, refuse rows that are nearly one already chosen.

    Raises:
        ConfigError: No scores, or a quota that names an unknown source.
        BudgetError: A budget of more than the pool has, or quotas that cannot be met.

    **Source:** DELT's `threshold` (microsoft/DELT `data_selection`), strict there too.
    **Cost:** one sort, O(n log n); no model. `near_duplicates` reads texts.
    """
    scores = required(scores, pool, "threshold")
    passes = scores.values > value if scores.higher_is_better else scores.values < value
    ranking = best_first(scores.utility)
    side = "above" if scores.higher_is_better else "below"
    return take(
        pool,
        ranking[passes[ranking]],
        budget,
        quotas,
        method="threshold",
        settings=as_json(
            threshold, {"value": value, "quotas": quotas, "near_duplicates": near_duplicates}
        ),
        scores=scores,
        reasons=(f"{side} threshold",),
        partial=True,
        near_duplicates=near_duplicates,
        ctx=ctx,
    )


@method("middle", libraries=compared_by)
@estimated_by(estimate_walk)
def middle(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    center: Annotated[float, Field(ge=0, le=1)] = 0.5,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """The rows nearest to a quantile of the score, outward; equal distance: the lowest row.

    Distance is in ranks, so the shape of the score's distribution does not matter.

    Args:
        pool: The samples.
        scores: One number per sample.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Its workers read the texts that `near_duplicates` compares.
        center: Quantile of the utility among the rows that may be chosen: 0 is the worst row, 1
            the best.
        quotas: Limits per source.
        near_duplicates: Going down the ranking, refuse rows that are nearly one already chosen.

    Raises:
        ConfigError: No scores, or a quota that names an unknown source.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.

    **Source:** mid-range pruning, Marion et al. 2023 "When Less is More" (arXiv:2309.04564), which
    keeps the middle of the perplexity distribution.
    **Cost:** two sorts, O(n log n); no model. `near_duplicates` reads texts.
    """
    scores = required(scores, pool, "middle")
    ranking = best_first(scores.utility)
    ranking = ranking[eligible(pool, ranking, scores)]
    # From the worst row up, as quantiles count. Rounded so that a center whose binary form is a
    # hair off a whole rank (0.3 · 10) still finds both neighbours equally far.
    target = round((len(ranking) - 1) * (1 - center), 6)
    distance = np.abs(np.arange(len(ranking)) - target)
    return take(
        pool,
        ranking[np.lexsort((ranking, distance))],
        budget,
        quotas,
        method="middle",
        settings=as_json(
            middle, {"center": center, "quotas": quotas, "near_duplicates": near_duplicates}
        ),
        scores=scores,
        reasons=("middle",),
        near_duplicates=near_duplicates,
        ctx=ctx,
    )


@method("gumbel_top_k", libraries=compared_by)
@estimated_by(estimate_walk)
def gumbel_top_k(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    temperature: Annotated[float, Field(gt=0)] = 0.1,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """Good rows with luck: z-scored utility / temperature plus Gumbel noise, then the best k.

    The same as drawing rows one after another without replacement, each with probability in
    proportion to exp(z / temperature) among those left. Exact duplicates are one draw, not many.

    Args:
        pool: The samples.
        scores: One number per sample.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Its seed decides the noise; its workers read what `near_duplicates` compares.
        temperature: Near 0 it is `top_k`; large, a uniform draw. In standard deviations.
        quotas: Limits per source.
        near_duplicates: Going down the ranking, refuse rows that are nearly one already chosen.

    Raises:
        ConfigError: No scores, or a quota that names an unknown source.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.

    **Source:** PDS (microsoft/LMOps `data_selection/select_pretrain_data.py`, temperature 0.1 on
    z-scored labels); the law is Kool, van Hoof & Welling 2019 (arXiv:1903.06059).
    **Cost:** two sorts and n random numbers, O(n log n); no model. `near_duplicates` reads texts.
    """
    scores = required(scores, pool, "gumbel_top_k")
    ranking = best_first(scores.utility)
    ranking = ranking[eligible(pool, ranking, scores)]  # before the noise: a group is one draw
    noise = ctx.rng("select", "gumbel").gumbel(size=len(pool))  # by row, whoever may be chosen
    luck = zscore(scores.utility[ranking]) / temperature + noise[ranking]
    return take(
        pool,
        ranking[best_first(luck)],
        budget,
        quotas,
        method="gumbel_top_k",
        settings=as_json(
            gumbel_top_k,
            {"temperature": temperature, "quotas": quotas, "near_duplicates": near_duplicates},
        ),
        scores=scores,
        reasons=("gumbel_top_k",),
        near_duplicates=near_duplicates,
        ctx=ctx,
    )
