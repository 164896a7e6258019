"""Modules made to hand out per-sample gradients: their forward is replaced, not hooked.

Each replaced forward computes what it did before through a custom autograd function whose backward
gives the gradient of the input, none of the weight, and the two factors of the per-sample weight
gradient to a `Sink`. Module hooks fire twice under gradient checkpointing; a backward runs once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from didact.core.errors import ConfigError


class Sink(Protocol):
    """The receiver of the per-sample weight gradients that patched modules compute.

    Attributes:
        samples: b, the number of samples in the batch.
        tokens: b · S, or None where the batch does not say.
        anchor: A scalar leaf that requires grad, so that every output does.
    """

    samples: int
    tokens: int | None
    anchor: Tensor

    def expect(self, name: str) -> None:
        """Note that the parameter occurred in the forward pass: one gradient more will come."""

    def add_factors(self, name: str, left: Tensor, right: Tensor) -> None:
        """Take a gradient Σ_s left_s ⊗ right_s: `(b, S, rows)` and `(b, S, columns)`."""

    def add_lookup(self, name: str, ids: Tensor, right: Tensor) -> None:
        """Take a gradient Σ_s e(ids_s) ⊗ right_s: `(b, S)` and `(b, S, columns)`."""

    def add_gradient(self, name: str, gradient: Tensor) -> None:
        """Take the gradient itself, `(b, *shape)`, as biases and gains have it."""


@dataclass(frozen=True)
class ParameterOwner:
    """One module that owns chosen parameters.

    Attributes:
        label: The module's dotted name.
        module: The `torch.nn.Module`.
        names: Its own parameter names → the model's names, chosen ones only.
        sink: Gives the sink of the backward pass that is running, None outside of one.
    """

    label: str
    module: Any
    names: dict[str, str]
    sink: Callable[[], Sink | None]

    @property
    def kind(self) -> str:
        """Name and class, for messages."""
        return f"{self.label or 'the model'} ({type(self.module).__name__})"


# A forward that takes the place of a module's own: of the module, the running pass, the forward
# that it replaces, and that one's arguments.
PatchedForward = Callable[
    [ParameterOwner, Sink, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any
]


def patched_forward(module: nn.Module) -> PatchedForward | None:
    """The forward that a module of this kind runs during a pass; None for an unknown kind."""
    known = _PATCHED_FORWARDS.get(type(module).forward)
    if known is not None:
        return None if isinstance(module, nn.Embedding) and not _plain_rows(module) else known
    if type(module).__name__ == "Conv1D" and module.get_parameter("weight").ndim == 2:
        return _conv1d
    if isinstance(module, nn.Embedding):  # as Gemma's, which scales what super().forward gives
        return _intercepted if _plain_rows(module) else None
    if isinstance(module, nn.Linear):
        return _intercepted
    own = dict(module.named_parameters())
    if type(module).__name__.endswith("RMSNorm") and list(own) == ["weight"]:
        return _gain if own["weight"].ndim == 1 else None
    return None


def patch(owner: ParameterOwner, patched: PatchedForward) -> Callable[[], None]:
    """Replace the module's forward; returns the function that puts it back."""
    module = owner.module
    original = module.forward
    had = "forward" in vars(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        sink = owner.sink()
        if sink is None:
            return original(*args, **kwargs)
        for name in owner.names.values():
            sink.expect(name)
        return patched(owner, sink, original, args, kwargs)

    def restore() -> None:
        if had:
            module.forward = original
        else:
            del module.forward

    module.forward = forward
    return restore


def _plain_rows(module: nn.Embedding) -> bool:
    """Whether a row's gradient is the sum over its look-ups and nothing else happens."""
    return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    tensor: Tensor = args[0] if args else next(iter(kwargs.values()))
    return tensor


def _check_batch(owner: ParameterOwner, sink: Sink, rows: torch.Size) -> None:
    """Error unless the leading size is the batch, or the batch with its tokens flattened.

    Args:
        owner: The module.
        sink: The pass that is running.
        rows: The input's shape without what the module works on.
    """
    if len(rows) > 1 and rows[0] == sink.samples:
        return
    if len(rows) == 1 and rows[0] == sink.tokens:
        return
    if len(rows) == 1 and rows[0] == sink.samples and not isinstance(owner.module, nn.Embedding):
        return  # one vector a sample, as behind pooling
    raise ConfigError(
        f"per-sample gradients: {owner.kind} sees an input of leading shape {tuple(rows)} and not "
        f"a batch of {sink.samples} samples; pass position_ids of shape (b, S) where it embeds "
        "positions, or leave its parameters out"
    )


def _by_sample(tensor: Tensor, samples: int, last: int) -> Tensor:
    """`(b, tokens, last)`."""
    return tensor.reshape(samples, -1, last)


class _Linear(torch.autograd.Function):
    """`functional.linear` (`transposed`: Conv1D) whose weight gradient goes to the sink."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        owner: ParameterOwner,
        sink: Sink,
        transposed: bool,  # noqa: FBT001
    ) -> Tensor:
        weight, bias = owner.module.weight, owner.module.bias
        ctx.owner, ctx.sink, ctx.transposed = owner, sink, transposed
        if "weight" in owner.names:
            ctx.save_for_backward(x)
        if not transposed:
            return functional.linear(x, weight, bias)
        flat = x.reshape(-1, x.shape[-1])
        out = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        names, sink, weight = ctx.owner.names, ctx.sink, ctx.owner.module.weight
        g = _by_sample(grad, sink.samples, grad.shape[-1])
        if "weight" in names:
            (x,) = ctx.saved_tensors
            x = _by_sample(x, sink.samples, x.shape[-1])
            sink.add_factors(names["weight"], *((x, g) if ctx.transposed else (g, x)))
        if "bias" in names:
            sink.add_gradient(names["bias"], g.sum(1))
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ (weight.t() if ctx.transposed else weight)
        return grad_x, None, None, None, None


class _Embedding(torch.autograd.Function):
    """`functional.embedding` whose weight gradient goes to the sink."""

    @staticmethod
    def forward(
        ctx: Any, ids: Tensor, _anchor: Tensor, owner: ParameterOwner, sink: Sink
    ) -> Tensor:
        ctx.owner, ctx.sink = owner, sink
        ctx.save_for_backward(ids)
        return functional.embedding(ids, owner.module.weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        owner, sink = ctx.owner, ctx.sink
        ids = ids.reshape(sink.samples, -1)
        right = _by_sample(grad, sink.samples, grad.shape[-1])
        if owner.module.padding_idx is not None:
            right = right.masked_fill((ids == owner.module.padding_idx)[..., None], 0)
        sink.add_lookup(owner.names["weight"], ids, right)
        return None, None, None, None


class _LayerNorm(torch.autograd.Function):
    """`functional.layer_norm` whose gain and bias gradients go to the sink."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _anchor: Tensor, owner: ParameterOwner, sink: Sink) -> Tensor:
        module = owner.module
        ctx.owner, ctx.sink = owner, sink
        out, mean, rstd = torch.native_layer_norm(
            x, module.normalized_shape, module.weight, module.bias, module.eps
        )
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = ctx.saved_tensors
        module, names, sink = ctx.owner.module, ctx.owner.names, ctx.sink
        shape = module.normalized_shape
        if "weight" in names:
            gain = grad * ((x - mean) * rstd)
            sink.add_gradient(names["weight"], gain.reshape(sink.samples, -1, *shape).sum(1))
        if "bias" in names:
            sink.add_gradient(names["bias"], grad.reshape(sink.samples, -1, *shape).sum(1))
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
                grad, x, shape, mean, rstd, module.weight, module.bias, [True, False, False]
            )
        return grad_x, None, None, None


