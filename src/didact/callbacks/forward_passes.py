"""What enters a model: its forward passes, as hooks see them, and what all ranks have of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from didact.core.arrays import UInt32s


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass.

    Attributes:
        input_ids: Tokens, `(sequences, length)`, on the model's device.
        attention_mask: 1 on tokens and 0 on padding, of that shape; None where all are tokens.
        position_ids: Positions, where they were given.
        learning: Whether it is a pass that a gradient follows.
        labels: Labels, where they were given.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor | None
    learning: bool
    labels: torch.Tensor | None = None

    def sequences(self) -> list[UInt32s]:
        """The tokens of each sequence, without padding; packed ones are cut where positions start.

        **Cost:** waits for the device and copies the tokens from it.
        """
        ids = self.input_ids.cpu().numpy().astype(np.uint32)
        kept = np.ones(ids.shape, np.bool_)
        if self.attention_mask is not None:
            kept = self.attention_mask.cpu().numpy() != 0
        out = []
        positions = None if self.position_ids is None else self.position_ids.cpu().numpy()
        for i, row in enumerate(ids):
            parts = [row[kept[i]]]
            if positions is not None:
                own = positions[min(i, len(positions) - 1)][kept[i]]
                parts = np.split(parts[0], np.flatnonzero(own[1:] != own[:-1] + 1) + 1)
            out += [part for part in parts if len(part)]
        return out


class ForwardPasses:
    """Hooks on a model, and on what stands inside of it where a trainer calls that directly.

    A pass counts once, by the outermost module that is given `input_ids`.
    """

    def __init__(self, model: Any, seen: Callable[[Pass], None]) -> None:
        self._seen = seen
        self._outermost: Any = None
        self._handles = [
            handle
            for module in _inside(model)
            for handle in (
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave, always_call=True),
            )
        ]

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._outermost is not None:
            return
        found = pass_of(module, args, kwargs)
        if found is not None:
            self._outermost = module
            self._seen(found)

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        del args, output
        if module is self._outermost:
            self._outermost = None


def pass_of(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass | None:
    """The pass that a module is called for; None where it is not given tokens."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    if not isinstance(ids, torch.Tensor) or ids.dtype.is_floating_point or ids.dim() != 2:
        return None

    def beside(name: str) -> torch.Tensor | None:
        value = kwargs.get(name)
        fits = isinstance(value, torch.Tensor) and value.shape[-1:] == ids.shape[-1:]
        return value.detach() if fits and value is not None and value.dim() == 2 else None

    return Pass(
        ids.detach(), beside("attention_mask"), beside("position_ids"),
        bool(module.training) and torch.is_grad_enabled(), beside("labels"),
    )  # fmt: skip


def tokenizer_of(more: Mapping[str, Any]) -> Any:
    """The tokenizer among what a trainer tells its callbacks: its own, or its collator's."""
    found = more.get("processing_class") or more.get("tokenizer")
    collator = getattr(more.get("train_dataloader"), "collate_fn", None)
    for _ in range(3):  # trainers wrap the script's collator
        found = found or getattr(collator, "tokenizer", None)
        collator = getattr(collator, "data_collator", None)
    return found


def _inside(model: Any) -> list[Any]:
    """A model, what adapters wrap, and its body without the head."""
    out = [model]
    for name in ("module", "get_base_model", "base_model", "model"):
        for module in tuple(out):
            found = getattr(module, name, None)
            found = found() if name == "get_base_model" and callable(found) else found
            if isinstance(found, torch.nn.Module) and all(found is not known for known in out):
                out.append(found)
    return out


# -- ranks -----------------------------------------------------------------------------------------


def rank() -> int:
    """This process's number among those that train together."""
    return torch.distributed.get_rank() if _several() else 0


def _several() -> bool:
    distributed = torch.distributed
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def gathered(value: Any) -> list[Any]:
    """On rank 0 the values of all ranks, elsewhere nothing."""
    if not _several():
        return [value]
    out = [None] * torch.distributed.get_world_size() if rank() == 0 else None
    torch.distributed.gather_object(value, out, dst=0)
    return out or []


def told(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not _several():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def summed(values: Sequence[float]) -> list[float]:
    """Sums over ranks, on every rank."""
    if not _several():
        return list(values)
    distributed = torch.distributed
    nccl = "nccl" in str(distributed.get_backend())
    device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    out: list[float] = tensor.tolist()
    return out
