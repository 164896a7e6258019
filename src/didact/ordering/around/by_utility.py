"""Orderers that are one function of the chosen rows' utilities."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.core.errors import ConfigError, DataError
from didact.core.identity import method
from didact.core.scores import TrainingOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context, Orderer
    from didact.core.scores import Scores, Selection


def by_utility(name: str, order: Callable[..., Int1D]) -> Orderer:
    """An orderer from a function of utilities.

    It raises ConfigError without scores, DataError where a chosen row has none, and
    PoolMismatchError where the selection or the scores belong to another pool.

    Args:
        name: The name it is registered under.
        order: Utilities `(n,)` of the chosen rows, larger is better → the indices 0..n-1 in reading
            order. Its keyword-only parameters are the settings, its docstring is the orderer's.
    """

    @wraps(order)
    def orderer(
        pool: Pool, chosen: Selection, scores: Scores | None, _ctx: Context, /, **settings: Any
    ) -> TrainingOrder:
        utility = chosen_utilities(name, pool, chosen, scores)
        rows = chosen.rows[order(utility, **settings)]
        return TrainingOrder(rows, chosen.pool_fingerprint, name)

    orderer.__name__ = orderer.__qualname__ = name
    return method(name)(orderer)


def chosen_utilities(name: str, pool: Pool, chosen: Selection, scores: Scores | None) -> Float1D:
    """Utilities of the chosen rows, `(len(chosen),)`; larger is better.

    Args:
        name: The orderer's name, for messages.
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
            f"order {name} needs scores: add a 'score:' section to the config, pass "
            "'--scores FILE' on the command line, or choose keep or shuffle"
        )
    scores.check(pool)
    without = np.flatnonzero(~scores.present[chosen.rows])
    if len(without):
        row = int(chosen.rows[without[0]])
        raise DataError(
            f"order {name}: {len(without):,} of the {len(chosen):,} chosen rows have no "
            f"{scores.method!r} score, the first is row {row} ({scores.missing[row]}); order by "
            "the scores that selected the rows, or choose keep or shuffle"
        )
    return scores.utility[chosen.rows]
