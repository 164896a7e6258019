"""Parameters of a model apart from it: as tensors by name, on a device, in files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from didact.models.language_model import LanguageModel

Parameters = dict[str, Tensor]


def parameters_of(model: LanguageModel) -> Parameters:
    """θ_0: all trainable parameters, in float32 (float64 for a float64 model).

    Steps of inner training are smaller than bfloat16 can add to a weight.
    """
    return {
        name: p.detach().clone() if p.dtype == torch.float64 else p.detach().float().clone()
        for name, p in model.module.named_parameters()
        if p.requires_grad
    }


def put_into(model: LanguageModel, theta: Parameters) -> None:
    """Overwrite a model's parameters of these names; no gradient sees it."""
    own = dict(model.module.named_parameters())
    with torch.no_grad():
        for name, value in theta.items():
            own[name].copy_(value)


def norm(vector: Parameters) -> float:
    """Euclidean norm over all parameters."""
    return math.sqrt(sum(float(v.double().square().sum()) for v in vector.values()))


def moved(theta: Parameters, device: torch.device | str) -> Parameters:
    """The same on a device; `cpu` is the host, which holds a whole segment beside a model."""
    return {k: v.to(device) for k, v in theta.items()}


def theta_path(folder: Path, step: int) -> Path:
    """The file of θ_step."""
    return folder / f"theta-{step:06d}.safetensors"


def lambda_path(folder: Path, step: int) -> Path:
    """The file of λ_step."""
    return folder / f"lambda-{step:06d}.safetensors"


def save(path: Path, tensors: Parameters, *, losses: list[float]) -> None:
    """Write parameters, and the losses that led to them."""
    kept = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
    save_file(kept, path, metadata={"losses": json.dumps(losses)})


def load(path: Path, device: torch.device | str = "cpu") -> Parameters:
    """Parameters that `save` wrote."""
    with safe_open(path, framework="pt") as file:
        # Copied: tensors of a mapped file are aligned otherwise than fresh ones, and BLAS then
        # rounds otherwise, so that a run that was interrupted would give other last bits.
        found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    return moved(found, device)


def losses_of(path: Path) -> list[float]:
    """Losses that `save` wrote."""
    with safe_open(path, framework="pt") as file:
        found: list[float] = json.loads(file.metadata()["losses"])
        return found
