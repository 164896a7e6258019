"""The training loop: HF Trainer over samples of a pool in a given sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from didact.accounting.flops import Lengths
from didact.core.cost import Meter
from didact.core.entries import open_entry
from didact.core.errors import DataError, ExecutionError
from didact.core.pieces import ignore
from didact.core.protocols import Progress
from didact.models.batches import Batch, memory_errors
from didact.models.language_model import LanguageModel
from didact.models.losses import token_nll
from didact.training.dropout import SampleDropout, sample_keys
from didact.training.samples import SampleInBlock, Samples, padded_micro_batches, rows_digest
from didact.training.schedule import Schedule, learning_rate_factor
from didact.training.trainer_checkpoints import Sealer, last_checkpoint, trainer_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of the training loop.

    Attributes:
        learning_rate: The highest learning rate.
        schedule: The learning rate after the warm-up: `cosine` or `linear` to zero, `constant`, or
            `wsd`: constant, then linear to zero over the last fifth of the steps.
        warmup_ratio: Share of the steps in which the learning rate rises from zero.
        batch_size: Samples per optimizer step.
        micro_batch_size: Samples per forward pass; divides `batch_size`.
        weight_decay: AdamW's weight decay, on matrices.
        beta1: Decay of Adam's first moment.
        beta2: Decay of Adam's second moment.
        epsilon: Adam's ε.
        max_grad_norm: The norm to which longer gradients are shortened.
        max_steps: Number of steps after which it stops, with the schedule laid over them.
        seed: Seed of dropout, whose masks belong to step and sample; see `SampleDropout`.
    """

    learning_rate: float
    schedule: Schedule
    warmup_ratio: float
    batch_size: int
    micro_batch_size: int
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    seed: int
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The record of one optimizer step.

    Attributes:
        step: Number of the step, from 1.
        loss: Weighted mean over the step's tokens, nats per token, before the update.
        learning_rate: Learning rate of the update.
        grad_norm: L2 norm of the gradient before clipping.
        samples: Number of samples with a loss.
        skipped: Number of samples without a loss, left out.
        tokens: Number of tokens, without padding.
        executed: Number of tokens with padding.
        squares: Sum of squared padded lengths.
        rows: Digest of the rows read, in sequence; see `rows_digest`.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    samples: int
    skipped: int
    tokens: int
    executed: int
    squares: float
    rows: str


def executed_lengths(steps: Sequence[StepRecord]) -> Lengths:
    """Lengths of the sequences that steps executed, padding included."""
    return Lengths(
        sum(s.samples for s in steps), sum(s.executed for s in steps), sum(s.squares for s in steps)
    )


def weighted_nll(logits: torch.Tensor, batch: Batch, total: float) -> torch.Tensor:
    """Sum of weighted token losses over `total`, the weight of the whole step."""
    nll = token_nll(logits, batch)
    return (nll * batch.weights.to(nll.dtype)).sum() / max(total, 1e-12)


class _WeightedTrainer(Trainer):
    """HF Trainer with weighted tokens, which counts what each step reads."""

    recipe: Recipe
    pad_id: int
    stage: str

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A scheduler of the recipe's learning rate."""
        recipe = self.recipe
        stepped: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            stepped,
            partial(
                learning_rate_factor, steps=num_training_steps, schedule=recipe.schedule,
                warm_up=math.ceil(recipe.warmup_ratio * num_training_steps),
            ),
        )  # fmt: skip
        return self.lr_scheduler

    def get_batch_samples(self, *arguments: Any, **more: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and the weight of its tokens."""
        read, _ = super().get_batch_samples(*arguments, **more)
        samples = [sample for batch in read for sample in batch["items"]]
        batches = padded_micro_batches(samples, len(read), self.pad_id)
        shapes = [tuple(batch.input_ids.shape) for batch in batches]
        kept = sum(at not in tokens.missing for _, tokens, at in samples)
        self.counted = {
            "samples": kept,
            "skipped": len(samples) - kept,
            "tokens": sum(int(b.attention_mask.sum()) for b in batches) if kept else 0,
            "executed": sum(b * s for b, s in shapes),
            "squares": float(sum(b * s * s for b, s in shapes)),
            "rows": rows_digest([row for row, _, _ in samples]),
        }
        keys = partial(sample_keys, self.recipe.seed, self.state.global_step)
        inputs = [
            {**batch.inputs, "weights": batch.weights, "keys": keys(batch.rows)}
            for batch in batches
        ]
        return inputs, sum(float(batch.weights.sum()) for batch in batches)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the overridden signature
        num_items_in_batch: Any = None,
    ) -> Any:
        """The share of one micro-batch in the step's loss."""
        read = {name: value for name, value in inputs.items() if name != "keys"}
        batch = Batch(rows=np.empty(0, np.int64), **read)
        with SampleDropout(inputs["keys"]):
            outputs = model(**batch.inputs, use_cache=False)
        loss = weighted_nll(outputs.logits, batch, float(num_items_in_batch))
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, Any], *arguments: Any) -> None:
        """Note the numbers of a step, with the rows it read; every checkpoint keeps them."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]) or not math.isfinite(logs["grad_norm"]):
                cause = (
                    "before any update: the model's weights are damaged, or dtype is too narrow"
                    if self.state.global_step <= 1
                    else "lower learning_rate, or train in float32"
                )
                raise ExecutionError(
                    f"{self.stage}, step {self.state.global_step}: the loss is {logs['loss']} and "
                    f"the gradient's norm {logs['grad_norm']}; {cause}"
                )
            logs = {**logs, **self.counted}
        super().log(logs, *arguments)


class _ProgressReporter(TrainerCallback):
    """Tells the caller how far the loop is."""

    def __init__(self, progress: Callable[[Progress], None], stage: str) -> None:
        self.progress, self.stage = progress, stage

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After every optimizer step."""
        del args, control
        self.progress(Progress(self.stage, state.global_step, state.max_steps, "steps"))


