"""LQS: PDS with every term divided by the size of the sample's gradient a little later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from didact.core.identity import method
from didact.scoring.adjoint.adjoint_scorer import AdjointScorer
from didact.scoring.adjoint.rules import AnnotationRule
from didact.scoring.judging.judging_model import MODEL_LIBRARIES


@method("lqs", libraries=MODEL_LIBRARIES, models=("model", "scorer_model"), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class LQS(AdjointScorer):
    """Learnability-quality score of a sample for the target set; higher is better.

    A sample scores high if its gradient points where the target's loss wants the model to go
    (quality), and shrinks while the model trains (learnability): Σ_i ⟨λ_{i+1}, ∇ℓ(θ_i)⟩ /
    ‖∇ℓ(θ_j)‖ over the annotated steps i, j a later step. Two columns beside the score:
    `learnability` is Σ ‖∇ℓ(θ_i)‖ / ‖∇ℓ(θ_j)‖, `quality` is Σ cos(λ_{i+1}, ∇ℓ(θ_i)).

    Args:
        rule: `interval` visits the multiples of K and divides by the norm at the step visited
            before it going back, θ_T for the first, times η; `paper` visits steps 1, 1 + K, … and
            divides by the norm one step later, which needs a second pass a step unless K = 1.
        steps: T, inner steps.
        learning_rate: η of the inner steps, constant.
        inner_batch: Samples of an inner step, drawn from the pool.
        every: K, inner steps from one annotated step to the next.
        proxy: Samples that are annotated, drawn from the pool, or `all`; by default 16,384, or all
            of a smaller pool. With fewer annotated than pool samples all scores are the data
            scorer's, in standard deviations of the annotated ones, without further columns.
        hvp: Hessian-vector products exactly, or by central differences of gradients.
        scorer_model: Encoder or decoder the data scorer starts from, a folder or a hub name; the
            judging model when not given.
        scorer_epochs: Passes of its training over the annotated samples.
        scorer_learning_rate: Its highest.
        model, device, dtype, loss, template, max_length, tokens_per_batch: As for every model
            scorer, but float32 by default: bfloat16 cannot hold small inner steps.

    **Source:** Dai et al. 2025 (DELT), arXiv:2506.21545, eq. 9 for `paper`; `interval` is what its
    code sets out to do with every term divided, where the code divides the first visited one by 1
    and hands most samples the value of another. A sample's score here depends on no other sample
    of its batch. All of the model's parameters count.
    **Cost:** as `pds`, and one more pass over the annotated samples: T/K + 1 gradients of each (6N
    a token), nearly all of it. Twice that under `paper` with K above 1.
    """

    rule: Literal["interval", "paper"] = "interval"

    @property
    def annotation_rule(self) -> AnnotationRule:
        """The setting `rule`."""
        return self.rule
