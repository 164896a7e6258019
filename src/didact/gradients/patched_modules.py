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
    """Where the uses of parameters arrive during a backward pass.

    Attributes:
        samples: b, the number of samples in the batch.
        tokens: b · S, or None where the batch does not say.
        anchor: A scalar leaf that requires grad, so that every output does.
    """

    samples: int
    tokens: int | None
    anchor: Tensor

    def expect(self, name: str) -> None:
        """A use of the parameter was seen in the forward pass."""

    def product(self, name: str, left: Tensor, right: Tensor) -> None:
        """A gradient Σ_s left_s ⊗ right_s: `(b, S, rows)` and `(b, S, columns)`."""

    def lookup(self, name: str, ids: Tensor, right: Tensor) -> None:
        """A gradient Σ_s e(ids_s) ⊗ right_s: `(b, S)` and `(b, S, columns)`."""

    def whole(self, name: str, gradient: Tensor) -> None:
        """The gradient itself, `(b, *shape)`: biases and gains."""


@dataclass(frozen=True)
class Site:
    """One module that owns chosen parameters.

    Attributes:
        label: The module's dotted name.
        module: The `torch.nn.Module`.
        names: Its own parameter names → the model's names, chosen ones only.
        sink: Gives the sink of the pass that is running, None outside of one.
    """

    label: str
    module: Any
    names: dict[str, str]
    sink: Callable[[], Sink | None]

    @property
    def kind(self) -> str:
        """Name and class, for messages."""
        return f"{self.label or 'the model'} ({type(self.module).__name__})"


