"""The settings of a training, without anything that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Final, Literal

from pydantic import Field

from didact.core.errors import ConfigError
from didact.core.protocols import Device
from didact.models.encode import Loss, ModelTemplate
from didact.training.schedule import Schedule

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Average = Literal["none", "ema", "last"]
DEFAULT_BATCH: Final = 32  # samples per optimizer step
SCRATCH: Final = "scratch"  # in place of a model: one that is made for the training


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The settings of a training.

    Args:
        params: Size of the model to begin with, "3M", where `model` is `scratch`.
        vocab: Tokens of a model from scratch; by default what suits its size.
        context: Most tokens a model from scratch reads at once.
        lora_rank: Rank of the adapters that are trained instead of the weights.
        lora_alpha: Scale of the adapters times their rank; twice the rank when not given.
        lora_dropout: Dropout on the adapters' inputs.
        lora_targets: Last parts of the names of the modules that get an adapter; those of the
            layers when not given.
        merge: Add trained adapters to the weights, so that the result is a whole model; otherwise
            it is the adapters alone.
        learning_rate: The highest learning rate. The default suits small models trained from
            scratch; a large trained one wants 1e-5 to 5e-5, adapters ten times that.
        schedule: The learning rate after the warm-up: `cosine` or `linear` to `final_rate`,
            `constant`, or `wsd`: constant, then linear to it over the last fifth.
        final_rate: Share of the highest rate at which the rate ends. Decay to 0 takes from an
            ascending order what it gains (arXiv:2511.18903); 0.33 with an average kept it there.
        warmup_ratio: Share of the steps in which the learning rate rises from zero.
        average: Weights to save beside the model, in its folder `averaged`: a moving average over
            the steps (`ema`), or the mean of the `last` few checkpoints.
        ema_decay: Share of the moving average that stays at a step; less in the first steps.
        average_last: Number of checkpoints that are averaged.
        average_every: Steps between them; when not given, they lie in the last fifth of all steps.
        batch_size: Samples per optimizer step; the order's own, else 32.
        tokens_per_batch: Most tokens of a forward pass, padding included: 8,192 on an accelerator;
            1,024 on the CPU, where more gain nothing.
        max_length: Most tokens of a sample; the model's context when not given.
        max_steps: Stop after so many steps, with the schedule laid over them.
        flops: End at the last whole step that so many FLOPs, as executed, still pay: never over.
            The schedule is laid over the steps that are done. Every sample is tokenised before the
            first step.
        weight_decay: AdamW's weight decay, on matrices.
        beta1: Decay of Adam's first moment.
        beta2: Decay of Adam's second moment.
        epsilon: Adam's ε.
        max_grad_norm: The norm to which longer gradients are shortened.
        loss: The tokens that are learnt: the `completion`, each turn by its weight; `all` tokens;
            or the sample as plain `text`.
        template: The template that chats are written in: the `model`'s own chat template, or one of
            didact's.
        device: The device; `auto` is the first accelerator, else the CPU.
        dtype: Type of arithmetic: `auto` is bfloat16 on an accelerator that has it, with weights
            and updates in float32; float32 elsewhere.
        report_to: Trackers of transformers that are told of every step, separated by commas:
            `tensorboard`, `wandb`, …; `none`.
    """

    params: str | None = None
    vocab: Annotated[int, Field(ge=260)] | None = None
    context: Annotated[int, Field(ge=2)] | None = None
    lora_rank: Count | None = None
    lora_alpha: Positive | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_targets: tuple[str, ...] | None = None
    merge: bool = True
    learning_rate: Positive = 5e-4
    schedule: Schedule = "cosine"
    final_rate: Share = 0.0
    warmup_ratio: Share = 0.03
    average: Average = "none"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    average_last: Annotated[int, Field(ge=2)] = 6
    average_every: Count | None = None
    batch_size: Count | None = None
    tokens_per_batch: Count | None = None
    max_length: Annotated[int, Field(ge=2)] | None = None
    max_steps: Count | None = None
    flops: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    epsilon: Positive = 1e-8
    max_grad_norm: Positive = 1.0
    loss: Loss = "completion"
    template: ModelTemplate = "model"
    device: Device = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    report_to: str = "none"

    def __post_init__(self) -> None:
        for field in fields(self):
            without = _IDLE.get(field.name)
            given = getattr(self, field.name)
            if without is not None and given != field.default and without[1](self):
                raise ConfigError(
                    f"train.{field.name}={given!r} does nothing {without[0]}; leave it out"
                )


# Setting → when it does nothing.
_IDLE: Final[dict[str, tuple[str, Callable[[TrainSettings], bool]]]] = {
    "final_rate": ("with schedule: constant", lambda s: s.schedule == "constant"),
    "lora_alpha": ("without lora_rank", lambda s: s.lora_rank is None),
    "lora_dropout": ("without lora_rank", lambda s: s.lora_rank is None),
    "lora_targets": ("without lora_rank", lambda s: s.lora_rank is None),
    "merge": ("without lora_rank", lambda s: s.lora_rank is None),
    "ema_decay": ("without average: ema", lambda s: s.average != "ema"),
    "average_last": ("without average: last", lambda s: s.average != "last"),
    "average_every": ("without average: last", lambda s: s.average != "last"),
}


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds behind a trained model; None where nothing was drawn, or it is not known.

    Attributes:
        init: Of weights from scratch, of adapters, of dropout.
        draw: Of the samples that were chosen.
        order: Of their sequence.
    """

    init: int | None = None
    draw: int | None = None
    order: int | None = None


def tokens_per_batch(device: str) -> int:
    """Most tokens of a forward pass where nothing else is asked for, padding included."""
    return 1024 if device == "cpu" else 8192
