"""The training loop: HF Trainer over samples of a pool in a given sequence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from didact.core.arrays import Float1D
from didact.core.atomic import remove
from didact.core.cost import Meter
from didact.core.entries import open_entry
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.pieces import ignore
from didact.core.protocols import Progress
from didact.models.batches import memory_errors
from didact.models.language_model import LanguageModel
from didact.models.losses import token_nll
from didact.training.dropout import SampleDropout, sample_keys
from didact.training.ranks import one_first
from didact.training.samples import SampleInBlock, Samples, StepSamples
from didact.training.schedule import Schedule, learning_rate_factor
from didact.training.telemetry import Step, rows_digest, step_from_json
from didact.training.trainer_checkpoints import Sealer, last_checkpoint, trainer_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of the training loop.

    Attributes:
        learning_rate: The highest learning rate.
        schedule: The learning rate after the warm-up; see `learning_rate_factor`.
        final_rate: Share of the highest rate that it falls to.
        warmup_ratio: Share of the steps in which the learning rate rises from zero.
        batch_size: Samples per optimizer step, over all devices.
        tokens_per_batch: Most tokens of a forward pass, padding included.
        weight_decay: AdamW's weight decay, on matrices.
        beta1: Decay of Adam's first moment.
        beta2: Decay of Adam's second moment.
        epsilon: Adam's ε.
        max_grad_norm: The norm to which longer gradients are shortened.
        max_steps: Number of steps after which it stops, with the schedule laid over them.
        seed: Seed of dropout, whose masks belong to step and sample; see `SampleDropout`.
        report_to: Trackers of transformers that are told of every step.
    """

    learning_rate: float
    schedule: Schedule
    final_rate: float = 0.0
    warmup_ratio: float
    batch_size: int
    tokens_per_batch: int
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float
    seed: int
    max_steps: int | None = None
    report_to: str = "none"


