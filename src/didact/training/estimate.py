"""What a training will cost, from samples of a pool; it is not begun, and no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from didact.accounting.lengths import executed_training
from didact.core.arrays import Int1D
from didact.core.cost import Cost
from didact.core.pool import Pool
from didact.models.encode import encode
from didact.training.foresight import PlannedTraining, counted_lengths, encoding, executed_flops

_LOOKED_AT: Final = 4096


def estimate_planned(training: PlannedTraining, pool: Pool, rows: Int1D, *, samples: float) -> Cost:
    """FLOPs that a training will execute, padding included, and tokens without it.

    Samples are taken to be chosen whatever their length, and read in random batches; a training
    tells at its start what its own samples will take (`foretold_flops`).

    Args:
        training: The training; its epochs are not counted again.
        pool: The pool.
        rows: Rows that stand for those that are read.
        samples: Samples that are read, over all epochs.

    Returns:
        At most `flops` of the settings, where they are given.

    **Cost:** tokenises at most 4,096 samples; loads no model.
    """
    settings = training.settings
    if settings.max_steps is not None:
        samples = min(samples, settings.max_steps * training.batch_size)
    lengths, scale = _lengths(training, pool, rows)
    samples *= scale
    ran = executed_training(
        lengths, n=samples, batch_size=training.batch_size,
        tokens_per_batch=training.tokens_per_batch,
    )  # fmt: skip
    tokens = round(float(lengths.mean()) * samples) if len(lengths) else 0
    flops = executed_flops(training.spec(), settings)(ran.tokens, ran.squares)
    if settings.flops is not None and flops > settings.flops:
        return Cost(flops=settings.flops, tokens=round(tokens * settings.flops / flops))
    return Cost(flops=flops, tokens=tokens)


def cheapest_step(training: PlannedTraining, pool: Pool, rows: Int1D, *, size: int) -> float:
    """FLOPs that an optimizer step of some rows takes at least, whichever they are.

    Args:
        training: The training.
        pool: The pool.
        rows: Rows that may be read.
        size: Number of them in the step; at most all.

    Returns:
        Those of the shortest rows, without padding; 0 where there are more than 4,096 rows, which
        are too many to look at.

    **Cost:** tokenises at most 4,096 samples; loads no model.
    """
    if len(rows) > _LOOKED_AT:
        return 0.0
    least = np.sort(_read(training, pool, rows)[0])[:size].astype(np.float64)
    spent = executed_flops(training.spec(), training.settings)
    return spent(int(least.sum()), float((least**2).sum()))


def _lengths(training: PlannedTraining, pool: Pool, rows: Int1D) -> tuple[Int1D, float]:
    """Tokens of some samples with a loss, and how many such ones stand for one of the rows."""
    some = np.random.default_rng(0).choice(rows, min(len(rows), _LOOKED_AT), replace=False)
    lengths, counted = _read(training, pool, some)
    lengths = lengths[lengths > 0]
    # Those looked at may be longer or shorter than all, by the pool's own count.
    scale = counted[rows].mean() / max(counted[some].mean(), 1e-9) if len(rows) else 1.0
    return lengths, float(scale) * len(lengths) / max(len(some), 1)


def _read(training: PlannedTraining, pool: Pool, some: Int1D) -> tuple[Int1D, Int1D]:
    """Tokens of some rows as the model reads them, 0 without a loss, and of all as the pool counts.

    Returns:
        int64 `(some,)` and, cut off as the model cuts, int64 `(n,)`.
    """
    settings = training.settings
    if not isinstance(training.model, Path):
        counted = counted_lengths(pool, training.spec(), settings)
        return counted[some], counted
    from didact.models.language_model import context_of, open_tokenizer

    tokenizer = open_tokenizer(training.model)
    how = encoding(pool, settings, context_of(training.model, tokenizer))
    shown = encode(pool.read(some, ["turns"]).column("turns"), tokenizer, how)
    lengths = np.zeros(len(some), np.int64)
    lengths[shown.scored] = shown.lengths[shown.scored]
    return lengths, np.minimum(pool.n_tokens, how.max_length or np.iinfo(np.int64).max)
