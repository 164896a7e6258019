"""What perplexity and bits per byte share: a sample's likelihood, read in overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from didact.accounting.flops import forward_flops
from didact.accounting.lengths import executed, window_and_stride, windowed_lengths
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float1D
from didact.core.cost import Cost, Metered
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Fitted
from didact.models.tokens import Tokens
from didact.scoring.around.score_pool import MODEL_ROWS
from didact.scoring.judging.model_scorer import ModelScorer, judged

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel
    from didact.models.windows import Likelihood

LikelihoodScore = Callable[["Likelihood", Tokens], Float1D]
UNLIMITED = 10**9  # tokens of a context that is not known


@dataclass(frozen=True, kw_only=True)
class WindowedLikelihood(ModelScorer):
    """A scorer that reads every token of a sample once, long samples in overlapping windows.

    Args:
        prefer: Which end is better.
        window: Most tokens the model reads at once; its context when not given.
        stride: From one window's start to the next; half a window when not given.
    """

    prefer: Literal["lowest", "highest"] = "lowest"
    window: Annotated[int, Field(ge=2)] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """A forward pass over all windows, also those of a long sample in which nothing counts."""
        del target
        spec = specs["model"]
        size, stride = self._windows(spec.context or UNLIMITED)
        lengths, scale = windowed_lengths(
            pool,
            size=size,
            stride=stride,
            max_length=self.max_length,
            overhead=spec.added(pool.kind),
        )
        ran, tokens = executed(
            lengths, scale=scale, tokens_per_batch=self.tokens_per_batch, rows=MODEL_ROWS
        )
        return Cost(flops=forward_flops(spec, ran.tokens, ran.squares), tokens=tokens)

    def fitted(self, pool: Pool, score: LikelihoodScore) -> Fitted:
        """The model checked against the pool, with what makes a score of a sample's likelihood.

        Args:
            pool: The pool.
            score: `(likelihood, tokens)` of a batch → float64 `(b,)`; a module-level function.
                Overflow and 0 / 0 in it become missing rows.
        """
        judge = replace(self, max_length=None).judging_model(pool, self.where, truncate=False)
        size, stride = self._windows(judge.context)
        return judged(
            replace(judge, encoding=replace(judge.encoding, max_length=self.max_length)),
            partial(
                score_tokens,
                score=score,
                size=size,
                stride=stride,
                cut=self.max_length is not None,
                tokens_per_batch=judge.tokens_per_batch,
            ),
            higher_is_better=self.prefer == "highest",
            facts={"window": size, "stride": stride},
        )

    def _windows(self, context: int) -> tuple[int, int]:
        """Size and stride of the windows.

        Raises:
            ConfigError: The window is beyond the context, or the stride leaves nothing in common.
        """
        return window_and_stride(
            context, self.window, self.stride, where=self.where, model=self.model
        )


def score_tokens(
    model: LanguageModel,
    tokens: Tokens,
    *,
    score: LikelihoodScore,
    size: int,
    stride: int,
    cut: bool,
    tokens_per_batch: int,
) -> Metered[BatchScores]:
    """The score of every sample of a batch, from its likelihood in windows."""
    from didact.models.windows import likelihood, windows

    pieces = windows(tokens, size, stride)
    found = likelihood(model, pieces, tokens_per_batch=tokens_per_batch)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        values = score(found.value, tokens)
    parts = {"tokens": found.value.counted.astype(np.float64), "nats": found.value.nats}
    if cut:
        parts["truncated"] = tokens.truncated.astype(np.float64)
    return Metered(BatchScores(values.reshape(-1, 1), parts), found.cost)