class _WeightedTrainer(Trainer):
    """HF Trainer with weighted tokens, which tells what each step read.

    To the loop a step is one batch; here it is cut into micro-batches, by tokens. Of several
    processes each reads the step and takes its own share.
    """

    recipe: Recipe
    pad_id: int
    stage: str
    samples: Samples
    flops: Callable[[int, float], float]
    progress: Callable[[Progress], None]
    began: float
    told: dict[str, Any]

    def get_train_dataloader(self) -> Any:
        """Whole steps, in sequence."""
        return DataLoader(self.samples, batch_size=self.recipe.batch_size, collate_fn=_uncollated)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A scheduler of the recipe's learning rate."""
        recipe = self.recipe
        stepped: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            stepped,
            partial(
                learning_rate_factor, steps=num_training_steps, schedule=recipe.schedule,
                warm_up=math.ceil(recipe.warmup_ratio * num_training_steps),
                final_rate=recipe.final_rate,
            ),
        )  # fmt: skip
        return self.lr_scheduler

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """All micro-batches of a step, forward and backward; the step's loss."""
        del num_items_in_batch
        accelerator, device = self.accelerator, self.args.device
        step = StepSamples(
            inputs["items"], self.recipe.tokens_per_batch, devices=accelerator.num_processes
        )
        model.train()
        sums = torch.zeros(len(step.rows), dtype=torch.float64, device=device)
        weight = max(step.weight, 1e-12)
        own = step.batches(accelerator.process_index, pad_id=self.pad_id, on=device)
        for batch, is_last in own:
            keys = sample_keys(self.recipe.seed, self.state.global_step, batch.rows).to(device)
            with nullcontext() if is_last else accelerator.no_sync(model):
                with SampleDropout(keys):
                    logits = model(**batch.inputs, use_cache=False).logits
                nll = token_nll(logits, batch)
                by_sample = (nll * batch.weights.to(nll.dtype)).sum(1)
                # The gradients of processes are averaged, while their losses are parts of a sum.
                loss = by_sample.sum() * (accelerator.num_processes / weight)
                accelerator.backward(loss)
            sums[torch.from_numpy(batch.rows).to(device)] = by_sample.detach().to(sums.dtype)
        nats = accelerator.reduce(sums, "sum").cpu().numpy()
        self._check(step, nats)
        self.told = self._told(step, nats)
        return torch.tensor(self.told["loss"], device=device)

    def _check(self, step: StepSamples, nats: Float1D) -> None:
        """Refuse a loss that is not finite, before the weights take it up."""
        bad = step.rows[~np.isfinite(nats)]
        if len(bad):
            ids = self.samples.pool.read(bad[:5], ["id"]).column("id").to_pylist()
            named = ", ".join(f"{row} ({name})" for row, name in zip(bad[:5], ids, strict=True))
            raise ExecutionError(
                f"{self.stage}, step {self.state.global_step + 1}: the loss is not finite on "
                f"{len(bad)} of {len(step.rows)} samples, rows {named}{_more(len(bad) - 5)}; "
                f"{_remedy(self.state.global_step)}"
            )

    def _told(self, step: StepSamples, nats: Float1D) -> dict[str, Any]:
        """The part of a `Step` that its samples tell."""
        pool, ran, number = self.samples.pool, step.executed, self.state.global_step
        before = self._last() or {"total_tokens": 0, "total_flops": 0.0}
        with_loss = np.flatnonzero(step.weights)
        codes, of_sample = np.unique(pool.source_codes[step.rows[with_loss]], return_inverse=True)
        by_source, learnt = (
            np.bincount(of_sample, values[with_loss], len(codes)) for values in (nats, step.weights)
        )
        return {
            "step": number + 1, "epoch": self.samples.epoch_of(number, self.recipe.batch_size),
            "loss": float(nats.sum() / max(step.weight, 1e-12)), "learnt": step.weight,
            "samples": step.samples, "skipped": len(step.rows) - step.samples,
            "tokens": step.tokens, "executed": ran.tokens,
            "total_tokens": before["total_tokens"] + step.tokens,
            "total_flops": before["total_flops"] + self.flops(ran.tokens, ran.squares),
            "rows": rows_digest(step.rows),
            "loss_by_source": {
                pool.source_names[code]: (n / w, w)
                for code, n, w in zip(codes, by_source.tolist(), learnt.tolist(), strict=True)
            },
        }  # fmt: skip

    def _last(self) -> dict[str, Any] | None:
        """What was told of the step before."""
        history: list[dict[str, Any]] = self.state.log_history
        return next((entry["told"] for entry in reversed(history) if "told" in entry), None)

    def log(self, logs: dict[str, Any], *arguments: Any) -> None:
        """Note the numbers of a step, with the rows it read; every checkpoint keeps them."""
        if "loss" not in logs:
            super().log(logs, *arguments)
            return
        state, told = self.state, self.told
        norm = float(logs["grad_norm"])
        if not math.isfinite(norm):
            raise ExecutionError(
                f"{self.stage}, step {state.global_step}: the loss is {told['loss']} and the "
                f"gradient's norm {norm}; {_remedy(state.global_step - 1)}"
            )
        logs["loss"] = told["loss"]
        super().log({**logs, **{name: told[name] for name in _TRACKED}}, *arguments)
        now = time.perf_counter()
        seconds = ((self._last() or {}).get("seconds") or 0.0) + now - self.began
        self.began = now
        entry: dict[str, Any] = state.log_history[-1]
        entry["told"] = {
            **told, "learning_rate": logs["learning_rate"], "grad_norm": norm, "seconds": seconds
        }  # fmt: skip
        self.progress(
            Progress(
                self.stage, state.global_step, state.max_steps, "steps",
                note=f"loss {told['loss']:.3f}",
            )
        )  # fmt: skip


_TRACKED = ("total_tokens", "total_flops")  # beside loss, gradient norm and learning rate


