"""Who is in which partition, and how much each picks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from didact.core.errors import BudgetError
from didact.core.hashing import mix

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context

# A partition picks so many times its share of the budget (benchmarks/two_rounds.py).
OVERSAMPLED: Final = 4
MOST: Final = 4096
_DEALT: Final = 2**20  # rows dealt at a time


def refuse_share(share: float, partitions: int) -> None:
    """Refuse a budget of which the partitions' picks would be the whole pool.

    Raises:
        BudgetError: They would.
    """
    if share * OVERSAMPLED < 1:
        return
    raise BudgetError(
        f"feature_based: partitions={partitions} with a budget of {share:.0%} of what may be "
        f"chosen: partitions pick {OVERSAMPLED} times their share, which would be everything; ask "
        f"for less than {1 / OVERSAMPLED:.0%}, or leave partitions out"
    )


def deal(pool: Pool, rows: Int1D, partitions: int, ctx: Context) -> npt.NDArray[np.uint16]:
    """The partition of every row of the pool, `(len(pool),)`; `partitions` on who is no candidate.

    Drawn by what a row says and the seed: each candidate is in every partition with the same
    probability, and exact copies are in one. Nothing else changes it, not the order of the rows.
    """
    salt = ctx.rng("feature_based", "partitions").integers(2**64, dtype=np.uint64)
    out = np.full(len(pool), partitions, np.uint16)
    for at in range(0, len(rows), _DEALT):
        some = rows[at : at + _DEALT]
        drawn = mix(pool.content_hash[some] ^ salt) >> np.uint64(32)
        out[some] = (drawn * np.uint64(partitions)) >> np.uint64(32)
    return out
