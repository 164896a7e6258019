"""What a training will cost, from sizes alone."""

from __future__ import annotations

from didact.accounting.flops import lora_counted, training_flops
from didact.accounting.lengths import executed_training, typical_lengths
from didact.accounting.lora import default_targets, lora_spec
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost
from didact.core.pool import PoolStats
from didact.training.settings import TrainSettings, tokens_per_batch


def estimate_training(
    stats: PoolStats,
    spec: ModelSpec,
    settings: TrainSettings,
    *,
    samples: float,
    batch_size: int,
    device: str,
) -> Cost:
    """FLOPs as executed, padding included, and tokens without it; opens no file.

    As exact as the pool's token counts: read it with the model's own tokenizer. Samples are taken
    to be chosen whatever their length, and read in random batches; a training tells at its start
    what its own samples will take (`foretold_flops`).

    Args:
        stats: The pool's sizes.
        spec: The model, with its context and what its template adds to a sample.
        settings: The settings of the training.
        samples: Samples that are read, over all epochs.
        batch_size: Samples per optimizer step.
        device: "cpu" or an accelerator, which takes larger batches by default.
    """
    if settings.max_steps is not None:
        samples = min(samples, settings.max_steps * batch_size)
    lengths = typical_lengths(
        stats,
        overhead=spec.added(stats.kind),
        max_length=settings.max_length or spec.context or None,
    )
    ran = executed_training(
        lengths, n=samples, batch_size=batch_size,
        tokens_per_batch=settings.tokens_per_batch or tokens_per_batch(device),
    )  # fmt: skip
    read = round(float(lengths.mean()) * samples) if len(lengths) else 0
    if settings.lora_rank is None:
        return Cost(flops=training_flops(spec, ran.tokens, ran.squares), tokens=read)
    targets = settings.lora_targets or default_targets(spec)
    lora = lora_spec(spec, rank=settings.lora_rank, targets=targets)
    return Cost(flops=lora_counted(spec, lora, ran.tokens, ran.squares), tokens=read)
