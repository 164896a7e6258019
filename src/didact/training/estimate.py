"""What a training will cost, from the lengths of some samples."""

from __future__ import annotations

from didact.accounting.flops import lora_counted, training_flops
from didact.accounting.lengths import executed_training
from didact.accounting.lora import default_targets, lora_spec
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Int1D
from didact.core.cost import Cost
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
    """
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
