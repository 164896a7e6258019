"""FLOPs of a loaded model's forward passes, and of the backward passes that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from didact.accounting.flops import (
    forward_flops,
    forward_flops_2nd,
    lora_counted,
    training_flops,
)
from didact.accounting.lora import lora_spec
from didact.accounting.spec import LoraSpec, ModelSpec
from didact.models.architecture import loaded_spec


@dataclass(frozen=True, slots=True)
class PassFlops:
    """The numbers of a model that its passes cost by.

    Attributes:
        spec: The model, without adapters.
        lora: The adapters that alone are trained, where there are some.
        recomputed: Whether activations are computed again in the backward pass.
    """

    spec: ModelSpec
    lora: LoraSpec | None = None
    recomputed: bool = False

    def count(self, n_tokens: int, squares: float, *, learning: bool) -> float:
        """FLOPs of some passes.

        Args:
            n_tokens: Tokens, padding included.
            squares: Sum of squared lengths.
            learning: Whether a backward pass follows.
        """
        if not learning:
            return forward_flops(self.spec, n_tokens, squares)
        if self.recomputed:  # the layers; the head's activations are kept
            head = self.spec.vocab * self.spec.width
            again = forward_flops(self.spec, n_tokens, squares) - forward_flops_2nd(head, n_tokens)
        else:
            again = 0.0
        if self.lora is not None:
            return again + lora_counted(self.spec, self.lora, n_tokens, squares)
        return again + training_flops(self.spec, n_tokens, squares)


def pass_flops(model: Any) -> PassFlops:
    """The numbers of a loaded model, with or without adapters.

    Raises:
        DataError: It is of an architecture that is not counted yet; see `models.architecture`.
        ConfigError: Its adapters are on none of its matrices.
    """
    adapted = hasattr(model, "peft_config")
    base = model.get_base_model() if adapted else model
    config = {**base.config.to_dict(), "architectures": [type(base).__name__]}
    names = {name: tuple(p.shape) for name, p in base.named_parameters()}
    adapters = sorted(name for name in names if ".lora_A." in name)
    shapes = {
        name.replace(".base_layer.", "."): shape for name, shape in names.items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }  # fmt: skip
    spec = loaded_spec(config, shapes, type(base).__name__)
    lora = None
    if adapters:
        targets = _last_parts(adapters)
        lora = lora_spec(spec, rank=names[adapters[0]][0], targets=targets)
    named = ("is_activation_checkpointing", "is_gradient_checkpointing")  # the old name warns
    recomputed = next((bool(getattr(base, n)) for n in named if hasattr(type(base), n)), False)
    return PassFlops(spec, lora, recomputed)


def _last_parts(adapters: Sequence[str]) -> tuple[str, ...]:
    """What the adapted modules are called, such as `q_proj`."""
    modules = (name.partition(".lora_A.")[0] for name in adapters)
    return tuple(sorted({module.rpartition(".")[2] for module in modules}))
