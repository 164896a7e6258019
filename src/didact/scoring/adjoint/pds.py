"""PDS: how much a step on a sample would lower the target's loss during training."""

from __future__ import annotations

from dataclasses import dataclass

from didact.core.identity import method
from didact.scoring.adjoint.adjoint_scorer import AdjointScorer
from didact.scoring.adjoint.rules import AnnotationRule
from didact.scoring.judging.judging_model import MODEL_LIBRARIES


@method("pds", libraries=MODEL_LIBRARIES, models=("model", "scorer_model"), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class PDS(AdjointScorer):
    """Influence of a sample on the target's loss along a short training run; higher is better.

    The judging model is trained for T steps of plain SGD on random samples. With A the sum of the
    target's mean loss over these steps, the score is -∂A/∂ε where ε times the sample's gradient is
    added to every step: η·Σ_t ⟨λ_{t+1}, ∇ℓ(θ_t)⟩, exact for `every=1`, a sum over every K-th step
    otherwise. Values are in nats (from a data scorer, in
    standard deviations); near 0 for a sample that changes nothing.

    Args:
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

    **Source:** Gu et al. 2024, arXiv:2410.07064; the sum over every K-th step as in its code. All
    of the model's parameters count.
    **Cost:** T/K gradients of every annotated sample (6N a token each), nearly all of it; 5 - 1/√T
    gradients of each of T batches; T gradients of the target set. Memory: √T + 4 times the
    parameters in float32, √T of them on the host; disk: √T + 2T/K times.
    """

    @property
    def annotation_rule(self) -> AnnotationRule:
        """Multiples of K, undivided."""
        return "pds"
