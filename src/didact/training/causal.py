"""Training a causal language model on a pool, in the order given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from didact.accounting.flops import training_flops
from didact.accounting.lengths import micro_batch_size
from didact.core.arrays import Int1D
from didact.core.atomic import write_text
from didact.core.cost import Cost
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import Device, Progress, ignore_progress
from didact.core.scores import TrainingOrder, check_pool
from didact.execution.devices import local_devices
from didact.models.encode import Encoding, Loss, ModelTemplate, check_chat_template
from didact.models.folder import digest, find
from didact.models.language_model import open_model, torch_dtype
from didact.models.saving import check_free, quiet, saving
from didact.training.loop import Recipe, StepRecord, executed_lengths, train_in_place
from didact.training.samples import Samples, rows_digest
from didact.training.schedule import Schedule

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
DONE, STEPS = "training.json", "steps.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The settings of a training.

    Args:
        learning_rate: The highest learning rate. The default suits small models trained from
            scratch; a large trained one wants 1e-5 to 5e-5.
        schedule: The learning rate after the warm-up: `cosine` or `linear` to zero, `constant`, or
            `wsd`: constant, then linear to zero over the last fifth.
        warmup_ratio: Share of the steps in which the learning rate rises from zero.
        batch_size: Samples per optimizer step; the order's own, else 32.
        micro_batch_size: Samples per forward pass, a divisor of `batch_size`; what fits
            `tokens_per_batch` at the longest sample allowed.
        tokens_per_batch: Most tokens of a forward pass, padding included: 8,192 on an accelerator;
            1,024 on the CPU, where more gain nothing and small batches of like lengths pad less.
        max_length: Most tokens of a sample; the model's context when not given.
        max_steps: Stop after so many steps, with the schedule laid over them.
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
    """

    learning_rate: Positive = 5e-4
    schedule: Schedule = "cosine"
    warmup_ratio: Share = 0.03
    batch_size: Count | None = None
    micro_batch_size: Count | None = None
    tokens_per_batch: Count | None = None
    max_length: Annotated[int, Field(ge=2)] | None = None
    max_steps: Count | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    epsilon: Positive = 1e-8
    max_grad_norm: Positive = 1.0
    loss: Loss = "completion"
    template: ModelTemplate = "model"
    device: Device = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes:
        path: Folder of the model: weights, tokenizer, `training.json`, and `steps.jsonl`.
        steps: A record of every step.
        cost: FLOPs as executed, padding included, and tokens without it.
        reused: Whether the training was found finished.
    """

    path: Path
    steps: tuple[StepRecord, ...]
    cost: Cost
    reused: bool = False

    def facts(self) -> dict[str, Any]:
        """Facts for people and machines, JSON values."""
        first, last = self.steps[0], self.steps[-1]
        return {
            "model": str(self.path), "steps": len(self.steps),
            "samples": sum(s.samples for s in self.steps),
            "left_out": sum(s.skipped for s in self.steps), "tokens": self.cost.tokens,
            "flops": self.cost.flops, "first_loss": first.loss, "last_loss": last.loss,
            "found_done": self.reused,
        }  # fmt: skip


def train(
    pool: Pool,
    order: TrainingOrder | npt.ArrayLike,
    model: str | Path,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] = ignore_progress,
) -> Trained:
    """Train a model on rows of a pool, in exactly this sequence, once through.

    The new model appears at `out` whole or not at all. Until then `.OUT.training` beside it holds
    the checkpoints from which the same call goes on; a finished `out` is not trained again. On the
    CPU the same call gives the same bytes, interrupted or not.

    Args:
        pool: The pool of the samples.
        order: Rows in sequence; epochs are written out in it.
        model: A folder with a causal language model (safetensors), or a hub name.
        out: Folder of the trained model.
        settings: The settings of the training.
        seed: Seed of dropout, where the model has it; masks belong to step and sample, however
            a step is split into micro-batches.
        progress: Told of every step.

    Raises:
        ConfigError: `out` or its checkpoints belong to another training, or a setting does not fit.
        DataError: The model cannot be opened; no sample has a loss.
        ExecutionError: Loss or gradient stop being finite, or memory runs out.

    **Source:** AdamW (arXiv:1711.05101), cosine schedule (arXiv:1608.03983).
    **Cost:** about 6 FLOPs per parameter and token, and attention; see `accounting.flops`.
    """
    settings = settings or TrainSettings()
    out = Path(out)
    rows = _rows(pool, order)
    path = find(model)
    batch_size = _batch_size(settings, order)
    device = local_devices(settings.device)[0]
    precise = settings.dtype == "float64"
    with quiet(), open_model(path, device=device, dtype="float64" if precise else "float32") as lm:
        how = _encoding(pool, lm.tokenizer, settings, lm.context)
        key = fingerprint(
            [digest(path), pool.fingerprint, rows_digest(rows), asdict(settings), batch_size, seed]
        )
        if (found := _finished(out, key)) is not None:
            return found
        recipe = Recipe(
            learning_rate=settings.learning_rate, schedule=settings.schedule,
            warmup_ratio=settings.warmup_ratio, batch_size=batch_size,
            micro_batch_size=micro_batch_size(
                batch_size, settings.micro_batch_size,
                settings.tokens_per_batch or (1024 if device == "cpu" else 8192),
                how.max_length or lm.context,
            ),
            weight_decay=settings.weight_decay, beta1=settings.beta1, beta2=settings.beta2,
            epsilon=settings.epsilon, max_grad_norm=settings.max_grad_norm, seed=seed,
            max_steps=settings.max_steps,
        )  # fmt: skip
        work = _checkpoints_folder(out, key)
        samples = Samples(pool, [rows], lm.tokenizer, how)
        mixed = torch_dtype(settings.dtype, device).itemsize == 2
        steps, _ = train_in_place(lm, samples, recipe, work, mixed=mixed, progress=progress)
        ran = executed_lengths(steps)
        cost = Cost(
            flops=training_flops(lm.spec, ran.tokens, ran.squares),
            tokens=sum(s.tokens for s in steps),
        )
        with saving(out) as folder:
            lm.module.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)
            lines = [json.dumps(asdict(step)) + "\n" for step in steps]
            (folder / STEPS).write_text("".join(lines), "utf-8")
            done = {
                "fingerprint": key, "pool": pool.fingerprint, "model": digest(path),
                "settings": {**asdict(settings), "batch_size": batch_size}, "seed": seed,
                "flops": cost.flops, "tokens": cost.tokens,
            }  # fmt: skip
            (folder / DONE).write_text(json.dumps(done, indent=2) + "\n", "utf-8")
    shutil.rmtree(work)
    return Trained(out, steps, cost)


def read_trained(out: Path) -> Trained:
    """A finished training, read from the folder of its model.

    Raises:
        DataError: The folder holds none, or it is damaged.
    """
    try:
        done = json.loads((out / DONE).read_text("utf-8"))
        lines = (out / STEPS).read_text("utf-8").splitlines()
        steps = tuple(StepRecord(**json.loads(line)) for line in lines)
        return Trained(out, steps, Cost(flops=done["flops"], tokens=done["tokens"]), reused=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{out}: no finished training of didact ({error}); remove it and train again"
        ) from error


def _rows(pool: Pool, order: TrainingOrder | npt.ArrayLike) -> Int1D:
    if isinstance(order, TrainingOrder):
        check_pool(
            "ordered rows", order.pool_fingerprint, pool.fingerprint,
            "order again, or read the pool with the settings (--data, --seed) it was ordered with",
        )  # fmt: skip
        rows = order.rows
    else:
        rows = np.asarray(order, np.int64)
    if not len(rows):
        raise DataError("there is no row to train on")
    if rows.min() < 0 or rows.max() >= len(pool):
        raise DataError(f"rows {rows.min()}..{rows.max()} of a pool of {len(pool)}")
    return rows


def _batch_size(settings: TrainSettings, order: TrainingOrder | npt.ArrayLike) -> int:
    given = order.batch_size if isinstance(order, TrainingOrder) else None
    if given and settings.batch_size and given != settings.batch_size:
        raise ConfigError(
            f"batch_size={settings.batch_size}: the order was made for steps of {given} samples; "
            "leave batch_size out, or order again"
        )
    return settings.batch_size or given or 32


def _encoding(pool: Pool, tokenizer: Any, settings: TrainSettings, context: int) -> Encoding:
    if settings.max_length is not None and settings.max_length > context:
        raise ConfigError(
            f"max_length={settings.max_length}: the model reads at most {context} tokens"
        )
    how = Encoding(
        kind=pool.kind, loss=settings.loss, template=settings.template,
        pool_template=pool.meta["template"], max_length=settings.max_length or context,
    )  # fmt: skip
    if how.kind != "text" and how.loss != "text" and how.template == "model":
        check_chat_template(tokenizer)
    return how


def _finished(out: Path, key: str) -> Trained | None:
    """The model at `out` when this very training made it."""
    if not (out / DONE).is_file():
        check_free(out, "-o")
        return None
    found, made = read_trained(out), json.loads((out / DONE).read_text("utf-8"))["fingerprint"]
    if made != key:
        raise ConfigError(
            f"-o {out}: holds a model trained on other data or with other settings; remove it or "
            "choose another name"
        )
    return found


def _checkpoints_folder(out: Path, key: str) -> Path:
    """The folder of checkpoints, kept for this training alone."""
    out = out.absolute()
    work = out.with_name(f".{out.name}.training")
    mark = work / "fingerprint"
    others = mark.is_file() and mark.read_text("utf-8") != key
    if others and not any(work.glob("checkpoint-*")):
        shutil.rmtree(work)  # it never came to a checkpoint: nothing is lost
    elif others:
        raise ConfigError(
            f"{work}: holds the checkpoints of another training to the same place; remove it, or "
            "choose another name with -o"
        )
    write_text(mark, key)
    return work
