"""Adapters of a warm-up: the checkpoint of an epoch, with Adam's moments, saved and opened."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from didact.accounting.spec import LoraSpec
from didact.core.entries import temporary_folder
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.protocols import Dtype
from didact.gradients.influence import Moments
from didact.models.architecture import read_lora
from didact.models.language_model import LanguageModel, open_model

MOMENTS, ABOUT = "moments.safetensors", "checkpoint.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An adapter as it was at the end of an epoch.

    Attributes:
        path: Folder with the adapter, Adam's moments and these numbers.
        epoch: Number of the epoch, from 1.
        steps: Number of updates so far, Adam's step count.
        learning_rate: Mean of the rates of the epoch's updates.
        n_params: Number of adapter parameters.
        first_loss: Loss of the warm-up's first step, before any update; nats per token.
    """

    path: Path
    epoch: int
    steps: int
    learning_rate: float
    n_params: int
    first_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAdapters:
    """Adapters that a model is given.

    Attributes:
        rank: Their rank.
        alpha: Their scale times `rank`.
        dropout: Dropout on their inputs, while they train.
        targets: Last parts of the names of the modules that get one.
        seed: Seed of their weights.
    """

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    seed: int


def add_adapters(base: LanguageModel, new: NewAdapters) -> LanguageModel:
    """The model with new adapters; only they are trained. The base's modules are wrapped in place.

    **Source:** LoRA (arXiv:2106.09685).
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    transposed = any(
        isinstance(module, Conv1D)
        for name, module in base.module.named_modules()
        if name.rpartition(".")[2] in new.targets
    )
    config = LoraConfig(
        r=new.rank, lora_alpha=new.alpha, lora_dropout=new.dropout,  # type: ignore[arg-type]
        target_modules=list(new.targets), fan_in_fan_out=transposed, bias="none",
        task_type=TaskType.CAUSAL_LM,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), without_renaming_warnings():
        torch.manual_seed(new.seed)
        return replace(base, module=get_peft_model(base.module, config))


def save_merged(model: LanguageModel, base: Path, folder: Path) -> None:
    """Write a model with its adapters added to the weights, as a model without adapters."""
    with temporary_folder(folder.parent) as adapters:
        model.module.save_pretrained(adapters)
        dtype: Dtype = "float64" if model.dtype == "float64" else "float32"
        with open_model(base, device="cpu", dtype=dtype) as fresh:
            merged = open_adapter(fresh, adapters).module.merge_and_unload()
            merged.save_pretrained(folder)


def save_checkpoint(model: Any, optimizer: Any, about: dict[str, Any], folder: Path) -> None:
    """Write the adapter of a model in training, Adam's moments and what is known of the epoch."""
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
    numbers = ("epoch", "steps", "learning_rate", "n_params", "first_loss")
    return Checkpoint(path, *(about[name] for name in numbers))


def _about(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = parse_json((path / ABOUT).read_text("utf-8"))
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
        with without_renaming_warnings():
            module = PeftModel.from_pretrained(base.module, str(path), is_trainable=True)
    except Exception as error:  # a configuration of anybody makes peft fail anyhow
        raise DataError(
            f"{path}: the adapter cannot be put on the model: {type(error).__name__}: {error}"
        ) from error
    config = module.peft_config["default"]
    config.base_model_name_or_path = base.module.name_or_path  # where it is now
    return replace(base, module=module.to(base.device).eval())


def adapter_spec(module: Any) -> LoraSpec:
    """The numbers of the adapters on a model from `open_adapter`."""
    config = module.peft_config["default"]
    targets = sorted(config.target_modules)
    return read_lora(Path(config.base_model_name_or_path), rank=config.r, targets=targets)


@contextmanager
def without_renaming_warnings() -> Iterator[None]:
    """A block in which peft may call an attribute of transformers by its former name.

    Since peft 0.21 that warns with transformers 5.23.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
