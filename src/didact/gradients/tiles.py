"""The algebra of per-sample gradients, one parameter at a time: tiles, Gram forms, dots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from didact.accounting.products import Form, plan, worth_dropping
from didact.core.errors import ConfigError

Transform = Callable[[str, Tensor], Tensor]


class Visit(Protocol):
    """Sees each tile, after the transform, and the samples it belongs to."""

    def __call__(self, name: str, tile: Tensor, rows: slice, /) -> None:
        """Called once per parameter and chunk of samples."""


@dataclass(frozen=True)
class Wanted:
    """What a pass is asked for; the arguments of `ProductKernel.products`."""

    directions: Mapping[str, Tensor] | None
    norms: bool
    transform: Transform | None
    visit: Visit | None
    tile_elements: int
    form: Form | None


@dataclass
class Pending:
    """The uses of one parameter that have come back from the backward pass."""

    seen: int = 0
    left: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    whole: Tensor | None = None


class Pass:
    """One backward pass: gathers the uses of each parameter, multiplies, drops them.

    Args:
        parameters: The chosen ones.
        samples: b.
        tokens: b · S, None where it is not known.
        wanted: What is asked for.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        samples: int,
        tokens: int | None,
        wanted: Wanted,
    ) -> None:
        some = next(iter(parameters.values()))
        double = any(p.dtype == torch.float64 for p in parameters.values())
        self.parameters = parameters
        self.samples = samples
        self.tokens = tokens
        self.flops = 0.0
        self._wanted = wanted
        self._dtype = torch.float64 if double else torch.float32
        self.anchor = torch.zeros((), dtype=some.dtype, device=some.device, requires_grad=True)
        zeros = torch.zeros(samples, dtype=self._dtype, device=some.device)
        self._n_directions = len(next(iter(wanted.directions.values()))) if wanted.directions else 0
        self.squared_norms = zeros.clone() if wanted.norms else None
        self.dots = zeros[:, None].repeat(1, self._n_directions) if self._n_directions else None
        self._expected = dict.fromkeys(parameters, 0)
        self._counting = True
        self._pending: dict[str, Pending] = {}
        self._done: set[str] = set()
        self._buffer = zeros.new_empty(0)
        self._current: tuple[str, Tensor | None] = "", None

    def expect(self, name: str) -> None:
        """Count a use, unless a checkpoint is recomputing it."""
        if self._counting:
            self._expected[name] += 1

    def forward_is_over(self) -> None:
        """From here on forwards are recomputations of checkpoints."""
        self._counting = False

    def product(self, name: str, left: Tensor, right: Tensor) -> None:
        """A use whose gradient is Σ_s left_s ⊗ right_s; see `uses.Sink`."""
        left, right = _without_zero_tokens(left, right)
        pending = self._pending.setdefault(name, Pending())
        pending.left.append(left.to(self._dtype))
        pending.right.append(right.to(self._dtype))
        self._arrived(name)

    def lookup(self, name: str, ids: Tensor, right: Tensor) -> None:
        """A use whose gradient is Σ_s e(ids_s) ⊗ right_s; see `uses.Sink`."""
        pending = self._pending.setdefault(name, Pending())
        pending.ids.append(ids)
        pending.rows.append(right.to(self._dtype))
        self._arrived(name)

    def whole(self, name: str, gradient: Tensor) -> None:
        """A use whose gradient is small enough to be given; see `uses.Sink`."""
        pending = self._pending.setdefault(name, Pending())
        gradient = gradient.to(self._dtype)
        pending.whole = gradient if pending.whole is None else pending.whole + gradient
        self._arrived(name)

    def finish(self) -> None:
        """What had uses that never came back; with a transform also what had none at all."""
        for name in list(self._pending):
            self._finalize(name)
        if self._needs_tiles:
            for name in [name for name in self.parameters if name not in self._done]:
                self._pending[name] = Pending()
                self._finalize(name)

    def take(self, name: str, tile: Tensor, rows: slice) -> None:
        """Multiply the whole gradient of one parameter for some samples, `(c, *shape)`."""
        wanted = self._wanted
        tile = tile.to(self._dtype)
        if wanted.transform is not None:
            shape = tile.shape
            tile = wanted.transform(name, tile)
            if tile.shape != shape:
                raise ConfigError(
                    f"per-sample gradients: the transform made {tuple(tile.shape)} of "
                    f"{tuple(shape)} for {name!r}; expected the same shape"
                )
        if wanted.visit is not None:
            wanted.visit(name, tile, rows)
        flat = tile.reshape(len(tile), -1).to(self._dtype)
        if self.squared_norms is not None:
            self.squared_norms[rows] += torch.linalg.vector_norm(flat, dim=1).square_()
        if self.dots is not None and (direction := self._direction(name)) is not None:
            self.dots[rows] += flat @ direction.reshape(len(direction), -1).t()
            self.flops += 2.0 * flat.numel() * len(direction)
        self._done.add(name)

    @property
    def _needs_tiles(self) -> bool:
        return self._wanted.transform is not None or self._wanted.visit is not None

    def _direction(self, name: str) -> Tensor | None:
        if self._current[0] != name:  # asked for every chunk: converted once
            found = (self._wanted.directions or {}).get(name)
            self._current = name, None if found is None else found.to(self._buffer)
        return self._current[1]

    def _arrived(self, name: str) -> None:
        pending = self._pending[name]
        pending.seen += 1
        if pending.seen == self._expected[name]:
            self._finalize(name)

    def _finalize(self, name: str) -> None:
        pending = self._pending.pop(name)
        if not self._needs_tiles and not self._wanted.norms and self._direction(name) is None:
            return
        if pending.whole is not None and not pending.left and not pending.ids:
            self.take(name, pending.whole, slice(0, self.samples))
            return
        left, right = _joined(pending.left), _joined(pending.right)
        ids, rows = _joined(pending.ids), _joined(pending.rows)
        del pending
        shape = self.parameters[name].shape
        seq = 0 if left is None else left.shape[1]
        chosen = plan(
            shape[0],
            shape[1] if len(shape) > 1 else 1,
            seq,
            directions=0 if self._direction(name) is None else self._n_directions,
            norms=self._wanted.norms,
            transform=self._needs_tiles or len(shape) != 2,
            lookups=0 if ids is None else ids.shape[1],
            form=self._wanted.form,
        )
        if chosen.form == "tile":
            for tile, part in self._tiles(shape, left, right, ids, rows):
                self.take(name, tile, part)
            self.flops += 2.0 * self.samples * seq * shape.numel()
            return
        self.flops += self.samples * chosen.flops
        if self.squared_norms is not None:
            longest = max(seq, 0 if ids is None else ids.shape[1])
            for part in self._chunks(longest * longest):
                self.squared_norms[part] += _gram(*_cut(part, left, right, ids, rows))
        direction = self._direction(name)
        if self.dots is not None and direction is not None:
            for part in self._chunks(seq * min(shape)):
                self.dots[part] += _dots(direction, *_cut(part, left, right, ids, rows))

    def _chunks(self, elements: int) -> Iterator[slice]:
        """Slices of samples whose temporaries of `elements` each stay within the limit."""
        size = max(1, self._wanted.tile_elements // max(elements, 1))
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


def _joined(uses: list[Tensor]) -> Tensor | None:
    """All uses behind one another: a sum over uses is a sum over more tokens."""
    if len(uses) < 2:
        return uses[0] if uses else None
    return torch.cat(uses, 1)


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
