"""What a training will cost, from the lengths of some samples."""

from __future__ import annotations

from didact.accounting.lengths import executed_training
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Int1D
from didact.core.cost import Cost
from didact.training.foresight import executed_flops
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
