"""PDS and LQS as sums over annotated steps: which they are, what each term is divided by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from didact.core.arrays import Float1D

AnnotationRule = Literal["pds", "interval", "paper"]


@dataclass(frozen=True, slots=True)
class AnnotatedStep:
    """One pass over the proxy set, at θ_i.

    Attributes:
        number: i.
        dot: Whether ⟨∇ℓ_n(θ_i), λ_{i+1}⟩ is wanted.
        norm: Whether ‖∇ℓ_n(θ_i)‖ is wanted.
    """

    number: int
    dot: bool
    norm: bool


def annotated_steps(rule: AnnotationRule, steps: int, every: int) -> tuple[AnnotatedStep, ...]:
    """The passes a rule needs, latest step first.

    Args:
        rule: `pds` and `interval` visit the multiples of `every` below T; `paper` visits 1,
            1 + every, … below T. `interval` divides by the norm at the step visited before (going
            back), `paper` by the norm one step later, `pds` by nothing.
        steps: T.
        every: K.
    """
    visited = range(rule == "paper", steps, every)
    if rule == "pds":
        return tuple(AnnotatedStep(i, dot=True, norm=False) for i in reversed(visited))
    asked = {*visited, *(divisor_step(rule, i, steps, every) for i in visited)}
    return tuple(AnnotatedStep(i, dot=i in visited, norm=True) for i in sorted(asked, reverse=True))


def divisor_step(rule: AnnotationRule, step: int, steps: int, every: int) -> int:
    """The step at whose norm a visited step's term is divided."""
    return min(step + (1 if rule == "paper" else every), steps)


@dataclass(frozen=True, slots=True)
class StepProducts:
    """What all passes gave for `n` samples.

    Attributes:
        dots: Step i → float64 `(n,)`, ⟨∇ℓ_n(θ_i), λ_{i+1}⟩; NaN where a sample has none.
        norms: Step i → float64 `(n,)`, ‖∇ℓ_n(θ_i)‖.
        lambda_norms: Step i → ‖λ_{i+1}‖.
        missing: Sample to the reason it has no products.
    """

    dots: Mapping[int, Float1D]
    norms: Mapping[int, Float1D]
    lambda_norms: Mapping[int, float]
    missing: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Annotation:
    """Scores of the `n` samples of a proxy set.

    Attributes:
        values: float64 `(n,)`; NaN on missing samples, as are the columns below.
        learnability: Σ ‖∇ℓ(θ_i)‖ / divisor, arXiv:2506.21545 eq. 6; None under `pds`.
        quality: Σ cos(λ_{i+1}, ∇ℓ(θ_i)), eq. 7, a zero gradient counting 0; None under `pds`.
        missing: Sample to the reason it has no score.
    """

    values: Float1D
    learnability: Float1D | None
    quality: Float1D | None
    missing: Mapping[int, str]

    @property
    def parts(self) -> dict[str, Float1D]:
        """The columns beside the score."""
        found = {"learnability": self.learnability, "quality": self.quality}
        return {k: v for k, v in found.items() if v is not None}


def sum_products(
    rule: AnnotationRule, products: StepProducts, *, steps: int, every: int, learning_rate: float
) -> Annotation:
    """Sum the products by a rule, sample by sample; every term is divided, the first visited too.

    `pds`: η·Σ_i dot_i. `interval`: η·Σ_i dot_i / ‖∇ℓ(θ_{i+K})‖. `paper`: Σ_i dot_i / ‖∇ℓ(θ_{i+1})‖.
    """
    missing = dict(products.missing)
    n = len(next(iter(products.dots.values())))
    values, learnability, quality = np.zeros(n), np.zeros(n), np.zeros(n)
    for step, dot in sorted(products.dots.items()):
        if rule == "pds":
            values += dot
            continue
        at = divisor_step(rule, step, steps, every)
        for row in np.flatnonzero(products.norms[at] == 0).tolist():
            missing.setdefault(
                row, f"its gradient is zero at inner step {at}, and the score divides by its norm"
            )
        below = np.where(products.norms[at] == 0, 1.0, products.norms[at])
        norm, lambda_norm = products.norms[step], products.lambda_norms[step]
        values += dot / below
        learnability += norm / below
        across = norm * lambda_norm
        quality += np.divide(dot, across, out=np.zeros(n), where=across != 0)
    if rule != "paper":
        values *= learning_rate
    rows = sorted(missing)
    for column in (values, learnability, quality):
        column[rows] = np.nan
    if rule == "pds":
        return Annotation(values, None, None, missing)
    return Annotation(values, learnability, quality, missing)
