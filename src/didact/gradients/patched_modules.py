"""Modules made to hand out per-sample gradients: their forward is replaced, not hooked.

Each replaced forward computes what it did before through a custom autograd function whose backward
gives the gradient of the input, none of the weight, and the two factors of the per-sample weight
gradient to the `BackwardPass`. Module hooks fire twice under gradient checkpointing; a backward
runs once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from didact.core.errors import ConfigError
from didact.gradients.backward_pass import BackwardPass


@dataclass(frozen=True)
class ParameterOwner:
    """One module that owns chosen parameters.

    Attributes:
        label: The module's dotted name.
        module: The `torch.nn.Module`.
        names: Its own parameter names → the model's names, chosen ones only.
        running: Gives the backward pass that is running, None outside of one.
    """

    label: str
    module: Any
    names: dict[str, str]
    running: Callable[[], BackwardPass | None]

    @property
    def kind(self) -> str:
        """Name and class, for messages."""
        return f"{self.label or 'the model'} ({type(self.module).__name__})"


# A forward that takes the place of a module's own: of the module, the running pass, the forward
# that it replaces, and that one's arguments.
PatchedForward = Callable[
    [ParameterOwner, BackwardPass, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any
]


def patched_forward(module: nn.Module) -> PatchedForward | None:
    """The forward that a module of this kind runs during a pass; None for an unknown kind."""
    known = _PATCHED_FORWARDS.get(type(module).forward)
    if known is not None:
        return None if isinstance(module, nn.Embedding) and not _plain_rows(module) else known
    if type(module).__name__ == "Conv1D" and module.get_parameter("weight").ndim == 2:
        return partial(_linear, transposed=True)
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
        running = owner.running()
        if running is None:
            return original(*args, **kwargs)
        for name in owner.names.values():
            running.expect(name)
        return patched(owner, running, original, args, kwargs)

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


def _check_batch(owner: ParameterOwner, running: BackwardPass, rows: torch.Size) -> None:
    """Error unless the leading size is the batch, or the batch with its tokens flattened.

    Args:
        owner: The module.
        running: The backward pass that is running.
        rows: The input's shape without what the module works on.
    """
    if len(rows) > 1 and rows[0] == running.samples:
        return
    if len(rows) == 1 and rows[0] == running.tokens:
        return
    if len(rows) == 1 and rows[0] == running.samples and not isinstance(owner.module, nn.Embedding):
        return  # one vector a sample, as behind pooling
    raise ConfigError(
        f"per-sample gradients: {owner.kind} sees an input of leading shape {tuple(rows)} and not "
        f"a batch of {running.samples} samples; pass position_ids of shape (b, S) where it embeds "
        "positions, or leave its parameters out"
    )


def _by_sample(tensor: Tensor, samples: int, last: int) -> Tensor:
    """`(b, tokens, last)`."""
    return tensor.reshape(samples, -1, last)


class _Linear(torch.autograd.Function):
    """`functional.linear` (`transposed`: Conv1D) whose weight gradient goes to the running pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        _anchor: Tensor,
        owner: ParameterOwner,
        running: BackwardPass,
        transposed: bool,  # noqa: FBT001
    ) -> Tensor:
        weight, bias = owner.module.weight, owner.module.bias
        ctx.owner, ctx.running, ctx.transposed = owner, running, transposed
        if "weight" in owner.names:
            ctx.save_for_backward(x)
        if not transposed:
            return functional.linear(x, weight, bias)
        flat = x.reshape(-1, x.shape[-1])
        out = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        names, running, weight = ctx.owner.names, ctx.running, ctx.owner.module.weight
        g = _by_sample(grad, running.samples, grad.shape[-1])
        if "weight" in names:
            (x,) = ctx.saved_tensors
            x = _by_sample(x, running.samples, x.shape[-1])
            running.add_factors(names["weight"], *((x, g) if ctx.transposed else (g, x)))
        if "bias" in names:
            running.add_gradient(names["bias"], g.sum(1))
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ (weight.t() if ctx.transposed else weight)
        return grad_x, None, None, None, None