class _Gain(torch.autograd.Function):
    """A 1-D weight copied for every row of the input: autograd then gives one gradient a row."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, owner: ParameterOwner, sink: Sink, rows: int, middle: int
    ) -> Tensor:
        ctx.owner, ctx.sink = owner, sink
        weight: Tensor = owner.module.weight.detach()
        shape = (rows, *[1] * middle, len(weight))
        return weight.expand(shape).clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        per_sample = _by_sample(grad, ctx.sink.samples, grad.shape[-1]).sum(1)
        ctx.sink.add_gradient(ctx.owner.names["weight"], per_sample)
        return None, None, None, None, None


def _linear(owner: ParameterOwner, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(owner, sink, x.shape[:-1])
    return _Linear.apply(x, sink.anchor, owner, sink, False)  # type: ignore[no-untyped-call]


def _conv1d(owner: ParameterOwner, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(owner, sink, x.shape[:-1])
    return _Linear.apply(x, sink.anchor, owner, sink, True)  # type: ignore[no-untyped-call]


def _embedding(owner: ParameterOwner, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    ids = _first(args, kwargs)
    _check_batch(owner, sink, ids.shape)
    return _Embedding.apply(ids, sink.anchor, owner, sink)  # type: ignore[no-untyped-call]


def _layer_norm(owner: ParameterOwner, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(owner, sink, x.shape[: x.ndim - len(owner.module.normalized_shape)])
    return _LayerNorm.apply(x, sink.anchor, owner, sink)  # type: ignore[no-untyped-call]


def _gain_of_each_row(owner: ParameterOwner, sink: Sink, x: Tensor) -> Tensor:
    """The module's 1-D weight, one copy for each leading row of `x`, ready to broadcast."""
    _check_batch(owner, sink, x.shape[:-1])
    size = owner.module.get_parameter("weight").shape[-1]
    if x.shape[-1] != size:
        raise ConfigError(
            f"per-sample gradients: {owner.kind} has {size} gains for an input of shape "
            f"{tuple(x.shape)}; only gains along the last dimension are known, leave it out"
        )
    gain: Tensor = _Gain.apply(sink.anchor, owner, sink, x.shape[0], x.ndim - 2)  # type: ignore[no-untyped-call]
    return gain