def train_in_place(
    model: LanguageModel,
    samples: Samples,
    recipe: Recipe,
    work: Path,
    *,
    mixed: bool,
    progress: Callable[[Progress], None],
    stage: str = "train",
    callbacks: Sequence[TrainerCallback] = (),
    meter: Meter | None = None,
    tell: Callable[[str], None] = ignore,
) -> tuple[tuple[StepRecord, ...], int]:
    """Train a model in place; every step that led to it, and how many an interrupted run took.

    The loss of a step is the mean over all its tokens, each by its weight, as trainers have it; a
    sample without a loss is left out and counted. Checkpoints in `work` are HF Trainer's: weights
    in safetensors, the optimizer's and the random generators' state in PyTorch's own format, which
    transformers reads back with `weights_only`; one that is not what was written is passed over.

    Args:
        model: The model; its parameters that require a gradient are trained.
        samples: The data, in sequence.
        recipe: The settings of the loop.
        work: Folder of checkpoints; the last whole one in it is where training goes on.
        mixed: bfloat16 arithmetic with the weights' own type for sums and updates.
        progress: Called after every step.
        stage: Name of the training in progress and messages.
        callbacks: Further callbacks of transformers.
        meter: The meter of processor time; an interrupted run's is added to it.
        tell: Called with a message where a checkpoint is damaged.

    Raises:
        DataError: No sample has a loss.
        ExecutionError: The loss or gradient is not finite, or memory ran out.
    """
    epochs = len(samples.epochs)
    per_epoch = -(-len(samples) // recipe.batch_size)
    steps = min(recipe.max_steps or math.inf, epochs * per_epoch)
    arguments = _arguments(recipe, work, int(steps), epochs, model.device, mixed=mixed)
    loop = _WeightedTrainer(
        model=model.module,
        args=arguments,
        train_dataset=samples,
        data_collator=_uncollated,
        compute_loss_func=weighted_nll,  # says that our loss is a mean over the whole step
        callbacks=[_ProgressReporter(progress, stage), *callbacks, Sealer(meter)],
    )
    loop.recipe, loop.pad_id, loop.stage = recipe, model.pad_id, stage
    loop.remove_callback(PrinterCallback)
    last = last_checkpoint(work, tell)
    earlier = 0
    if last is not None:
        earlier = int(trainer_state(last)["global_step"])
        if meter is not None:
            meter.found(open_entry(last).bill.own)
    remedy = "set a smaller micro_batch_size or max_length, or take a smaller model"
    with memory_errors("training", remedy):
        loop.train(resume_from_checkpoint=None if last is None else str(last))
    history: list[dict[str, Any]] = loop.state.log_history
    done = tuple(
        StepRecord(**{field.name: entry[field.name] for field in fields(StepRecord)})
        for entry in history
        if "loss" in entry
    )
    if not any(step.samples for step in done):
        raise DataError(
            "no sample has a token to learn; check loss, template and max_length against the data"
        )
    return done, earlier


def _uncollated(items: list[SampleInBlock]) -> dict[str, list[SampleInBlock]]:
    return {"items": items}


def _arguments(
    recipe: Recipe, work: Path, steps: int, epochs: int, device: torch.device, *, mixed: bool
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        use_cpu=device.type == "cpu",
        bf16=mixed,
        per_device_train_batch_size=recipe.micro_batch_size,
        gradient_accumulation_steps=recipe.batch_size // recipe.micro_batch_size,
        num_train_epochs=epochs,
        max_steps=steps,
        train_sampling_strategy="sequential",
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.beta1,
        adam_beta2=recipe.beta2,
        adam_epsilon=recipe.epsilon,
        optim="adamw_torch",
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="epoch" if epochs > 1 else "steps",
        save_steps=max(1, -(-steps // 10)),
        save_total_limit=2,  # the last one may be cut short
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )
    _ = arguments.device  # counts the devices
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - one device; there is no setting
    return arguments
