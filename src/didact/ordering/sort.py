"""Sort: from the lowest utility to the highest. Ties keep input order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from didact.core.identity import method
from didact.core.scores import TrainingOrder
from didact.ordering.around.utilities import chosen_utilities

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


def sorted_by_utility(utility: Float1D, *, descending: bool = False) -> Int1D:
    """From the worst to the best; or from the best to the worst, ties in input order either way.

    **Source:** DELT's sorting (microsoft/DELT `data_ordering/sorting.py`).
    **Cost:** O(n log n).
    """
    return np.argsort(-utility if descending else utility, kind="stable")


@method("sort")
def sort(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    descending: bool = False,
) -> TrainingOrder:
    """From the worst score to the best, so that training ends with the best; ties in pool order.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        descending: From the best to the worst.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** DELT §4.2 (arXiv:2506.21545).
    **Cost:** O(n log n).
    """
    utility = chosen_utilities("sort", pool, chosen, scores)
    order = sorted_by_utility(utility, descending=descending)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "sort")
