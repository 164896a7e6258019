"""From a selector to the set that is trained on: budget, quotas and near-duplicates around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.core.binding import as_json
from didact.core.budget import Budget
from didact.core.cost import Cost
from didact.core.errors import BudgetError, ConfigError, DataError
from didact.core.identity import about
from didact.core.protocols import Composition, Growing, Narrowing, Ranking
from didact.core.scores import Selection
from didact.selection.around.amounts import counted
from didact.selection.around.budget import cut, distinct_rows, goal, required
from didact.selection.around.grow import grow
from didact.selection.around.near_duplicates import (
    NearDuplicates,
    Refusal,
    estimate_all,
    estimate_walk,
)
from didact.selection.around.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from didact.core.arrays import Int1D
    from didact.core.budget import Unit
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context, Selector
    from didact.core.scores import Scores
    from didact.selection.around.amounts import TrainingFlops


@dataclass(frozen=True, kw_only=True)
class Around:
    """What composes with every selector, beside the budget.

    Attributes:
        quotas: Limits per source.
        near_duplicates: Refuse rows that are nearly one already chosen.
    """

    quotas: Quotas | None = None
    near_duplicates: NearDuplicates | None = None


def choose(
    selector: Selector,
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    name: str | None = None,
    training: TrainingFlops | None = None,
    /,
    *,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
    **settings: Any,
) -> Selection:
    """Run a selector and cut what it prefers to the budget.

    Never chosen are rows of the validation split, rows without a score and, when the pool counts
    exact duplicates once, any but the first of them. A greedy selector grows its set with
    near-duplicates refused on the way; going down a ranking they are refused afterwards.

    Args:
        selector: A function of `(pool, scores, budget, ctx)`.
        pool: The samples.
        scores: One number per sample (or per sample and task), for selectors that look at them;
            rows without one are never chosen.
        budget: How many samples, tokens or FLOPs, or which share of the rows.
        ctx: Seed, workers, progress, pieces of what is under way.
        name: The selector's name; by default what it says of itself.
        training: For a budget of FLOPs: what training on each row takes, and what is left for it.
        quotas: Limits per source.
        near_duplicates: Refuse rows that are nearly one already chosen.
        settings: The selector's checked keyword arguments.

    Returns:
        `settings` holds the selector's own beside `quotas`, `near_duplicates` and `budget`.

    Raises:
        ConfigError: No scores where they are needed, a quota that names an unknown source, or
            settings with which quotas or near-duplicates do not go.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.
        DataError: The selector gave no ranking of the pool's rows.
        PoolMismatchError: The scores belong to another pool.

    **Source:** own.
    **Cost:** that of the selector and O(n log n); `near_duplicates` reads texts.
    """
    name = name or about(selector).name
    around = Around(quotas=quotas, near_duplicates=near_duplicates)
    if composition(selector).needs_scores:
        scores = required(scores, pool, name)
    elif scores is not None:
        scores.check(pool)
    _check_alone(selector, name, around, settings)
    chosen = selector(pool, scores, budget, ctx, **settings)
    if not isinstance(chosen, Selection):
        refused, ranking = 0, chosen
        if isinstance(chosen, Growing | Narrowing):
            costly = composition(selector).estimate is not None
            ranking, refused = _grown(
                chosen, name, pool, scores, budget, around, ctx, costly=costly, training=training
            )
            near_duplicates = None
        chosen = cut(
            pool, _checked(ranking, name, pool), budget, ctx, method=name, scores=scores,
            quotas=quotas, near_duplicates=near_duplicates, refused=refused, training=training,
        )  # fmt: skip
    elif quotas or near_duplicates is not None:
        raise ConfigError(
            f"{name} gives a finished selection, with which quotas and near_duplicates do not go; "
            "leave them out, or let it give a Ranking"
        )
    elif budget is not None and budget.unit == "flops":
        count = counted(pool, budget, training)
        if (spent := int(count.sizes(chosen.rows).sum())) > (count.asked or 0):
            raise BudgetError(
                f"{name} gives a finished selection, which takes {count.told(spent)} to train on, "
                f"over the {count.told(count.asked or 0)} that are left; give samples=N, or let it "
                "give a Ranking"
            )
    notes = chosen.notes
    if not len(chosen) and not notes:
        notes = (f"nothing was chosen: {budget or 'the method'} lets no sample pass",)
    stamped = {
        **as_json(selector, settings),
        **as_json(Around, vars(around)),
        "budget": "none" if budget is None else str(budget),
    }
    return replace(chosen, method=name, settings={**chosen.settings, **stamped}, notes=notes)


def estimate(
    selector: Selector,
    stats: PoolStats,
    budget: Budget | None,
    name: str | None = None,
    /,
    *,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
    **settings: Any,
) -> Cost:
    """What `choose` will cost, before it runs; nothing to speak of where only scores are sorted.

    Raises:
        ConfigError: What `choose` would refuse, as far as it is known before the pool is looked at.
        MissingDependencyError: Of a library that it needs.
    """
    said = composition(selector)
    around = Around(quotas=quotas, near_duplicates=near_duplicates)
    _check_alone(selector, name or about(selector).name, around, settings)
    nothing = budget is None or not budget.amount(stats.n)
    cost = Cost()
    if said.estimate is not None:
        asked = budget
        if quotas and budget is not None and not nothing:  # any row may be needed: all are ranked
            tokens = budget.unit == "tokens"
            asked = Budget(tokens=stats.n_tokens) if tokens else Budget(samples=stats.n)
        cost = said.estimate(stats, asked, **settings)
    if near_duplicates is None:
        return cost
    if said.grows:
        return cost if nothing else cost + estimate_all(stats)
    return cost + estimate_walk(stats, None if quotas else budget)


def _checked(ranking: Any, name: str, pool: Pool) -> Ranking:
    """What a selector gave back, if it is a ranking of rows of the pool."""
    expected = "expected a Ranking, a Growing or a Selection"
    if not isinstance(ranking, Ranking):
        raise DataError(f"select {name}: it gave a {type(ranking).__name__}; {expected}")
    rows = np.asarray(ranking.rows, np.int64)
    seen = np.zeros(len(pool), np.bool_)
    inside = not len(rows) or (rows.min() >= 0 and rows.max() < len(pool))
    if inside:
        seen[rows] = True
    if not inside or seen.sum() < len(rows):
        raise DataError(
            f"select {name}: its ranking of {len(rows):,} rows repeats one, or names one that the "
            f"pool of {len(pool):,} has not; each row stands in a ranking at most once"
        )
    return replace(ranking, rows=rows)


def composition(selector: Callable[..., Any]) -> Composition:
    """What a selector says of itself to what stands around it."""
    said = vars(selector).get("composition")
    return said if isinstance(said, Composition) else Composition()


def _check_alone(
    selector: Selector, name: str, around: Around, settings: Mapping[str, Any]
) -> None:
    said, given = composition(selector), as_json(selector, settings)
    alone = said.why_alone(given) if said.why_alone is not None else ""
    no_quotas = said.why_no_quotas(given) if said.why_no_quotas is not None else ""
    for what, why in (("quotas", alone or no_quotas), ("near_duplicates", alone)):
        if why and vars(around)[what] is not None:
            raise ConfigError(f"{name}: {what} with {why}")


def _grown(
    growing: Growing | Narrowing,
    name: str,
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    around: Around,
    ctx: Context,
    *,
    costly: bool,
    training: TrainingFlops | None,
) -> tuple[Ranking, int]:
    """What a growth picks until the goal is reached, and how many near-duplicates it refused.

    Budget and quotas are looked at before a growth that costs something; any other is done sooner,
    and what they refuse is told when it is cut.
    """
    rows = growing.rows
    first = distinct_rows(pool, rows)[0]
    unit: Unit = "samples"
    if costly:
        sizes, wanted = goal(
            pool, rows, budget, around.quotas, method=name, scores=scores, one_of_each=first,
            training=training,
        )  # fmt: skip
        unit = "samples" if budget is None else budget.unit
    else:
        sizes, wanted = np.ones(len(rows), np.int64), len(rows)
        if budget is not None and budget.unit == "samples" and not around.quotas:
            wanted = min(budget.amount(len(pool)), wanted)
    if budget is None or not wanted:
        return Ranking(rows=np.empty(0, np.int64)), 0
    if isinstance(growing, Narrowing):
        growing = growing.narrow(wanted / int(sizes.sum()))
        sizes, rows = sizes[np.searchsorted(rows, growing.rows)], growing.rows
    refusal, refuse = None, None
    if around.near_duplicates is not None:
        first, text = distinct_rows(pool, rows)
        refusal = Refusal(pool, rows[first], around.near_duplicates, ctx)

        def refuse(position: int) -> Int1D:
            return first[refusal.after(int(text[position]))]

    with growing.open() as (growth, ranking):
        picks = grow(
            growth, sizes, wanted, ctx,
            unit=unit, refuse=refuse, resumable=growing.resumable,
        )  # fmt: skip
        return ranking(picks), refusal.refused if refusal is not None else 0