Run = Callable[["Site", Sink, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def run_of(module: nn.Module) -> Run | None:
    """How a module of this kind runs during a pass; None for a kind that is not known."""
    run = _RUNS.get(type(module).forward)
    if run is not None:
        return None if isinstance(module, nn.Embedding) and not _plain_rows(module) else run
    if type(module).__name__ == "Conv1D" and module.get_parameter("weight").ndim == 2:
        return _run_conv1d
    if isinstance(module, nn.Embedding):  # as Gemma's, which scales what super().forward gives
        return _run_intercepted if _plain_rows(module) else None
    if isinstance(module, nn.Linear):
        return _run_intercepted
    own = dict(module.named_parameters())
    if type(module).__name__.endswith("RMSNorm") and list(own) == ["weight"]:
        return _run_gain if own["weight"].ndim == 1 else None
    return None


def patch(site: Site, run: Run) -> Callable[[], None]:
    """Replace the module's forward; returns what puts it back."""
    module = site.module
    original = module.forward
    had = "forward" in vars(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        sink = site.sink()
        if sink is None:
            return original(*args, **kwargs)
        for name in site.names.values():
            sink.expect(name)
        return run(site, sink, original, args, kwargs)

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


def _check_batch(site: Site, sink: Sink, rows: torch.Size) -> None:
    """Error unless the leading size is the batch, or the batch with its tokens flattened.

    Args:
        site: The module.
        sink: The running pass.
        rows: The input's shape without what the module works on.
    """
    if len(rows) > 1 and rows[0] == sink.samples:
        return
    if len(rows) == 1 and rows[0] == sink.tokens:
        return
    if len(rows) == 1 and rows[0] == sink.samples and not isinstance(site.module, nn.Embedding):
        return  # one vector a sample, as behind pooling
    raise ConfigError(
        f"per-sample gradients: {site.kind} sees an input of leading shape {tuple(rows)} and not a "
        f"batch of {sink.samples} samples; pass position_ids of shape (b, S) where it embeds "
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
        site: Site,
        sink: Sink,
        transposed: bool,  # noqa: FBT001
    ) -> Tensor:
        weight, bias = site.module.weight, site.module.bias
        ctx.site, ctx.sink, ctx.transposed = site, sink, transposed
        if "weight" in site.names:
            ctx.save_for_backward(x)
        if not transposed:
            return functional.linear(x, weight, bias)
        flat = x.reshape(-1, x.shape[-1])
        out = flat @ weight if bias is None else torch.addmm(bias, flat, weight)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        names, sink, weight = ctx.site.names, ctx.sink, ctx.site.module.weight
        g = _by_sample(grad, sink.samples, grad.shape[-1])
        if "weight" in names:
            (x,) = ctx.saved_tensors
            x = _by_sample(x, sink.samples, x.shape[-1])
            sink.product(names["weight"], *((x, g) if ctx.transposed else (g, x)))
        if "bias" in names:
            sink.whole(names["bias"], g.sum(1))
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ (weight.t() if ctx.transposed else weight)
        return grad_x, None, None, None, None


class _Embedding(torch.autograd.Function):
    """`functional.embedding` whose weight gradient goes to the sink."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, _anchor: Tensor, site: Site, sink: Sink) -> Tensor:
        ctx.site, ctx.sink = site, sink
        ctx.save_for_backward(ids)
        return functional.embedding(ids, site.module.weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        site, sink = ctx.site, ctx.sink
        ids = ids.reshape(sink.samples, -1)
        right = _by_sample(grad, sink.samples, grad.shape[-1])
        if site.module.padding_idx is not None:
            right = right.masked_fill((ids == site.module.padding_idx)[..., None], 0)
        sink.lookup(site.names["weight"], ids, right)
        return None, None, None, None


class _LayerNorm(torch.autograd.Function):
    """`functional.layer_norm` whose gain and bias gradients go to the sink."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _anchor: Tensor, site: Site, sink: Sink) -> Tensor:
        module = site.module
        ctx.site, ctx.sink = site, sink
        out, mean, rstd = torch.native_layer_norm(
            x, module.normalized_shape, module.weight, module.bias, module.eps
        )
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = ctx.saved_tensors
        module, names, sink = ctx.site.module, ctx.site.names, ctx.sink
        shape = module.normalized_shape
        if "weight" in names:
            gain = grad * ((x - mean) * rstd)
            sink.whole(names["weight"], gain.reshape(sink.samples, -1, *shape).sum(1))
        if "bias" in names:
            sink.whole(names["bias"], grad.reshape(sink.samples, -1, *shape).sum(1))
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
        ctx: Any, _anchor: Tensor, site: Site, sink: Sink, rows: int, middle: int
    ) -> Tensor:
        ctx.site, ctx.sink = site, sink
        weight: Tensor = site.module.weight.detach()
        shape = (rows, *[1] * middle, len(weight))
        return weight.expand(shape).clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        per_sample = _by_sample(grad, ctx.sink.samples, grad.shape[-1]).sum(1)
        ctx.sink.whole(ctx.site.names["weight"], per_sample)
        return None, None, None, None, None


def _run_linear(site: Site, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(site, sink, x.shape[:-1])
    return _Linear.apply(x, sink.anchor, site, sink, False)  # type: ignore[no-untyped-call]


def _run_conv1d(site: Site, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(site, sink, x.shape[:-1])
    return _Linear.apply(x, sink.anchor, site, sink, True)  # type: ignore[no-untyped-call]


def _run_embedding(site: Site, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    ids = _first(args, kwargs)
    _check_batch(site, sink, ids.shape)
    return _Embedding.apply(ids, sink.anchor, site, sink)  # type: ignore[no-untyped-call]


def _run_layer_norm(site: Site, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    x = _first(args, kwargs)
    _check_batch(site, sink, x.shape[: x.ndim - len(site.module.normalized_shape)])
    return _LayerNorm.apply(x, sink.anchor, site, sink)  # type: ignore[no-untyped-call]


def _own_gain(site: Site, sink: Sink, x: Tensor) -> Tensor:
    """The module's 1-D weight, one copy for each leading row of `x`, ready to broadcast."""
    _check_batch(site, sink, x.shape[:-1])
    size = site.module.get_parameter("weight").shape[-1]
    if x.shape[-1] != size:
        raise ConfigError(
            f"per-sample gradients: {site.kind} has {size} gains for an input of shape "
            f"{tuple(x.shape)}; only gains along the last dimension are known, leave it out"
        )
    gain: Tensor = _Gain.apply(sink.anchor, site, sink, x.shape[0], x.ndim - 2)  # type: ignore[no-untyped-call]
    return gain


def _run_gain(site: Site, sink: Sink, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    # An instance attribute hides the registered parameter, so whatever the module computes with
    # its weight (Gemma: 1 + w, in float32) is differentiated as written.
    own = vars(site.module)
    own["weight"] = _own_gain(site, sink, _first(args, kwargs))
    try:
        return original(*args, **kwargs)
    finally:
        del own["weight"]


def _run_rms_norm(site: Site, sink: Sink, _: Any, args: Any, kwargs: Any) -> Any:
    # functional.rms_norm wants a weight of the normalised shape, so the gain is applied behind it.
    x, module = _first(args, kwargs), site.module
    scaled = functional.rms_norm(x, module.normalized_shape, None, module.eps)
    return scaled * _own_gain(site, sink, x)


class _Intercept(TorchFunctionMode):
    """Sends the one linear map or look-up with the module's weight through ours."""

    def __init__(self, site: Site, sink: Sink) -> None:
        super().__init__()
        self._site, self._sink = site, sink

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        run = {functional.linear: _run_linear, functional.embedding: _run_embedding}.get(func)
        if run is not None and len(args) > 1 and args[1] is self._site.module.weight:
            return run(self._site, self._sink, func, args, {})
        return func(*args, **kwargs)


def _run_intercepted(
    site: Site, sink: Sink, original: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    with _Intercept(site, sink):
        return original(*args, **kwargs)


_RUNS: dict[Any, Run] = {
    nn.Linear.forward: _run_linear,
    nn.Embedding.forward: _run_embedding,
    nn.LayerNorm.forward: _run_layer_norm,
    nn.RMSNorm.forward: _run_rms_norm,
}
