"""Per-sample gradient products: ⟨g_n, v⟩ and ‖g_n‖² of every sample from one batched backward.

The gradient g_n of a sample's loss is never kept whole: each layer's part is multiplied and dropped
during the backward pass, so memory is b · max(d_in · d_out) and not b · N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from didact.core.errors import ConfigError, did_you_mean
from didact.gradients.backward_pass import BackwardPass, ProductRequest, TileTransform, TileVisitor
from didact.gradients.patched_modules import ParameterOwner, patch, patched_forward

Losses = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class GradientProducts:
    """The products of the gradients of one batch's samples; everything is detached.

    Attributes:
        losses: `(b,)`, as the loss function gave them.
        dots: `(b, D)`, ⟨g_n, v_k⟩ over all chosen parameters; None without directions. float32,
            float64 for a float64 model.
        squared_norms: `(b,)`, ‖g_n‖² after the transform if there is one; None unless wanted.
        flops: FLOPs of the products alone, two per multiply-add; without forward and backward.
    """

    losses: Tensor
    dots: Tensor | None
    squared_norms: Tensor | None
    flops: float


class ProductKernel:
    """A model whose backward pass multiplies per-sample gradients; a context manager.

    Inside the context the model's modules are patched, outside of `products` they still behave
    as ever (plain training and inference work); on leaving everything is as it was.

    Args:
        model: Any module whose chosen parameters sit in Linear, Conv1D, Embedding, LayerNorm or
            RMSNorm modules (adapters of peft are Linear). Put it in evaluation mode: dropout
            would change the gradients.
        parameters: Names as in `model.named_parameters()`; None takes all that require grad.

    Raises:
        ConfigError: Unknown names, nothing to differentiate, or a module of an unknown kind.

    **Source:** per-layer tiles and Gram forms, Goodfellow 2015 (arXiv:1510.01799), Li et al. 2022
    (arXiv:2110.05679); the gradients of a parameter that occurs several times are summed first.
    **Cost:** the 2 · N · tokens that a plain backward spends on weight gradients, spent per
    sample; `didact.accounting.algebra.algebras` per layer.
    """

    def __init__(self, model: nn.Module, parameters: Iterable[str] | None = None) -> None:
        self._model = model
        self._chosen = _chosen(model, parameters)
        self._pass: BackwardPass | None = None
        self._stack: ExitStack | None = None
        self._owners = self._find_owners()
        for owner in self._owners:
            if patched_forward(owner.module) is None:
                raise ConfigError(
                    f"per-sample gradients: {owner.kind} is of an unknown kind and owns chosen "
                    f"parameters ({', '.join(owner.names)}); leave them out, or take another model"
                )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The chosen parameters by name, each once."""
        return dict(self._chosen)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for owner in self._owners:
                forward = patched_forward(owner.module)
                if forward is not None:
                    stack.callback(patch(owner, forward))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stack is not None:
            self._stack.close()
        self._stack = None

    def products(
        self,
        batch: Any,
        directions: Mapping[str, Tensor] | None,
        *,
        transform: TileTransform | None = None,
        norms: bool = True,
        visitor: TileVisitor | None = None,
        losses: Losses,
    ) -> GradientProducts:
        """One forward and backward pass of a batch, and the products of its samples' gradients.

        A sample's numbers do not depend on the others in its batch.

        Args:
            batch: Any value with `input_ids` of b rows; it is only handed to `losses`.
            directions: Parameter name → `(D, *shape)`; a chosen parameter that is missing counts
                as zero. None asks for no dots.
            transform: `(name, tile) → tile`, applied to the whole per-sample gradient of one
                parameter, `(c, *shape)` for c of the b samples at a time, its occurrences summed.
                May be nonlinear and may work in place. A parameter that the loss does not touch
                arrives as zeros.
            norms: Whether squared norms are wanted.
            visitor: `(name, tile, rows)`, called with each (transformed) tile and the slice of
                samples it holds; the tile is only valid during the call.
            losses: `(model, batch) → (b,)`, differentiable; each number may depend on its own
                sample only.

        Raises:
            ConfigError: Outside of the context, directions that do not fit, or a parameter used
                outside of its own module.
        """
        if self._stack is None:
            raise ConfigError("per-sample gradients: enter the kernel first (`with kernel:`)")
        samples = len(batch.input_ids)
        request = ProductRequest(self._checked_directions(directions), norms, transform, visitor)
        shape: tuple[int, ...] = getattr(batch.input_ids, "shape", ())
        tokens = shape[0] * shape[1] if len(shape) == 2 else None
        running = BackwardPass(self._chosen, samples, tokens, request)
        self._check_dropout()
        with self._only_chosen_require_grad(running):
            values = losses(self._model, batch)
            _check_losses(values, samples)
            running.forward_is_over()
            values.sum().backward()  # type: ignore[no-untyped-call]
            running.finish()
        return GradientProducts(values.detach(), running.dots, running.squared_norms, running.flops)

    def _find_owners(self) -> list[ParameterOwner]:
        canonical = {id(parameter): name for name, parameter in self._chosen.items()}
        owners = []
        for label, module in self._model.named_modules():
            own = {
                name: canonical[id(parameter)]
                for name, parameter in module.named_parameters(
                    recurse=False, remove_duplicate=False
                )
                if id(parameter) in canonical
            }
            if own:
                owners.append(ParameterOwner(label, module, own, lambda: self._pass))
        return owners

    def _checked_directions(self, given: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Directions under the names of the chosen parameters."""
        if given is None:
            return None
        canonical = {id(parameter): name for name, parameter in self._chosen.items()}
        known = {
            alias: canonical[id(parameter)]
            for alias, parameter in self._model.named_parameters(remove_duplicate=False)
            if id(parameter) in canonical
        }
        found: dict[str, Tensor] = {}
        for name, tensor in given.items():
            if name not in known:
                raise ConfigError(
                    f"per-sample gradients: a direction for {name!r}, which is no chosen parameter"
                    + did_you_mean(name, known)
                )
            expected = self._chosen[known[name]].shape
            if tensor.shape[1:] != expected or known[name] in found:
                raise ConfigError(
                    f"per-sample gradients: the direction for {name!r} is {tuple(tensor.shape)}; "
                    f"expected (D, {', '.join(map(str, expected))}), once for a shared parameter"
                )
            found[known[name]] = tensor.detach()
        counts = {len(tensor) for tensor in found.values()}
        if len(counts) != 1 or counts == {0}:
            raise ConfigError(
                f"per-sample gradients: directions come in {sorted(counts)} per parameter; "
                "expected one number D ≥ 1 for all (None for no directions)"
            )
        return found

    def _check_dropout(self) -> None:
        for label, module in self._model.named_modules():
            if isinstance(module, nn.Dropout) and module.training and module.p > 0:
                raise ConfigError(
                    f"per-sample gradients: dropout {label!r} is on (p = {module.p}); call "
                    "model.eval() or set its p to 0"
                )

    @contextmanager
    def _only_chosen_require_grad(self, running: BackwardPass) -> Iterator[None]:
        """No `.grad` is touched: others do not require grad, a chosen one that gets any raises.

        Our functions keep weights out of the graph, so a gradient that reaches a chosen parameter
        comes from an occurrence that was not seen, and would be missing from the products.
        """
        everyone = {id(p): p for p in self._model.parameters()}
        before = [(parameter, parameter.requires_grad) for parameter in everyone.values()]
        with ExitStack() as stack:
            stack.callback(setattr, self, "_pass", None)
            for parameter, required in before:
                stack.callback(parameter.requires_grad_, required)
                parameter.requires_grad_(False)
            for name, parameter in self._chosen.items():
                parameter.requires_grad_(True)
                hook = parameter.register_hook(_refusal(name))  # type: ignore[no-untyped-call]
                stack.callback(hook.remove)
            if any(getattr(m, "gradient_checkpointing", False) for m in self._model.modules()):
                # Reentrant checkpoints give no gradient unless an input requires one, and frozen
                # embeddings (adapters) give none.
                embedding = self._model.get_input_embeddings()  # type: ignore[operator]
                stack.callback(embedding.register_forward_hook(_require_grad).remove)
            self._pass = running
            with torch.enable_grad():
                yield


def _chosen(model: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Chosen parameters under the name that `named_parameters` gives them, each once."""
    first = dict(model.named_parameters())
    if names is None:
        chosen = {name: p for name, p in first.items() if p.requires_grad}
    else:
        every = dict(model.named_parameters(remove_duplicate=False))
        wanted = set()
        for name in names:
            if name not in every:
                raise ConfigError(
                    f"per-sample gradients: the model has no parameter {name!r}"
                    + did_you_mean(name, every)
                )
            wanted.add(id(every[name]))
        chosen = {name: p for name, p in first.items() if id(p) in wanted}
    if not chosen:
        raise ConfigError(
            "per-sample gradients: no parameter is chosen; name some, or let some require grad"
        )
    return chosen


def _check_losses(values: Tensor, samples: int) -> None:
    if values.shape != (samples,) or not values.requires_grad:
        raise ConfigError(
            f"per-sample gradients: losses of shape {tuple(values.shape)}"
            + ("" if values.requires_grad else " that reach no chosen parameter")
            + f"; expected one differentiable loss for each of {samples} samples"
        )


def _refusal(name: str) -> Callable[[Tensor], None]:
    def refuse(_gradient: Tensor) -> None:
        raise ConfigError(
            f"per-sample gradients: parameter {name!r} is used outside of its own module, where "
            "its gradient cannot be told apart by sample; leave it out, or take another model"
        )

    return refuse


def _require_grad(_module: nn.Module, _args: Any, output: Tensor) -> None:
    if torch.is_grad_enabled() and not output.requires_grad:
        output.requires_grad_(True)
