"""The inner training that PDS and LQS look at: its settings, and the steps they annotate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from didact.accounting.spec import ModelSpec
from didact.core.errors import ConfigError
from didact.core.pool import Kind, PoolStats
from didact.core.protocols import Dtype
from didact.models.encode import Encoding
from didact.scoring.adjoint.rules import AnnotatedStep, AnnotationRule, annotated_steps
from didact.scoring.judging.model_scorer import ModelScorer, model_spec

PROXY_ROWS = 16_384  # annotated samples unless the settings say otherwise
LEAST_PROXY = 20  # a tenth of them chooses the epoch


@dataclass(frozen=True, kw_only=True)
class InnerTraining(ModelScorer):
    """Settings that PDS and LQS share, beside those of the judging model.

    Args:
        steps: T, inner steps of plain SGD.
        learning_rate: Learning rate of the inner steps, constant.
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
    """

    dtype: Dtype = "float32"
    steps: Annotated[int, Field(ge=1)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 0.008
    inner_batch: Annotated[int, Field(ge=1)] = 16
    every: Annotated[int, Field(ge=1)] = 10
    proxy: Annotated[int, Field(ge=1)] | Literal["all"] | None = None
    hvp: Literal["forward_over_reverse", "finite_difference"] = "forward_over_reverse"
    scorer_model: str | None = None
    scorer_epochs: Annotated[int, Field(ge=1)] = 5
    scorer_learning_rate: Annotated[float, Field(gt=0)] = 1e-4

    needs_target: ClassVar[bool] = True

    @property
    def annotation_rule(self) -> AnnotationRule:
        """The rule that says which steps are annotated, and by what their products are divided."""
        raise NotImplementedError

    @property
    def annotated_steps(self) -> tuple[AnnotatedStep, ...]:
        """The passes over the proxy set, latest step first.

        Raises:
            ConfigError: There are none: rule `paper` begins at step 1.
        """
        found = annotated_steps(self.annotation_rule, self.steps, self.every)
        if not found:
            raise ConfigError(
                f"{self.where}.steps={self.steps}: rule=paper annotates the steps from 1 to "
                "steps - 1; set steps to 2 or more, or rule=interval"
            )
        return found

    @property
    def product_steps(self) -> list[int]:
        """Steps i of which annotation needs both θ_i and λ_{i+1}, for their product."""
        return [step.number for step in self.annotated_steps if step.dot]

    @property
    def norm_steps(self) -> list[int]:
        """Steps i of which it needs θ_i alone; T always, so that PDS and LQS share a folder."""
        return sorted({self.steps, *(s.number for s in self.annotated_steps if not s.dot)})

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The judging model; the data scorer too where a part of the pool is annotated."""
        found = super().specs(pool, target)
        if self.proxy_size(pool.n) < pool.n:
            model = self.scorer_model or self.model
            encodings = [self.data_scorer_encoding(pool.kind)]
            found["scorer_model"] = model_spec(model, encodings, headed=False)
        return found

    def data_scorer_encoding(self, kind: Kind) -> Encoding:
        """How samples are shown to the data scorer.

        It reads turns as plain text where the judging model has a template of its own.
        """
        template = "plain" if self.template == "model" else self.template
        return Encoding(kind=kind, loss=self.loss, template=template)

    def proxy_size(self, n: int) -> int:
        """Samples to annotate of a pool of n.

        Raises:
            ConfigError: `proxy` is too few for a data scorer to learn from, or more than n.
        """
        if self.proxy is None:
            return min(n, PROXY_ROWS)
        if self.proxy == "all":
            return n
        if self.proxy < min(n, LEAST_PROXY):
            raise ConfigError(
                f"{self.where}.proxy={self.proxy}: the data scorer learns from {LEAST_PROXY} "
                "samples or more, better from thousands"
            )
        if self.proxy > n:
            raise ConfigError(
                f"{self.where}.proxy={self.proxy}: the pool has {n} samples; set proxy=all "
                "or a smaller number"
            )
        return self.proxy
