"""A backward pass whose per-sample gradients are multiplied and dropped, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from didact.accounting.algebra import algebras, worth_dropping
from didact.core.errors import ConfigError

TileTransform = Callable[[str, Tensor], Tensor]

# Most elements of per-sample gradients that exist at once; one sample's gradient of one parameter
# is never split.
_TILE_ELEMENTS = 2**26
# On a CPU norms and dots then read them from its caches: 16 MiB took 0.70 to 1.03 of the time of
# all samples at once, by shape (benchmarks/README.md).
_CACHED_ELEMENTS = 2**22


class TileVisitor(Protocol):
    """A function that sees each tile, after the transform, and the samples it belongs to."""

    def __call__(self, name: str, tile: Tensor, rows: slice, /) -> None:
        """Called once per parameter and chunk of samples."""


@dataclass(frozen=True)
class ProductRequest:
    """The products that a pass is asked for; see the arguments of `ProductKernel.products`."""

    directions: Mapping[str, Tensor] | None
    norms: bool
    transform: TileTransform | None
    visitor: TileVisitor | None

    @property
    def whole_gradients(self) -> bool:
        """Whether a transform or visitor sees the gradients, so that each is materialised."""
        return self.transform is not None or self.visitor is not None


@dataclass
class Occurrences:
    """The gradients of one parameter that came so far, one for each place it occurs in.

    Attributes:
        count: Number of gradients that came.
        left: Left factors of those that came as two, `(b, S, rows)`.
        right: Their right factors, `(b, S, columns)`.
        ids: The rows of the parameter that were looked up, `(b, S)`.
        looked_up: Gradients of the rows looked up, `(b, S, columns)`.
        full: Sum of those that came as they are, `(b, *shape)`.
    """

    count: int = 0
    left: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)
    looked_up: list[Tensor] = field(default_factory=list)
    full: Tensor | None = None


class BackwardPass:
    """A backward pass that gathers the gradients of each parameter, multiplies and drops them.

    Patched modules hand it their gradients, in one of three shapes.

    Args:
        parameters: The chosen parameters.
        samples: b, the number of samples in the batch.
        tokens: b · S, None where it is not known.
        request: The products that are asked for.

    Attributes:
        anchor: A scalar leaf that requires grad, so that every patched output does.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        samples: int,
        tokens: int | None,
        request: ProductRequest,
    ) -> None:
        some = next(iter(parameters.values()))
        double = any(p.dtype == torch.float64 for p in parameters.values())
        directions = request.directions
        self.parameters = parameters
        self.samples = samples
        self.tokens = tokens
        self.flops = 0.0
        self._request = request
        self._most_elements = _most_elements(some.device, request)
        self._dtype = torch.float64 if double else torch.float32
        self.anchor = torch.zeros((), dtype=some.dtype, device=some.device, requires_grad=True)
        zeros = torch.zeros(samples, dtype=self._dtype, device=some.device)
        self._n_directions = len(next(iter(directions.values()))) if directions else 0
        self.squared_norms = zeros.clone() if request.norms else None
        self.dots = zeros[:, None].repeat(1, self._n_directions) if self._n_directions else None
        self._expected = dict.fromkeys(parameters, 0)
        self._counting = True
        self._pending: dict[str, Occurrences] = {}
        self._done: set[str] = set()
        self._buffer = zeros.new_empty(0)
        self._current: tuple[str, Tensor | None] = "", None

    def expect(self, name: str) -> None:
        """Note that a parameter occurred in the forward pass; recomputations are not counted."""
        if self._counting:
            self._expected[name] += 1

    def forward_is_over(self) -> None:
        """From here on forwards are recomputations of checkpoints."""
        self._counting = False

    def add_factors(self, name: str, left: Tensor, right: Tensor) -> None:
        """Take a gradient Σ_s left_s ⊗ right_s, `(b, S, rows)` and `(b, S, columns)`."""
        left, right = _without_zero_tokens(left, right)
        pending = self._pending.setdefault(name, Occurrences())
        pending.left.append(left.to(self._dtype))
        pending.right.append(right.to(self._dtype))
        self._arrived(name)

    def add_lookup(self, name: str, ids: Tensor, right: Tensor) -> None:
        """Take a gradient Σ_s e(ids_s) ⊗ right_s, `(b, S)` and `(b, S, columns)`."""
        pending = self._pending.setdefault(name, Occurrences())
        pending.ids.append(ids)
        pending.looked_up.append(right.to(self._dtype))
        self._arrived(name)

    def add_gradient(self, name: str, gradient: Tensor) -> None:
        """Take a gradient that is small enough to be given, `(b, *shape)`."""
        pending = self._pending.setdefault(name, Occurrences())
        gradient = gradient.to(self._dtype)
        pending.full = gradient if pending.full is None else pending.full + gradient
        self._arrived(name)

    def finish(self) -> None:
        """Multiply what is waiting for gradients that never came.

        With a transform or a visitor, parameters that did not occur have a gradient of zeros.
        """
        for name in list(self._pending):
            self._multiply(name)
        if self._request.whole_gradients:
            for name in [name for name in self.parameters if name not in self._done]:
                self._pending[name] = Occurrences()
                self._multiply(name)

    def _multiply_tile(self, name: str, tile: Tensor, rows: slice) -> None:
        """Multiply the gradient of one parameter for some samples, `(c, *shape)`."""
        request = self._request
        tile = tile.to(self._dtype)
        if request.transform is not None:
            shape = tile.shape
            tile = request.transform(name, tile)
            if tile.shape != shape:
                raise ConfigError(
                    f"per-sample gradients: the transform made {tuple(tile.shape)} of "
                    f"{tuple(shape)} for {name!r}; expected the same shape"
                )
        if request.visitor is not None:
            request.visitor(name, tile, rows)
        flat = tile.reshape(len(tile), -1).to(self._dtype)
        if self.squared_norms is not None:
            self.squared_norms[rows] += torch.linalg.vector_norm(flat, dim=1).square_()
        if self.dots is not None and (direction := self._direction(name)) is not None:
            self.dots[rows] += flat @ direction.reshape(len(direction), -1).t()
            self.flops += 2.0 * flat.numel() * len(direction)
        self._done.add(name)

    def _direction(self, name: str) -> Tensor | None:
        if self._current[0] != name:  # asked for every chunk: converted once
            found = (self._request.directions or {}).get(name)
            self._current = name, None if found is None else found.to(self._buffer)
        return self._current[1]

    def _arrived(self, name: str) -> None:
        pending = self._pending[name]
        pending.count += 1
        if pending.count == self._expected[name]:
            self._multiply(name)

    def _multiply(self, name: str) -> None:
        """Multiply all gradients of one parameter, and drop them."""
        pending, request = self._pending.pop(name), self._request
        direction = self._direction(name)
        if not request.whole_gradients and not request.norms and direction is None:
            return
        if pending.full is not None and not pending.left and not pending.ids:
            self._multiply_tile(name, pending.full, slice(0, self.samples))
            return
        left, right = _joined(pending.left), _joined(pending.right)
        ids, rows = _joined(pending.ids), _joined(pending.looked_up)
        del pending
        shape = self.parameters[name].shape
        seq = 0 if left is None else left.shape[1]
        chosen = algebras(
            shape[0],
            shape[1] if len(shape) > 1 else 1,
            seq,
            directions=0 if direction is None else self._n_directions,
            norms=request.norms,
            whole_gradient=request.whole_gradients or len(shape) != 2,
            lookups=0 if ids is None else ids.shape[1],
        )[0]
        if chosen.form == "tile":
            for tile, part in self._tiles(shape, left, right, ids, rows):
                self._multiply_tile(name, tile, part)
            self.flops += 2.0 * self.samples * seq * shape.numel()
            return
        self.flops += self.samples * chosen.flops
        if self.squared_norms is not None:
            longest = max(seq, 0 if ids is None else ids.shape[1])
            for part in self._chunks(longest * longest):
                self.squared_norms[part] += _gram(*_cut(part, left, right, ids, rows))
        if self.dots is not None and direction is not None:
            for part in self._chunks(seq * min(shape)):
                self.dots[part] += _dots(direction, *_cut(part, left, right, ids, rows))

    def _chunks(self, elements: int) -> Iterator[slice]:
        """Slices of samples whose temporaries of `elements` each stay within the limit."""
        size = max(1, self._most_elements // max(elements, 1))
        for start in range(0, self.samples, size):
            yield slice(start, min(start + size, self.samples))

    def _tiles(
        self,
        shape: torch.Size,
        left: Tensor | None,
        right: Tensor | None,
        ids: Tensor | None,
        rows: Tensor | None,
    ) -> Iterator[tuple[Tensor, slice]]:
        """Per-sample gradients `(c, *shape)`, all in one buffer that is used again."""
        for part in self._chunks(shape.numel()):
            n = part.stop - part.start
            if self._buffer.numel() < n * shape.numel():
                self._buffer = self._buffer.new_empty(n * shape.numel())
            tile = self._buffer[: n * shape.numel()].view(n, *shape)
            if left is None or right is None:
                tile.zero_()
            else:
                torch.bmm(left[part].transpose(1, 2), right[part], out=tile)
            if ids is not None and rows is not None:
                offsets = torch.arange(n, device=ids.device)[:, None] * shape[0]
                at = (ids[part] + offsets).flatten()
                tile.view(-1, shape[1]).index_add_(0, at, rows[part].reshape(-1, shape[1]))
            yield tile, part


def _most_elements(device: torch.device, request: ProductRequest) -> int:
    """Few on a CPU, unless a visitor is called for each tile, which may cost it much."""
    if device.type != "cpu" or request.visitor is not None:
        return _TILE_ELEMENTS
    return min(_TILE_ELEMENTS, _CACHED_ELEMENTS)


def _joined(occurrences: list[Tensor]) -> Tensor | None:
    """All behind one another: a sum over occurrences is a sum over more tokens."""
    if len(occurrences) < 2:
        return occurrences[0] if occurrences else None
    return torch.cat(occurrences, 1)


def _cut(part: slice, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor[part] for tensor in tensors]


def _without_zero_tokens(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Without tokens whose gradient at a wide output is zero; NaN is not zero."""
    d_out, d_in = left.shape[2], right.shape[2]
    if not worth_dropping(d_out, d_in, 0.0):
        return left, right
    counts = left.any(2)
    most = int(counts.sum(1).max())
    if not worth_dropping(d_out, d_in, most / max(left.shape[1], 1)):
        return left, right
    # Tokens that count come first, in their order; shorter samples are filled with zero tokens.
    at = counts.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    sample = torch.arange(len(left), device=left.device)[:, None]
    return left[sample, at], right[sample, at]


def _gram(
    left: Tensor | None, right: Tensor | None, ids: Tensor | None, rows: Tensor | None
) -> Tensor:
    """‖Σ_s left_s ⊗ right_s + Σ_t e(ids_t) ⊗ rows_t‖² of every sample, `(c,)`."""
    terms = []
    if left is not None and right is not None:
        inputs = torch.bmm(right, right.transpose(1, 2))
        terms.append(inputs.mul_(torch.bmm(left, left.transpose(1, 2))).sum((1, 2)))
    if ids is not None and rows is not None:
        same = (ids[:, :, None] == ids[:, None, :]).to(rows.dtype)
        # Rows of one id are added before squaring: E · (same E) sums over all pairs of one id.
        terms.append(torch.bmm(same, rows).mul_(rows).sum((1, 2)))
        if left is not None and right is not None:
            picked = left.gather(2, ids[:, None, :].expand(-1, left.shape[1], -1))
            across = torch.bmm(right, rows.transpose(1, 2)).mul_(picked)
            terms.append(across.sum((1, 2)).mul_(2))
    return torch.stack(terms).sum(0)


def _dots(
    directions: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    ids: Tensor | None,
    rows: Tensor | None,
) -> Tensor:
    """⟨Σ_s left_s ⊗ right_s + Σ_t e(ids_t) ⊗ rows_t, V_k⟩, `(c, D)`, without the matrix."""
    found = []
    for v in directions:
        terms = []
        if left is not None and right is not None:
            if v.shape[0] < v.shape[1]:  # the temporary is on the narrow side
                terms.append((right @ v.t()).mul_(left).sum((1, 2)))
            else:
                terms.append((left @ v).mul_(right).sum((1, 2)))
        if ids is not None and rows is not None:
            terms.append(v[ids].mul_(rows).sum((1, 2)))
        found.append(torch.stack(terms).sum(0))
    return torch.stack(found, 1)
