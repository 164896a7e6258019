"""Shuffle: a random order, the run's own or a released one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.scores import TrainingOrder

if TYPE_CHECKING:
    from didact.core.arrays import Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection


def released_shuffle(n: int, *, release: Literal["delt", "data-efficacy"], seed: int) -> Int1D:
    """The very permutation that a released code base makes of n rows.

    **Source:** microsoft/DELT `shuffle.py` (`random.sample`, seed 10 there) and
    microsoft/data-efficacy `shuffle.py` (`Random(seed).shuffle`).
    **Cost:** O(n) in plain Python, about a microsecond a row.
    """
    generator = random.Random(seed)
    if release == "delt":
        return np.array(generator.sample(range(n), n), dtype=np.int64)
    rows = list(range(n))
    generator.shuffle(rows)
    return np.array(rows, dtype=np.int64)


@method("shuffle")
def shuffle(
    pool: Pool,
    chosen: Selection,
    _scores: Scores | None,
    ctx: Context,
    /,
    *,
    reference: Literal["delt", "data-efficacy"] | None = None,
    seed: Annotated[int, Field(ge=0)] | None = None,
) -> TrainingOrder:
    """A uniform random order, from the run's seed.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        ctx: Its seed decides the order.
        reference: Instead, the permutation that a released code base makes of n rows, the same in
            every epoch.
        seed: The reference's seed; DELT was released with 10.

    Raises:
        ConfigError: A reference without a seed, or a seed without a reference.
        PoolMismatchError: The selection belongs to another pool.

    **Source:** microsoft/DELT and microsoft/data-efficacy `shuffle.py` for the references.
    **Cost:** O(n).
    """
    chosen.check(pool)
    if (reference is None) != (seed is None):
        raise ConfigError(
            f"shuffle: reference={reference!r} with seed={seed!r}; give both to repeat a released "
            "order, or neither: the order then follows the run's own seed"
        )
    if reference is None or seed is None:
        order = ctx.rng("order", "shuffle").permutation(len(chosen))
    else:
        order = released_shuffle(len(chosen), release=reference, seed=seed)
    return TrainingOrder(chosen.rows[order], chosen.pool_fingerprint, "shuffle")