def _gain(
    owner: ParameterOwner, sink: Sink, original: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    # An instance attribute hides the registered parameter, so whatever the module computes with
    # its weight (Gemma: 1 + w, in float32) is differentiated as written.
    own = vars(owner.module)
    own["weight"] = _gain_of_each_row(owner, sink, _first(args, kwargs))
    try:
        return original(*args, **kwargs)
    finally:
        del own["weight"]


def _rms_norm(owner: ParameterOwner, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    # functional.rms_norm wants a weight of the normalised shape, so the gain is applied behind it.
    x, module = _first(args, kwargs), owner.module
    scaled = functional.rms_norm(x, module.normalized_shape, None, module.eps)
    return scaled * _gain_of_each_row(owner, sink, x)


class _Intercept(TorchFunctionMode):
    """Sends the one linear map or look-up with the module's weight through ours."""

    def __init__(self, owner: ParameterOwner, sink: Sink) -> None:
        super().__init__()
        self._owner, self._sink = owner, sink

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        patched = {functional.linear: _linear, functional.embedding: _embedding}.get(func)
        if patched is not None and len(args) > 1 and args[1] is self._owner.module.weight:
            return patched(self._owner, self._sink, func, args, {})
        return func(*args, **kwargs)


def _intercepted(
    owner: ParameterOwner, sink: Sink, original: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    with _Intercept(owner, sink):
        return original(*args, **kwargs)


_PATCHED_FORWARDS: dict[Any, PatchedForward] = {
    nn.Linear.forward: _linear,
    nn.Embedding.forward: _embedding,
    nn.LayerNorm.forward: _layer_norm,
    nn.RMSNorm.forward: _rms_norm,
}
