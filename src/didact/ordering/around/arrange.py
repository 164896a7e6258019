"""From an orderer to the sequence that is read: epochs, interleaving, jitter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.core.errors import ConfigError, DataError
from didact.ordering import kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from didact.core.arrays import Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context, Orderer
    from didact.core.scores import Scores, Selection, TrainingOrder


def arrange(
    orderer: Orderer,
    settings: Mapping[str, Any],
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    ctx: Context,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    jitter: int | None = None,
    interleave: bool = False,
) -> TrainingOrder:
    """Run an orderer once per epoch and write the epochs one after another.

    In each epoch: the orderer, then `interleave`, then `jitter`. Random numbers are keyed by the
    epoch: what shuffles does so anew each time, what does not repeats itself. The first epoch does
    not depend on how many follow.

    Args:
        orderer: A function of `(pool, chosen, scores, ctx)`.
        settings: Its checked keyword arguments.
        pool: The pool the rows belong to; opened only to interleave.
        chosen: The rows.
        scores: The scores to order by, for orderers that need them.
        ctx: Its seed is the root of all random numbers.
        epochs: How often each row occurs, ≥ 1.
        batch_size: Samples per optimizer step over all devices and accumulation steps. Recorded;
            the order of rows does not depend on it.
        jitter: Shuffle inside consecutive windows of this many rows, ≥ 2. Within one step order
            means nothing, so a window that divides the batch is refused.
        interleave: Spread each source evenly over the epoch, keeping its own order.

    Returns:
        `settings` holds the orderer's own beside `epochs`, `batch_size`, `jitter`, `interleave`.

    Raises:
        ConfigError: A number is out of range, or the jitter would change nothing.
        DataError: The orderer lost or repeated a row.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** jitter as in arXiv:2605.30334; epochs written out because trainers that repeat a
    fixed order (`shuffle=False`) give no other way to vary it.
    **Cost:** that of the orderer, times `epochs`, and O(n log n); no model.
    """
    _check(epochs, batch_size, jitter)
    chosen.check(pool)
    sequence = []
    for epoch in range(epochs):
        here = _of_epoch(ctx, epoch)
        order = orderer(pool, chosen, scores, here, **settings)
        rows = order.rows
        if not np.array_equal(np.sort(rows), chosen.rows):
            raise DataError(
                f"order {order.method}: {len(rows):,} rows came back for {len(chosen):,} chosen; "
                "an orderer must return every chosen row exactly once"
            )
        if interleave:
            rows = _interleaved(rows, pool)
        if jitter is not None:
            rows = kernels.jitter(rows, jitter, here.rng("order", "jitter"))
        sequence.append(rows)
    around = {
        "epochs": epochs,
        "batch_size": batch_size,
        "jitter": jitter,
        "interleave": interleave,
    }
    return replace(
        order,
        rows=np.concatenate(sequence),
        settings={**order.settings, **around},
        epochs=epochs,
        batch_size=batch_size,
    )


def _of_epoch(ctx: Context, epoch: int) -> Context:
    """The context with a seed of the epoch's own; the first epoch has the run's."""
    if epoch == 0:
        return ctx
    return replace(ctx, seed=int(ctx.rng("order", "epoch", epoch).integers(2**63)))


def _interleaved(rows: Int1D, pool: Pool) -> Int1D:
    return rows[kernels.interleave(np.arange(len(rows)), pool.source_codes[rows])]


def _check(epochs: int, batch_size: int | None, jitter: int | None) -> None:
    if epochs < 1:
        raise ConfigError(f"order: epochs={epochs}; expected 1 or more")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"order: batch_size={batch_size}; expected 1 or more")
    if jitter is None:
        return
    if jitter < 2:
        raise ConfigError(
            f"order: jitter={jitter}; expected a window of 2 rows or more, or leave it out"
        )
    if batch_size is not None and batch_size % jitter == 0:
        raise ConfigError(
            f"order: jitter={jitter} only moves rows inside a step of batch_size={batch_size}, "
            f"where order means nothing; expected a window above {batch_size}, or leave it out"
        )
