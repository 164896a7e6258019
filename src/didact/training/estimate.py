"""What a training will cost, from the lengths of some samples or from a pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from didact.accounting.lengths import executed_training
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Int1D
from didact.core.cost import Cost
from didact.core.pool import Pool
from didact.models.encode import encode
from didact.training.foresight import PlannedTraining, counted_lengths, encoding, executed_flops
from didact.training.settings import TrainSettings, tokens_per_batch


def estimate_training(
    lengths: Int1D,
    spec: ModelSpec,
    settings: TrainSettings,
    *,
    samples: float,
    batch_size: int,
    device: str,
) -> Cost:
    """FLOPs as executed, padding included, and tokens without it; opens no file.

    Samples are taken to be chosen whatever their length, and read in random batches; a training
    tells at its start what its own samples will take (`foretold_flops`).

    Args:
        lengths: Tokens of samples that stand for those that are read, as the model is shown them.
        spec: The model.
        settings: The settings of the training.
        samples: Samples with a loss that are read, over all epochs.
        batch_size: Samples per optimizer step.
        device: "cpu" or an accelerator, which takes larger batches by default.

    Returns:
        At most `settings.flops`, where they are given.
    """
    ran = executed_training(
        lengths, n=samples, batch_size=batch_size,
        tokens_per_batch=settings.tokens_per_batch or tokens_per_batch(device),
    )  # fmt: skip
    read = round(float(lengths.mean()) * samples) if len(lengths) else 0
    flops = executed_flops(spec, settings)(ran.tokens, ran.squares)
    if settings.flops is not None and flops > settings.flops:
        return Cost(flops=settings.flops, tokens=round(read * settings.flops / flops))
    return Cost(flops=flops, tokens=read)


_LOOKED_AT: Final = 4096


def estimate_planned(training: PlannedTraining, pool: Pool, rows: Int1D, *, samples: float) -> Cost:
    """What a training will execute on samples like some rows of a pool.

    Args:
        training: The training; its epochs are not counted again.
        pool: The pool.
        rows: Rows that stand for those that are read.
        samples: Samples that are read, over all epochs.

    **Cost:** tokenises at most 4,096 samples; loads no model.
    """
    settings, spec = training.settings, training.spec()
    some = np.random.default_rng(0).choice(rows, min(len(rows), _LOOKED_AT), replace=False)
    if isinstance(training.model, Path):
        from didact.models.language_model import context_of, open_tokenizer

        tokenizer = open_tokenizer(training.model)
        how = encoding(pool, settings, context_of(training.model, tokenizer))
        shown = encode(pool.read(some, ["turns"]).column("turns"), tokenizer, how)
        lengths = shown.lengths[shown.scored]
        counted = np.minimum(pool.n_tokens, how.max_length or np.iinfo(np.int64).max)
    else:
        counted = counted_lengths(pool, spec, settings)
        lengths = counted[some][counted[some] > 0]
    # Those looked at may be longer or shorter than all, by the pool's own count.
    scale = counted[rows].mean() / max(counted[some].mean(), 1e-9) if len(rows) else 1.0
    if settings.max_steps is not None:
        samples = min(samples, settings.max_steps * training.batch_size)
    return estimate_training(
        lengths, spec, replace(settings, tokens_per_batch=training.tokens_per_batch),
        samples=samples * scale * len(lengths) / max(len(some), 1),
        batch_size=training.batch_size, device="cpu",
    )  # fmt: skip
