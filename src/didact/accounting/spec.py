"""The numbers of an architecture that its cost depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from didact.core.pool import Kind

Matrices = tuple[tuple[int, int, int], ...]
Overhead = tuple[tuple[Kind, int], ...]
Modules = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as its cost formulas see it; `dataclasses.asdict` and `ModelSpec(**it)` are its JSON.

    Attributes:
        name: Name of the model in messages and manifests.
        matrices: `(d_out, d_in, count)` of the weights multiplied with every token: the vocabulary
            head is one, also where it is tied to the embedding; embedding look-ups are not.
        vocab: Number of rows of the token embedding.
        width: Size of the hidden state.
        n_layers: Blocks, each with one attention.
        attention_width: Query heads times their dimension.
        n_embedding: Parameters that are only looked up, or looked up as well (tied): tokens,
            positions, segments.
        n_total: All parameters; a tied head counts once.
        tied: Whether the head is the token embedding.
        context: Most tokens it reads at once; 0 where it is not known.
        overhead: `(kind of samples, tokens)` that template and special tokens add to a sample.
        modules: `(name, d_out, d_in, count, count in the first layer)` of the matrices inside the
            layers, for adapters; named inside of a layer: "self_attn.q_proj".
    """

    name: str
    matrices: Matrices
    vocab: int
    width: int
    n_layers: int
    attention_width: int
    n_embedding: int
    n_total: int
    tied: bool
    context: int = 0
    overhead: Overhead = ()
    modules: Modules = ()

    def __post_init__(self) -> None:
        for name in ("matrices", "overhead", "modules"):
            object.__setattr__(self, name, _tuples(getattr(self, name)))

    @property
    def headed(self) -> bool:
        """Whether its passes end in a vocabulary head."""
        shapes = {(d_out, d_in) for d_out, d_in, _ in self.matrices}
        inside = {(d_out, d_in) for _, d_out, d_in, *_ in self.modules}
        return self.tied or any(d_out == self.vocab for d_out, _ in shapes - inside)

    @property
    def n_matmul(self) -> int:
        """Weights multiplied with every token: the N of 2N and 6N."""
        return sum(d_out * d_in * count for d_out, d_in, count in self.matrices)

    def added(self, kind: Kind) -> int:
        """Tokens that template and special tokens add to a sample; 0 where it does not say."""
        return dict(self.overhead).get(kind, 0)


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters `B·A` beside frozen matrices (arXiv 2106.09685).

    Attributes:
        rank: Rows of A, columns of B.
        targets: `(d_out, d_in, count)` of the adapted matrices.
        first: Those of `targets` whose input no adapter comes before: the lowest adapted
            matrices of the first layer. Their A passes no gradient on.
        n_below: Frozen weights no gradient is passed through: the matrices of the first layer up
            to and beside its lowest adapted ones.
        idle: Number of the four products of the first layer's attention in its backward pass that
            no adapter needs: 1 where queries and values are adapted and keys are not.
    """

    rank: int
    targets: Matrices
    first: Matrices = ()
    n_below: int = 0
    idle: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _tuples(self.targets))
        object.__setattr__(self, "first", _tuples(self.first))

    @property
    def n_params(self) -> int:
        """Number of trained parameters."""
        return self.rank * sum((d_out + d_in) * count for d_out, d_in, count in self.targets)


def headless(spec: ModelSpec) -> ModelSpec:
    """A model as a pass that needs hidden states alone sees it: without its vocabulary head.

    As an encoder, a data scorer or RDS+ reads it; a model without a head stays as it is.
    """
    if not spec.headed:
        return spec
    heads = [row for row in spec.matrices if row[0] == spec.vocab]
    d_out, d_in, count = max(heads, key=lambda row: row[1] == spec.width)
    others = [row for row in spec.matrices if row != (d_out, d_in, count)]
    left = [(d_out, d_in, count - 1)] if count > 1 else []
    return replace(
        spec,
        matrices=tuple(sorted(others + left)),
        n_total=spec.n_total - (0 if spec.tied else d_out * d_in),
        tied=False,
    )


def _tuples(rows: Iterable[Iterable[Any]]) -> tuple[tuple[Any, ...], ...]:
    """Rows as tuples where JSON has lists, so that equal specs compare and hash equal."""
    return tuple(tuple(row) for row in rows)
