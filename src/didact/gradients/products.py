"""Per-sample gradient products: ⟨g_n, v⟩ and ‖g_n‖² of every sample from one batched backward.

The gradient g_n of a sample's loss is never kept whole: each layer's part is multiplied and dropped
during the backward pass, so memory is b · max(d_in · d_out) and not b · N.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from didact.accounting.products import Form
from didact.core.errors import ConfigError, did_you_mean
from didact.gradients.patched_modules import Site, patch, run_of
from didact.gradients.tiles import Pass, Transform, Visit, Wanted

Losses = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Products:
    """What one batch gave; everything is detached.

    Attributes:
        losses: `(b,)`, as the loss function gave them.
        dots: `(b, D)`, ⟨g_n, v_k⟩ over all chosen parameters; None without directions. float32,
            float64 for a float64 model.
        squared_norms: `(b,)`, ‖g_n‖² after the transform if there is one; None unless wanted.
        flops: Of the products alone, two per multiply-add; forward and backward are not in it.
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
        unknown: What to do when a chosen parameter sits in another kind of module: `error`, or
            `one_by_one`, plain autograd a sample at a time for the whole model, which is slow
            and holds one sample's whole gradient.
        tile_elements: Most elements of per-sample gradients that exist at once (one sample's
            gradient of one parameter is never split).
        form: Take this algebra wherever it can give what is wanted; None takes the cheapest.

    Raises:
        ConfigError: Unknown names, nothing to differentiate, or a module of an unknown kind.

    **Source:** per-layer tiles and Gram forms, Goodfellow 2015 (arXiv:1510.01799), Li et al. 2022
    (arXiv:2110.05679); a parameter used several times is summed over its uses first.
    **Cost:** the 2 · N · tokens that a plain backward spends on weight gradients, spent per
    sample; `didact.accounting.products.plan` per layer.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[str] | None = None,
        *,
        unknown: Literal["error", "one_by_one"] = "error",
        tile_elements: int = 2**26,
        form: Form | None = None,
    ) -> None:
        self._model = model
        self._chosen = _chosen(model, parameters)
        self._tile_elements = tile_elements
        self._form: Form | None = form
        self._pass: Pass | None = None
        self._stack: ExitStack | None = None
        self._sites = self._find_sites()
        strange = [site for site in self._sites if run_of(site.module) is None]
        if strange and unknown == "error":
            raise ConfigError(
                f"per-sample gradients: {strange[0].kind} is of an unknown kind and owns chosen "
                f"parameters ({', '.join(strange[0].names)}); leave them out, or take "
                "unknown='one_by_one' (slow)"
            )
        self._one_by_one = bool(strange)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The chosen parameters by name, each once."""
        return dict(self._chosen)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for site in [] if self._one_by_one else self._sites:
                run = run_of(site.module)
                if run is not None:
                    stack.callback(patch(site, run))
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
        transform: Transform | None = None,
        norms: bool = True,
        visit: Visit | None = None,
        losses: Losses,
    ) -> Products:
        """One forward and backward pass of a batch, and the products of its samples' gradients.

        A sample's numbers do not depend on the others in its batch.

        Args:
            batch: Any value with `input_ids` of b rows; it is only handed to `losses`.
            directions: Parameter name → `(D, *shape)`; a chosen parameter that is missing counts
                as zero. None asks for no dots.
            transform: `(name, tile) → tile`, applied to the whole per-sample gradient of one
                parameter, `(c, *shape)` for c of the b samples at a time, each use summed. May be
                nonlinear and may work in place. A parameter that the loss does not touch arrives
                as zeros.
            norms: Whether squared norms are wanted.
            visit: `(name, tile, rows)`, called with each (transformed) tile and the slice of
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
        wanted = Wanted(
            self._directions(directions), norms, transform, visit, self._tile_elements, self._form
        )
        shape: tuple[int, ...] = getattr(batch.input_ids, "shape", ())
        tokens = shape[0] * shape[1] if len(shape) == 2 else None
        run = Pass(self._chosen, samples, tokens, wanted)
        self._check_dropout()
        with self._only_chosen_require_grad(run):
            each = _one_by_one if self._one_by_one else _batched
            values = each(self._model, batch, losses, run)
            run.finish()
        return Products(values, run.dots, run.squared_norms, run.flops)

    def _find_sites(self) -> list[Site]:
        canonical = {id(parameter): name for name, parameter in self._chosen.items()}
        sites = []
        for label, module in self._model.named_modules():
            own = {
                name: canonical[id(parameter)]
                for name, parameter in module.named_parameters(
                    recurse=False, remove_duplicate=False
                )
                if id(parameter) in canonical
            }
            if own:
                sites.append(Site(label, module, own, lambda: self._pass))
        return sites

    def _directions(self, given: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Directions under the names of the chosen parameters, checked."""
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
    def _only_chosen_require_grad(self, run: Pass) -> Iterator[None]:
        """No `.grad` is touched: others do not require grad, a chosen one that gets any raises.

        Our functions keep weights out of the graph, so a gradient that reaches a chosen parameter
        comes from a use that was not seen, and would be missing from the products.
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
                if not self._one_by_one:
                    hook = parameter.register_hook(_unseen_use(name))  # type: ignore[no-untyped-call]
                    stack.callback(hook.remove)
            if any(getattr(m, "gradient_checkpointing", False) for m in self._model.modules()):
                # Reentrant checkpoints give no gradient unless an input requires one, and frozen
                # embeddings (adapters) give none.
                embedding = self._model.get_input_embeddings()  # type: ignore[operator]
                stack.callback(embedding.register_forward_hook(_require_grad).remove)
            self._pass = run
            with torch.enable_grad():
                yield


def products(
    model: nn.Module,
    batch: Any,
    directions: Mapping[str, Tensor] | None,
    *,
    losses: Losses,
    parameters: Iterable[str] | None = None,
    transform: Transform | None = None,
    norms: bool = True,
) -> Products:
    """`ProductKernel.products` of one batch."""
    with ProductKernel(model, parameters) as kernel:
        return kernel.products(batch, directions, transform=transform, norms=norms, losses=losses)


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


def _batched(model: nn.Module, batch: Any, losses: Losses, run: Pass) -> Tensor:
    """One forward and backward of the whole batch through the patched modules."""
    values = _checked(losses(model, batch), run.samples)
    run.forward_is_over()
    values.sum().backward()  # type: ignore[no-untyped-call]
    return values.detach()


def _one_by_one(model: nn.Module, batch: Any, losses: Losses, run: Pass) -> Tensor:
    """Plain autograd, a sample at a time."""
    names, parameters = list(run.parameters), list(run.parameters.values())
    found = []
    for row in range(run.samples):
        value = _checked(losses(model, _row_of(batch, row, run.samples)), 1)
        gradients = torch.autograd.grad(value.sum(), parameters, materialize_grads=True)
        for name, gradient in zip(names, gradients, strict=True):
            run.take(name, gradient[None], slice(row, row + 1))
        found.append(value.detach())
    return torch.cat(found)


def _row_of(batch: Any, row: int, samples: int) -> Any:
    """The batch with one sample: every array of b rows is cut."""
    if not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        raise ConfigError(
            f"per-sample gradients: one_by_one takes dataclasses apart, not {type(batch).__name__}"
        )
    cut = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor | np.ndarray) and value.shape[:1] == (samples,):
            cut[field.name] = value[row : row + 1]
    return dataclasses.replace(batch, **cut)


def _checked(values: Tensor, samples: int) -> Tensor:
    if values.shape != (samples,) or not values.requires_grad:
        raise ConfigError(
            f"per-sample gradients: losses of shape {tuple(values.shape)}"
            + ("" if values.requires_grad else " that reach no chosen parameter")
            + f"; expected one differentiable loss for each of {samples} samples"
        )
    return values


def _unseen_use(name: str) -> Callable[[Tensor], None]:
    def refuse(_gradient: Tensor) -> None:
        raise ConfigError(
            f"per-sample gradients: parameter {name!r} is used outside of its own module, where "
            "its gradient cannot be told apart by sample; leave it out, or take "
            "unknown='one_by_one' (slow)"
        )

    return refuse


def _require_grad(_module: nn.Module, _args: Any, output: Tensor) -> None:
    if torch.is_grad_enabled() and not output.requires_grad:
        output.requires_grad_(True)
