"""The algebras of per-sample gradient products of one weight, and what each costs.

One sample has inputs X `(S, d_in)` and output gradients G `(S, d_out)` of a layer; its gradient is
W = GᵀX. `tile` forms W; `gram` takes ‖W‖² = Σ (XXᵀ)∘(GGᵀ) and, like `dot`, ⟨W, V⟩ = Σ G∘(XVᵀ)
without W (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["tile", "gram", "dot"]

# Heads wider than this many times their input are asked which tokens have a gradient at all: with
# the loss on completions alone the prompt's do not. Reading G once costs about 1 % of multiplying
# it with an input of 32 or more; in an adapter of rank 8 it cost 3 % of the whole pass.
_HEAD_RATIO = 4
_HEAD_INPUT = 32
# Gathering the tokens that count pays once a quarter of them can go.
_WORTH_DROPPING = 0.75


@dataclass(frozen=True, slots=True)
class Algebra:
    """One way to multiply the gradient of one weight for one sample, and its cost.

    Attributes:
        form: `tile` materialises the gradient, `gram` and `dot` do not.
        flops: Two per multiply-add, of one sample; forward and backward are not in it.
    """

    form: Form
    flops: float


def algebras(
    d_out: int,
    d_in: int,
    seq: int,
    *,
    directions: int,
    norms: bool,
    whole_gradient: bool,
    lookups: int = 0,
) -> list[Algebra]:
    """The ways that give what is wanted of a weight `(d_out, d_in)`, cheapest first.

    Of equally cheap ones that comes first which takes less memory.

    With norms alone the Gram form is the cheaper one below `seq` = d_out·d_in / (d_out + d_in).
    Each direction costs the Gram form a whole product over the tokens and the tile next to
    nothing, so with one direction or more the tile mostly wins.

    Args:
        d_out: Rows of the weight.
        d_in: Columns of the weight.
        seq: Tokens that were multiplied with the weight, 0 for a weight that is only looked up.
        directions: Number of directions, 0 for none.
        norms: Whether squared norms are wanted.
        whole_gradient: Whether somebody sees the gradient itself (a transform, a visitor): only
            the `tile` has it.
        lookups: Tokens that looked up a row of the same weight (an embedding, tied or not).

    Returns:
        Forms and floating-point operations per sample, matrix products alone (as torch's
        FlopCounterMode counts). Left out: element-wise work, 2·d_out·d_in of a tile's norm or
        2·seq² of a Gram form's, and 2·lookups·d_in a direction for rows that are looked up.
    """
    token = 2.0 * d_out * d_in
    dot = directions * seq * token
    found = [Algebra("tile", (seq + directions) * token)]
    if not whole_gradient and norms:
        gram = 2.0 * seq**2 * (d_out + d_in)
        looked_up = 2.0 * d_in * lookups * (seq + lookups)
        found.insert(0, Algebra("gram", gram + looked_up + dot))
    elif not whole_gradient:
        found.insert(0, Algebra("dot", dot))
    return sorted(found, key=lambda each: each.flops)


def worth_dropping(d_out: int, d_in: int, share: float) -> bool:
    """Whether it pays to leave tokens without a gradient out of a weight's products.

    Args:
        d_out: Rows of the weight.
        d_in: Columns of the weight.
        share: Share of the tokens that have a gradient.
    """
    return d_in >= _HEAD_INPUT and d_out > _HEAD_RATIO * d_in and share <= _WORTH_DROPPING
