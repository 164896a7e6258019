"""LoRA warm-up: adapters trained on some rows, kept at every epoch with Adam's moments."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from didact.accounting.flops import lora_counted
from didact.accounting.lengths import micro_batch
from didact.accounting.spec import LoraSpec
from didact.core.arrays import Int1D
from didact.core.atomic import remove
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.identity import versions
from didact.core.keep import keep
from didact.core.pieces import Pieces
from didact.core.pool import Pool
from didact.core.protocols import Context, Device
from didact.gradients.influence import Moments
from didact.models.architecture import read_lora
from didact.models.encode import Encoding
from didact.models.folder import digest
from didact.models.language_model import Dtype, LanguageModel, open_model
from didact.models.saving import quiet
from didact.training.targets import lora_targets

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from didact.training.loop import Step

MOMENTS, ABOUT = "moments.safetensors", "checkpoint.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How adapters are warmed up; defaults as LESS has them.

    Attributes:
        rank: Of the adapters.
        alpha: Their scale times `rank`.
        dropout: On what goes into them, while they train.
        targets: Last parts of the names of the modules that get one; see `lora_targets`.
        learning_rate: At its highest; linear to zero after the warm-up.
        warmup_ratio: Share of the steps in which it rises.
        epochs: Passes over the rows, each in an order of its own.
        batch_size: Samples per optimizer step.
        micro_batch_size: Samples per forward pass; what fits `tokens_per_batch`.
        tokens_per_batch: Most tokens of a forward pass, padding included.
        weight_decay: AdamW's.
        beta1: Decay of Adam's first moment.
        beta2: Decay of its second.
        epsilon: Adam's ε.
        max_grad_norm: Gradients longer than this are shortened to it.
        dtype: Of the frozen model. Adapters are float32, or float64 with a float64 model.
        seed: Of adapters, dropout and the order within epochs.
    """

    rank: int = 128
    alpha: float = 512
    dropout: float = 0.1
    targets: tuple[str, ...] | None = None
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.03
    epochs: int = 4
    batch_size: int = 128
    micro_batch_size: int | None = None
    tokens_per_batch: int = 8192
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    dtype: Dtype = "auto"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The end of an epoch.

    Attributes:
        path: Folder with the adapter, Adam's moments and these numbers.
        epoch: From 1.
        steps: Updates so far, Adam's step count.
        learning_rate: Mean over the epoch's updates.
        n_params: Adapter parameters.
    """

    path: Path
    epoch: int
    steps: int
    learning_rate: float
    n_params: int


def warm_up(
    pool: Pool,
    rows: Int1D,
    model_path: Path,
    settings: WarmUp,
    *,
    how: Encoding,
    ctx: Context,
    device: Device = "auto",
) -> tuple[Checkpoint, ...]:
    """Train adapters on some rows and keep them at the end of every epoch.

    A finished warm-up is found again, with what it cost; an interrupted one goes on after its last
    finished epoch.

    Args:
        pool: Where the samples are.
        rows: Which of them, in the first epoch's order.
        model_path: A folder that `didact.models.folder.find` has checked.
        settings: How.
        how: How samples become tokens.
        ctx: Where the checkpoints are kept; charged with FLOPs as executed (frozen base).
        device: Where.

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
    targets = settings.targets or lora_targets(model_path)
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
        for epoch in _numbers(settings.epochs):
            pieces.link(_name(epoch), folder / _name(epoch))

    def load(folder: Path) -> tuple[Checkpoint, ...]:
        return tuple(read_checkpoint(folder / _name(e)) for e in _numbers(settings.epochs))

    return keep(ctx, "adapters", key, make, save=save, load=load)


def _train(
    pool: Pool,
    rows: Int1D,
    model_path: Path,
    settings: WarmUp,
    targets: tuple[str, ...],
    how: Encoding,
    ctx: Context,
    device: str,
) -> Metered[Pieces]:
    """All epochs, each a piece; what an interrupted run left of them is used again."""
    from didact.training.loop import Recipe, epoch_of, fit, last_checkpoint, lengths
    from didact.training.samples import Samples

    pieces = ctx.pieces
    work = pieces.workspace("trainer")
    last = last_checkpoint(work, ctx.tell)
    done = len(list(takewhile(lambda e: pieces.intact(_name(e)), _numbers(settings.epochs))))
    if last is not None and epoch_of(last) > done:  # an epoch before it is gone
        remove(work)
    with quiet(), open_model(model_path, device=device, dtype=settings.dtype) as base:
        model = replace(base, module=_adapted(base, settings, targets))
        longest = how.max_length or base.context
        recipe = Recipe(
            learning_rate=settings.learning_rate, schedule="linear",
            warmup_ratio=settings.warmup_ratio, batch_size=settings.batch_size,
            micro_batch_size=micro_batch(
                settings.batch_size, settings.micro_batch_size, settings.tokens_per_batch, longest
            ),
            weight_decay=settings.weight_decay, beta1=settings.beta1, beta2=settings.beta2,
            epsilon=settings.epsilon, max_grad_norm=settings.max_grad_norm, seed=settings.seed,
        )  # fmt: skip
        samples = Samples(pool, _epochs(rows, settings), base.tokenizer, how)
        steps, earlier = fit(
            model, samples, recipe, work, mixed=False, progress=ctx.progress, stage="warm-up",
            callbacks=[_keeper(pieces, settings)], meter=ctx.meter, tell=ctx.tell,
        )  # fmt: skip
    lora = read_lora(model_path, rank=settings.rank, targets=targets)

    def cost(some: Sequence[Step]) -> Cost:
        ran = lengths(some)
        flops = lora_counted(base.spec, lora, ran.tokens, ran.squares)
        return Cost(flops=flops, tokens=sum(step.tokens for step in some))

    ctx.meter.found(cost(steps[:earlier]))
    return Metered(pieces, cost(steps[earlier:]))


