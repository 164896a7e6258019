"""Sort: from the lowest utility to the highest. Ties keep input order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from didact.ordering.around.by_utility import by_utility

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D


def sorted_by_utility(utility: Float1D, *, descending: bool = False) -> Int1D:
    """From the worst score to the best, so that training ends with the best; ties in pool order.

    Args:
        utility: `(n,)`, finite.
        descending: From the best to the worst; ties in pool order, too.

    **Source:** DELT §4.2 (arXiv:2506.21545); microsoft/DELT `data_ordering/sorting.py`.
    **Cost:** O(n log n).
    """
    return np.argsort(-utility if descending else utility, kind="stable")


sort = by_utility("sort", sorted_by_utility)
