"""The scores that an order is made by, as utilities of the chosen rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from didact.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from didact.core.arrays import Float1D
    from didact.core.pool import Pool
    from didact.core.scores import Scores, Selection


def chosen_utilities(method: str, pool: Pool, chosen: Selection, scores: Scores | None) -> Float1D:
    """Utilities of the chosen rows, `(len(chosen),)`; larger is better.

    Args:
        method: The orderer's name, for messages.
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.
    """
    chosen.check(pool)
    if scores is None:
        raise ConfigError(
            f"order {method} needs scores: add a 'score:' section to the config, pass "
            "'--scores FILE' on the command line, or choose keep or shuffle"
        )
    scores.check(pool)
    without = np.flatnonzero(~scores.present[chosen.rows])
    if len(without):
        row = int(chosen.rows[without[0]])
        raise DataError(
            f"order {method}: {len(without):,} of the {len(chosen):,} chosen rows have no "
            f"{scores.method!r} score, the first is row {row} ({scores.missing[row]}); order by "
            "the scores that selected the rows, or choose keep or shuffle"
        )
    return scores.utility[chosen.rows]