class _Embedding(torch.autograd.Function):
    """`functional.embedding` whose weight gradient goes to the running pass."""

    @staticmethod
    def forward(
        ctx: Any, ids: Tensor, _anchor: Tensor, owner: ParameterOwner, running: BackwardPass
    ) -> Tensor:
        ctx.owner, ctx.running = owner, running
        ctx.save_for_backward(ids)
        return functional.embedding(ids, owner.module.weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        owner, running = ctx.owner, ctx.running
        ids = ids.reshape(running.samples, -1)
        right = _by_sample(grad, running.samples, grad.shape[-1])
        if owner.module.padding_idx is not None:
            right = right.masked_fill((ids == owner.module.padding_idx)[..., None], 0)
        running.add_lookup(owner.names["weight"], ids, right)
        return None, None, None, None


class _LayerNorm(torch.autograd.Function):
    """`functional.layer_norm` whose gain and bias gradients go to the running pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _anchor: Tensor, owner: ParameterOwner, running: BackwardPass
    ) -> Tensor:
        module = owner.module
        ctx.owner, ctx.running = owner, running
        out, mean, rstd = torch.native_layer_norm(
            x, module.normalized_shape, module.weight, module.bias, module.eps
        )
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = ctx.saved_tensors
        module, names, running = ctx.owner.module, ctx.owner.names, ctx.running
        shape = module.normalized_shape
        if "weight" in names:
            gain = grad * ((x - mean) * rstd)
            running.add_gradient(names["weight"], gain.reshape(running.samples, -1, *shape).sum(1))
        if "bias" in names:
            running.add_gradient(names["bias"], grad.reshape(running.samples, -1, *shape).sum(1))
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
        ctx: Any,
        _anchor: Tensor,
        owner: ParameterOwner,
        running: BackwardPass,
        rows: int,
        middle: int,
    ) -> Tensor:
        ctx.owner, ctx.running = owner, running
        weight: Tensor = owner.module.weight.detach()
        shape = (rows, *[1] * middle, len(weight))
        return weight.expand(shape).clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        per_sample = _by_sample(grad, ctx.running.samples, grad.shape[-1]).sum(1)
        ctx.running.add_gradient(ctx.owner.names["weight"], per_sample)
        return None, None, None, None, None


def _linear(
    owner: ParameterOwner, running: BackwardPass, _: Any, args: Any, kwargs: Any,
    *, transposed: bool = False,
) -> Any:  # fmt: skip
    x = _first(args, kwargs)
    _check_batch(owner, running, x.shape[:-1])
    return _Linear.apply(x, running.anchor, owner, running, transposed)  # type: ignore[no-untyped-call]


def _embedding(owner: ParameterOwner, running: BackwardPass, _: Any, args: Any, kwargs: Any) -> Any:
    ids = _first(args, kwargs)
    _check_batch(owner, running, ids.shape)
    return _Embedding.apply(ids, running.anchor, owner, running)  # type: ignore[no-untyped-call]


def _layer_norm(
    owner: ParameterOwner, running: BackwardPass, _: Any, args: Any, kwargs: Any
) -> Any:
    x = _first(args, kwargs)
    _check_batch(owner, running, x.shape[: x.ndim - len(owner.module.normalized_shape)])
    return _LayerNorm.apply(x, running.anchor, owner, running)  # type: ignore[no-untyped-call]


def _gain_of_each_row(owner: ParameterOwner, running: BackwardPass, x: Tensor) -> Tensor:
    """The module's 1-D weight, one copy for each leading row of `x`, ready to broadcast."""
    _check_batch(owner, running, x.shape[:-1])
    size = owner.module.get_parameter("weight").shape[-1]
    if x.shape[-1] != size:
        raise ConfigError(
            f"per-sample gradients: {owner.kind} has {size} gains for an input of shape "
            f"{tuple(x.shape)}; only gains along the last dimension are known, leave it out"
        )
    gain: Tensor = _Gain.apply(running.anchor, owner, running, x.shape[0], x.ndim - 2)  # type: ignore[no-untyped-call]
    return gain


def _gain(
    owner: ParameterOwner,
    running: BackwardPass,
    original: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    # An instance attribute hides the registered parameter, so whatever the module computes with
    # its weight (Gemma: 1 + w, in float32) is differentiated as written.
    own = vars(owner.module)
    own["weight"] = _gain_of_each_row(owner, running, _first(args, kwargs))
    try:
        return original(*args, **kwargs)
    finally:
        del own["weight"]


def _rms_norm(owner: ParameterOwner, running: BackwardPass, _: Any, args: Any, kwargs: Any) -> Any:
    # functional.rms_norm wants a weight of the normalised shape, so the gain is applied behind it.
    x, module = _first(args, kwargs), owner.module
    scaled = functional.rms_norm(x, module.normalized_shape, None, module.eps)
    return scaled * _gain_of_each_row(owner, running, x)


class _Intercept(TorchFunctionMode):
    """Sends the one linear map or look-up with the module's weight through ours."""

    def __init__(self, owner: ParameterOwner, running: BackwardPass) -> None:
        super().__init__()
        self._owner, self._running = owner, running

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
            return patched(self._owner, self._running, func, args, {})
        return func(*args, **kwargs)


def _intercepted(
    owner: ParameterOwner,
    running: BackwardPass,
    original: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    with _Intercept(owner, running):
        return original(*args, **kwargs)


_PATCHED_FORWARDS: dict[Any, PatchedForward] = {
    nn.Linear.forward: _linear,
    nn.Embedding.forward: _embedding,
    nn.LayerNorm.forward: _layer_norm,
    nn.RMSNorm.forward: _rms_norm,
}
