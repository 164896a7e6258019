"""A transformer with a linear head on its mean hidden state: opened, and its predictions."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from didact.accounting.flops import forward_flops
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.protocols import Dtype
from didact.models.architecture import read_spec
from didact.models.batches import Batch, over_batches
from didact.models.folder import opening
from didact.models.language_model import context_of, open_tokenizer, torch_dtype
from didact.models.saving import quiet
from didact.models.tokens import Tokens

HEAD = "head.safetensors"


@dataclass(frozen=True, slots=True)
class Regressor:
    """A transformer with a linear head that is open.

    Attributes:
        module: The transformer, without a vocabulary head.
        head: Linear, from its width to one number.
        tokenizer: The transformer's tokenizer.
        spec: The numbers of the architecture.
        device: The device of the model.
        context: Most tokens the model can read at once.
        pad_id: The token of padding.
    """

    module: Any
    head: nn.Linear
    tokenizer: Any
    spec: ModelSpec
    device: torch.device
    context: int
    pad_id: int

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        named = {f"module.{name}": p for name, p in self.module.named_parameters()}
        return named | {f"head.{name}": p for name, p in self.head.named_parameters()}


@contextmanager
def open_regressor(
    path: Path, *, device: str = "cpu", dtype: Dtype = "auto"
) -> Iterator[Regressor]:
    """A data scorer from its folder, or any transformer with a new head of zeros.

    Args:
        path: A folder that `didact.models.folder.find` has checked: an encoder or a decoder.
        device: "cpu", "cuda:0", …
        dtype: Type of weights and arithmetic.

    Raises:
        DataError: The folder's files do not make a model.
    """
    from safetensors.torch import load_file

    kind = torch_dtype(dtype, device)
    tokenizer = open_tokenizer(path)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of what the folder lacks, such as a pooler nobody reads
        module = _module(path, kind)
        head = nn.Linear(module.config.hidden_size, 1, dtype=kind)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    if (path / HEAD).is_file():
        head.load_state_dict(load_file(path / HEAD))
    try:
        yield Regressor(
            module=module.to(device).eval(),
            head=head.to(device),
            tokenizer=tokenizer,
            spec=read_spec(path, head=False),
            device=torch.device(device),
            context=context_of(path, tokenizer),
            pad_id=tokenizer.pad_token_id or 0,
        )
    finally:
        del module
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _module(path: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModel

    with opening(path, "transformers cannot open it as a model"):
        return AutoModel.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )


def regress(model: Regressor, batch: Batch) -> Tensor:
    """Head of the mean hidden state over a sample's tokens, in float32 or more: `(b,)`."""
    more = {"use_cache": False} if "use_cache" in _parameters(model.module) else {}
    states = model.module(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, **more
    ).last_hidden_state
    wide = states if states.dtype == torch.float64 else states.float()
    mask = batch.attention_mask[..., None].to(wide.dtype)
    mean = (wide * mask).sum(1) / mask.sum(1)
    weight, bias = model.head.weight.to(wide.dtype), model.head.bias.to(wide.dtype)
    return nn.functional.linear(mean, weight, bias)[:, 0]


def _parameters(module: Any) -> set[str]:
    return set(inspect.signature(module.forward).parameters)


def predict(
    model: Regressor, tokens: Tokens, *, rows: Int1D | None = None, tokens_per_batch: int = 8192
) -> Metered[Float1D]:
    """Predictions for every sample, float64 `(n,)`; NaN where there is no token.

    Args:
        model: The open model.
        tokens: The samples, in the model's tokenizer's ids; loss weights play no part.
        rows: The samples to look at, all by default; the others are NaN.
        tokens_per_batch: Most tokens of a forward pass, padding included.

    **Cost:** one forward pass without a vocabulary head.
    """
    out = np.full(len(tokens), np.nan)
    wanted = np.arange(len(tokens)) if rows is None else np.unique(rows)
    wanted = wanted[tokens.lengths[wanted] > 0]
    flops = 0.0

    @torch.inference_mode()
    def run(batch: Batch) -> Tensor:
        return regress(model, batch).double().cpu()

    for batch, values in over_batches(
        run, tokens, wanted, tokens_per_batch=tokens_per_batch, pad_id=model.pad_id,
        device=model.device,
    ):  # fmt: skip
        out[batch.rows] = values.numpy()
        flops += forward_flops(model.spec, batch.executed.tokens, batch.executed.squares)
    return Metered(out, Cost(flops=flops, tokens=int(tokens.lengths[wanted].sum())))