def _remedy(updates: int) -> str:
    if updates:
        return "lower learning_rate, or train in float32"
    return "before any update: the model's weights are damaged, or dtype is too narrow"


def _more(n: int) -> str:
    return f" and {n} more" if n > 0 else ""


class _EpochSetter(TrainerCallback):
    """Tells the samples which epoch begins."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Also where an interrupted epoch is gone on with."""
        del args, control
        self.samples.set_epoch(int((state.epoch or 0) + 1e-6))


def train_in_place(
    model: LanguageModel,
    samples: Samples,
    recipe: Recipe,
    work: Path,
    *,
    flops: Callable[[int, float], float],
    meter: Meter,
    mixed: bool,
    progress: Callable[[Progress], None],
    stage: str = "train",
    callbacks: Sequence[TrainerCallback] = (),
    tell: Callable[[str], None] = ignore,
) -> tuple[tuple[Step, ...], int]:
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
        flops: FLOPs of tokens and squared lengths, as executed.
        meter: The meter of processor time; an interrupted run's is added to it.
        mixed: bfloat16 arithmetic with the weights' own type for sums and updates.
        progress: Told of every step.
        stage: Name of the training in progress and messages.
        callbacks: Further callbacks of transformers.
        tell: Called with a message where a checkpoint is damaged.

    Raises:
        DataError: No sample has a loss.
        ExecutionError: The loss or gradient is not finite, or memory ran out.
    """
    steps = samples.steps(recipe.batch_size, recipe.max_steps)
    arguments = _arguments(recipe, work, steps, len(samples.epochs), model.device, mixed=mixed)
    loop = _WeightedTrainer(
        model=model.module,
        args=arguments,
        train_dataset=samples,
        compute_loss_func=token_nll,  # never called: says that losses are not scaled afterwards
        callbacks=[_EpochSetter(samples), *callbacks, Sealer(meter)],
    )
    loop.recipe, loop.pad_id, loop.stage, loop.samples = recipe, model.pad_id, stage, samples
    loop.flops, loop.progress, loop.began = flops, progress, time.perf_counter()
    loop.remove_callback(PrinterCallback)
    with one_first(model.device.type):
        last = last_checkpoint(work, tell)
    earlier = 0
    if last is not None:
        earlier = int(trainer_state(last)["global_step"])
        meter.found(open_entry(last).bill.own)
    remedy = "set a smaller tokens_per_batch or max_length, or take a smaller model"
    with memory_errors("training", remedy):
        loop.train(resume_from_checkpoint=None if last is None else str(last))
    history: list[dict[str, Any]] = loop.state.log_history
    done = tuple(step_from_json(entry["told"]) for entry in history if "told" in entry)
    if not any(step.samples for step in done):
        remove(work)  # there is nothing to go on with
        raise DataError(
            "no sample has a token to learn; check loss, template and max_length against the data"
        )
    return done, earlier


def check_trackers(report_to: str) -> list[str]:
    """The names of trackers.

    Raises:
        ConfigError: transformers knows no such tracker, or its library is not installed.
    """
    names = [name.strip() for name in report_to.split(",")]
    try:
        wanted = [name for name in names if name != "none"]
        for tracker in get_reporting_integration_callbacks(wanted):  # type: ignore[no-untyped-call]
            tracker()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"report_to={report_to!r}: {error}") from error
    return names


def _uncollated(items: list[SampleInBlock]) -> dict[str, list[SampleInBlock]]:
    return {"items": items}


def _arguments(
    recipe: Recipe, work: Path, steps: int, epochs: int, device: torch.device, *, mixed: bool
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        use_cpu=device.type == "cpu",
        bf16=mixed,
        per_device_train_batch_size=recipe.batch_size,
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
        report_to=check_trackers(recipe.report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
    )
    _ = arguments.device  # counts the devices
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - one device; there is no setting
    return arguments
