"""Segment: the worst, all others, the best; each part shuffled."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from didact.core.budget import Budget
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.scores import TrainingOrder
from didact.ordering.around.by_utility import chosen_utilities
from didact.ordering.sort import sorted_by_utility

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


def segmented(
    utility: Float1D, rng: np.random.Generator, *, low: float, high: float, lowest_first: bool
) -> Int1D:
    """The lowest share first, the highest share last, the rest between; each part shuffled.

    Args:
        utility: `(n,)`, finite.
        rng: Shuffles the parts.
        low: Share of the rows in the low part, floored in decimal.
        high: Share of the rows in the high part, floored in decimal; the two add up to at most 1.
        lowest_first: False swaps the two outer parts.

    Raises:
        ConfigError: The two shares add up to more than 1.

    **Source:** SEG of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    if Decimal(repr(low)) + Decimal(repr(high)) > 1:
        raise ConfigError(f"segment: low={low} and high={high} overlap; expected at most 1 in sum")
    n = len(utility)
    ends = [Budget(ratio=low).amount(n), n - Budget(ratio=high).amount(n)]
    parts = [rng.permutation(part) for part in np.split(sorted_by_utility(utility), ends)]
    return np.concatenate(parts if lowest_first else parts[::-1])


@method("segment")
def segment(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    ctx: Context,
    /,
    *,
    low: Annotated[float, Field(ge=0, le=1)] = 0.1,
    high: Annotated[float, Field(ge=0, le=1)] = 0.1,
    lowest_first: bool = True,
) -> TrainingOrder:
    """The worst rows first, the best last, all others between; each of the three parts shuffled.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        ctx: Its seed decides the shuffles.
        low: Share of the rows in the low part.
        high: Share of the rows in the high part.
        lowest_first: False puts the best part first and the worst last.

    Raises:
        ConfigError: No scores, or low + high above 1.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** SEG of arXiv:2605.30334 (microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    utility = chosen_utilities("segment", pool, chosen, scores)
    rng = ctx.rng("order", "segment")
    order = segmented(utility, rng, low=low, high=high, lowest_first=lowest_first)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "segment")
