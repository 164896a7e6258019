"""The numbers of an architecture that its cost depends on."""

from __future__ import annotations

from dataclasses import dataclass

Matrices = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as its cost formulas see it; `dataclasses.asdict` and `ModelSpec(**it)` are its JSON.

    Attributes:
        name: What messages and manifests call it.
        matrices: `(d_out, d_in, count)` of the weights multiplied with every token: the vocabulary
            head is one, also where it is tied to the embedding; embedding look-ups are not.
        vocab: Rows of the token embedding.
        width: Size of the hidden state.
        n_layers: Blocks, each with one attention.
        attention_width: Query heads times their dimension.
        n_embedding: Parameters that are only looked up, or looked up as well (tied): tokens,
            positions, segments.
        n_total: All parameters; a tied head counts once.
        tied: Whether the head is the token embedding.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrices", _tuples(self.matrices))

    @property
    def n_matmul(self) -> int:
        """Weights multiplied with every token: the N of 2N and 6N."""
        return sum(d_out * d_in * count for d_out, d_in, count in self.matrices)


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
        idle: How many of the four products of the first layer's attention in its backward pass no
            adapter needs: 1 where queries and values are adapted and keys are not.
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
        """Trained parameters."""
        return self.rank * sum((d_out + d_in) * count for d_out, d_in, count in self.targets)


def _tuples(matrices: Matrices) -> Matrices:
    """The same with tuples where JSON has lists, so that equal specs compare and hash equal."""
    return tuple((int(d_out), int(d_in), int(count)) for d_out, d_in, count in matrices)
