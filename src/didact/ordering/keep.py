"""Keep: the rows as they stand in the pool, or as they were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from didact.core.identity import method
from didact.core.scores import TrainingOrder

if TYPE_CHECKING:
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


@method("keep")
def keep(
    pool: Pool,
    chosen: Selection,
    _scores: Scores | None,
    _ctx: Context,
    /,
    *,
    by: Literal["row", "rank"] = "row",
) -> TrainingOrder:
    """No new order: the pool's own, or the order in which the rows were chosen.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        by: "row": as they stand in the pool. "rank": best first, as the selector ranked them; pool
            order when it ranks nothing.

    Raises:
        PoolMismatchError: The selection belongs to another pool.

    **Source:** own; the baseline of every comparison.
    **Cost:** O(n).
    """
    chosen.check(pool)
    rows = chosen.rows if by == "row" else chosen.best_first()
    return TrainingOrder(rows, chosen.pool_fingerprint, "keep")