def _name(epoch: int) -> str:
    return f"epoch-{epoch}"


def _numbers(epochs: int) -> range:
    return range(1, epochs + 1)


def _epochs(rows: Int1D, settings: WarmUp) -> list[Int1D]:
    """The rows as given, then shuffled anew for each further epoch."""
    return [
        rows if epoch == 0 else np.random.default_rng([settings.seed, epoch]).permutation(rows)
        for epoch in range(settings.epochs)
    ]


def _adapted(base: LanguageModel, settings: WarmUp, targets: tuple[str, ...]) -> Any:
    """The model with new adapters; only they are trained."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    transposed = any(
        isinstance(module, Conv1D)
        for name, module in base.module.named_modules()
        if name.rpartition(".")[2] in targets
    )
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,  # type: ignore[arg-type]
        target_modules=list(targets), fan_in_fan_out=transposed, bias="none",
        task_type=TaskType.CAUSAL_LM,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), _older_names():
        torch.manual_seed(settings.seed)
        return get_peft_model(base.module, config)


@contextmanager
def _older_names() -> Iterator[None]:
    """Since peft 0.21 asks transformers 5.23 for an attribute by its former name, which warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _keeper(pieces: Pieces, settings: WarmUp) -> TrainerCallback:
    """Keeps the adapter and Adam's moments at the end of every epoch."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **open_: Any) -> None:
            """Before the loop's own checkpoint, so that no epoch is passed over."""
            del args, control
            epoch = round(state.epoch)
            rates = [
                entry["learning_rate"]
                for entry in state.log_history
                if "loss" in entry and epoch - 1 < entry["epoch"] <= epoch
            ]
            about = {
                "epoch": epoch, "steps": state.global_step,
                "learning_rate": float(np.mean(rates)),
                "beta1": settings.beta1, "beta2": settings.beta2, "epsilon": settings.epsilon,
            }  # fmt: skip
            save = partial(_save, open_["model"], open_["optimizer"], about)
            pieces.save(_name(epoch), save, Cost())  # what it cost is known at the end

    return Keeper()


def _save(model: Any, optimizer: Any, about: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        state = optimizer.state.get(parameter, {})
        for moment in ("exp_avg", "exp_avg_sq"):
            value = state.get(moment, torch.zeros_like(parameter)).detach()
            wide = value if value.dtype == torch.float64 else value.float()
            tensors[f"{moment}/{name}"] = wide.cpu().contiguous()
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a card with nothing filled in
    save_file(tensors, folder / MOMENTS)
    about = {**about, "n_params": sum(p.numel() for p in trained.values())}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint's numbers.

    Raises:
        DataError: There is none, or it is damaged.
    """
    about = _about(path)
    return Checkpoint(
        path, about["epoch"], about["steps"], about["learning_rate"], about["n_params"]
    )


def _about(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / ABOUT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: no checkpoint of a warm-up ({error}); remove {path.parent} and run again"
        ) from error
    return found


def moments(path: Path) -> Moments:
    """Adam's moments at a checkpoint, under the names `open_adapter` gives the parameters."""
    from safetensors.torch import load_file

    about, tensors = _about(path), load_file(path / MOMENTS)
    first, second = "exp_avg/", "exp_avg_sq/"
    names = [key.removeprefix(first) for key in tensors if key.startswith(first)]
    return Moments(
        values={name: (tensors[first + name], tensors[second + name]) for name in names},
        beta1=about["beta1"],
        beta2=about["beta2"],
        steps=about["steps"],
    )


def open_adapter(base: LanguageModel, path: Path) -> LanguageModel:
    """The open base model with a checkpoint's adapter: only its parameters require a gradient.

    In evaluation mode, so without dropout. Adapters have the base's type, or float32 beside
    bfloat16. The base's modules are wrapped in place; open it anew for another checkpoint.

    Raises:
        DataError: The adapter cannot be read, or belongs to another model.
    """
    from peft import PeftModel

    try:
        with _older_names():
            module = PeftModel.from_pretrained(base.module, str(path), is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: the adapter cannot be put on the model: {error}") from error
    config = module.peft_config["default"]
    config.base_model_name_or_path = base.module.name_or_path  # where it is now
    return replace(base, module=module.to(base.device).eval())


def lora_spec(module: Any) -> LoraSpec:
    """The numbers of the adapters on a model from `open_adapter`."""
    config = module.peft_config["default"]
    targets = sorted(config.target_modules)
    return read_lora(Path(config.base_model_name_or_path), rank=config.r, targets=targets)
