"""Noise comes last: which candidates look like it, and what is said of those that were picked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from didact.core.protocols import Ranking
from didact.text.noise import noise_notes, noisy

if TYPE_CHECKING:
    from collections.abc import Callable

    from didact.core.arrays import Bool1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context


def noise_last(
    method: str, pool: Pool, rows: Int1D, strictness: float, ctx: Context
) -> tuple[Bool1D, Callable[[Int1D], Ranking]]:
    """Who looks like noise, and the ranking that picks become with the noise among them named.

    Args:
        method: The selector's name.
        pool: The samples.
        rows: The candidates, ascending, `(n,)`.
        strictness: See `didact.text.noise.noisy`; 0 lets everything pass, misdecoded text included.
        ctx: Told of progress.

    Returns:
        Which candidates a growth should pick last, `(n,)`; and positions picked → ranking.
    """
    suspects = np.zeros(len(rows), np.bool_)
    if strictness:
        suspects = noisy(pool, rows, strictness, ctx.progress)

    def remarks(chosen: Int1D) -> tuple[str, ...]:
        return noise_notes(suspects, int(suspects[np.searchsorted(rows, chosen)].sum()), strictness)

    def ranking(picks: Int1D) -> Ranking:
        return Ranking(
            rows=rows[picks],
            reasons=(method, "noise, for want of others"),
            why=suspects[picks].astype(np.int64),
            remarks=remarks,
        )

    return suspects, ranking
