"""LoRA warm-up: adapters trained on some rows, kept at every epoch with Adam's moments."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.accounting.flops import lora_counted
from didact.core.arrays import Int1D
from didact.core.atomic import remove
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.identity import versions
from didact.core.keep import keep
from didact.core.pieces import Pieces
from didact.core.pool import Pool
from didact.core.protocols import Context, Device, Dtype
from didact.models.architecture import default_lora_targets, read_lora
from didact.models.encode import Encoding
from didact.models.folder import digest
from didact.models.language_model import open_model
from didact.models.saving import quiet
from didact.training.adapters import (
    Checkpoint,
    NewAdapters,
    add_adapters,
    read_checkpoint,
    save_checkpoint,
)
from didact.training.telemetry import cost_so_far

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpSettings:
    """The settings of a warm-up of adapters; defaults as LESS has them.

    Attributes:
        rank: Rank of the adapters.
        alpha: Scale of the adapters times `rank`.
        dropout: Dropout on the adapters' inputs, while they train; the model's own is on as well.
        targets: Last parts of the names of the modules that get one; else `default_lora_targets`.
        learning_rate: The highest learning rate; linear to zero after the warm-up.
        warmup_ratio: Share of the steps in which the learning rate rises.
        epochs: Passes over the rows, each in an order of its own.
        batch_size: Samples per optimizer step.
        tokens_per_batch: Most tokens of a forward pass, padding included.
        weight_decay: AdamW's weight decay.
        beta1: Decay of Adam's first moment.
        beta2: Decay of Adam's second moment.
        epsilon: Adam's ε.
        max_grad_norm: The norm to which longer gradients are shortened.
        dtype: Type of the frozen model. Adapters are float32, or float64 with a float64 model.
        seed: Seed of adapters, dropout and the order within epochs.
    """

    rank: int = 128
    alpha: float = 512
    dropout: float = 0.1
    targets: tuple[str, ...] | None = None
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.03
    epochs: int = 4
    batch_size: int = 128
    tokens_per_batch: int = 8192
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    dtype: Dtype = "auto"
    seed: int = 0


def warm_up(
    pool: Pool,
    rows: Int1D,
    model_path: Path,
    settings: WarmUpSettings,
    *,
    how: Encoding,
    ctx: Context,
    device: Device = "auto",
) -> tuple[Checkpoint, ...]:
    """Train adapters on some rows and keep them at the end of every epoch.

    A finished warm-up is found again, with what it cost; an interrupted one goes on after its last
    finished epoch.

    Args:
        pool: The pool of the samples.
        rows: Rows of the pool, in the first epoch's order.
        model_path: A folder that `didact.models.folder.find` has checked.
        settings: The settings of the warm-up.
        how: The encoding of samples as tokens.
        ctx: The keeper of the checkpoints; charged with FLOPs as executed (frozen base).
        device: The device it runs on.

    Returns:
        One checkpoint per epoch.

    Raises:
        ConfigError: A target module is not in the model.
        DataError: No row, or none with a token to learn.
        ExecutionError: Loss or gradient stop being finite, or memory runs out.

    **Source:** LESS (arXiv:2402.04333), LoRA (arXiv:2106.09685).
    **Cost:** `epochs` times `accounting.flops.lora_counted` of the rows, about 4 FLOPs per
    parameter and token.
    """
    if not len(rows):
        raise DataError("LoRA warm-up: there is no row to train on")
    targets = settings.targets or default_lora_targets(model_path)
    read_lora(model_path, rank=settings.rank, targets=targets)  # refuses unknown names
    libraries = ("torch", "transformers", "tokenizers", "peft", "accelerate")
    key = [
        digest(model_path), pool.fingerprint, rows.tolist(), asdict(settings), asdict(how),
        versions(libraries),
    ]  # fmt: skip

    def make(work: Context) -> Pieces:
        train = partial(_train, pool, rows, model_path, settings, targets, how, work)
        return work.executor.call(train, device=device)

    def save(pieces: Pieces, folder: Path) -> None:
        for epoch in range(1, settings.epochs + 1):
            pieces.link(_name(epoch), folder / _name(epoch))

    def load(folder: Path) -> tuple[Checkpoint, ...]:
        return tuple(read_checkpoint(folder / _name(e)) for e in range(1, settings.epochs + 1))

    return keep(ctx, "adapters", key, make, save=save, load=load)


def _train(
    pool: Pool,
    rows: Int1D,
    model_path: Path,
    settings: WarmUpSettings,
    targets: tuple[str, ...],
    how: Encoding,
    ctx: Context,
    device: str,
) -> Metered[Pieces]:
    """All epochs, each a piece; what an interrupted run left of them is used again."""
    from didact.training.loop import Recipe, train_in_place
    from didact.training.samples import Samples
    from didact.training.trainer_checkpoints import epoch_of, last_checkpoint

    pieces = ctx.pieces
    work = pieces.workspace("trainer")
    last = last_checkpoint(work, ctx.tell)
    done = len(list(takewhile(lambda e: pieces.intact(_name(e)), range(1, settings.epochs + 1))))
    if last is not None and epoch_of(last) > done:  # an epoch before it is gone
        remove(work)
    with quiet(), open_model(model_path, device=device, dtype=settings.dtype) as base:
        model = add_adapters(
            base,
            NewAdapters(
                rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout,
                targets=targets, seed=settings.seed,
            ),
        )  # fmt: skip
        recipe = Recipe(
            learning_rate=settings.learning_rate, schedule="linear",
            warmup_ratio=settings.warmup_ratio, batch_size=settings.batch_size,
            tokens_per_batch=settings.tokens_per_batch,
            weight_decay=settings.weight_decay, beta1=settings.beta1, beta2=settings.beta2,
            epsilon=settings.epsilon, max_grad_norm=settings.max_grad_norm, seed=settings.seed,
        )  # fmt: skip
        samples = Samples(pool, _epochs(rows, settings), base.tokenizer, how)
        lora = read_lora(model_path, rank=settings.rank, targets=targets)
        flops = partial(lora_counted, base.spec, lora)
        steps, earlier = train_in_place(
            model, samples, recipe, work, flops=flops, meter=ctx.meter, mixed=False,
            progress=ctx.progress, stage="warm-up", callbacks=[_keeper(pieces, settings)],
            tell=ctx.tell,
        )  # fmt: skip
    found = cost_so_far(steps[:earlier])
    ctx.meter.found(found)
    whole = cost_so_far(steps)
    now = Cost(flops=whole.flops - found.flops, tokens=whole.tokens - found.tokens)
    return Metered(pieces, now)


def _name(epoch: int) -> str:
    return f"epoch-{epoch}"


def _epochs(rows: Int1D, settings: WarmUpSettings) -> list[Int1D]:
    """The rows as given, then shuffled anew for each further epoch."""
    return [
        rows if epoch == 0 else np.random.default_rng([settings.seed, epoch]).permutation(rows)
        for epoch in range(settings.epochs)
    ]


def _keeper(pieces: Pieces, settings: WarmUpSettings) -> TrainerCallback:
    """Keeps the adapter and Adam's moments at the end of every epoch."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **open_: Any) -> None:
            """Before the loop's own checkpoint, so that no epoch is passed over."""
            del args, control
            epoch = round(state.epoch)
            steps = [entry["told"] for entry in state.log_history if "told" in entry]
            rates = [s["learning_rate"] for s in steps if s["epoch"] == epoch]
            about = {
                "epoch": epoch, "steps": state.global_step,
                "first_loss": next((s["loss"] for s in steps if s["samples"]), math.nan),
                "learning_rate": float(np.mean(rates)),
                "beta1": settings.beta1, "beta2": settings.beta2, "epsilon": settings.epsilon,
            }  # fmt: skip
            save = partial(save_checkpoint, open_["model"], open_["optimizer"], about)
            pieces.save(_name(epoch), save, Cost())  # what it cost is known at the end

    return Keeper()
