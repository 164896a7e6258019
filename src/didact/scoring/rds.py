"""RDS+: how close a sample is to the target's in the hidden states of the judging model."""
# No postponed annotations: the settings inherited from Judge are read with their types.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from didact.accounting.flops import forward_flops
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, need
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, FittedScorer
from didact.scoring.judge import Judge, Loss, Seat
from didact.scoring.similarity import BatchEmbed, Within, similarity

if TYPE_CHECKING:
    from didact.accounting.spec import ModelSpec
    from didact.models.door import LanguageModel
    from didact.models.embed import Vectors


@dataclass(frozen=True, kw_only=True)
class RDS(Judge):
    """Cosine of a language model's hidden states of a sample and of the target's; higher is better.

    A sample is the mean of its tokens' states in the last layer, token i weighted by i: later
    tokens have seen more. A sample beyond the model's context is cut: the column `truncated` says
    which.

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: Which tokens count: `all`, as in RDS+, those of the `completion` by their weights, or
            those of the sample as plain `text`.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Most tokens of a sample; the model's context when not given.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
        within: How cosines to the samples of one target task become its score: their `max`, as in
            RDS+, or `mean`; `each` keeps one score per target sample, for `round_robin` over
            samples, which is how RDS+ selects for one task.
        reduce: How the scores of several tasks (or target samples) become one.

    **Source:** RDS+ (Ivison et al. 2025, arXiv:2503.01807), position weights as in SGPT
    (arXiv:2202.08904). It reads 2,048 tokens of each sample and all tokens, the template's too;
    its scores for several tasks are `within: max` with the selector `round_robin`.
    **Cost:** one forward pass of the model without its vocabulary head over pool and target, 2
    FLOPs per weight and token and attention; with `within: each`, 8 bytes per sample and target
    sample.
    """

    loss: Loss = "all"
    within: Within = "max"
    reduce: Literal["mean", "max"] = "max"
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """One forward pass over pool and target, from their token counts."""
        need("judging with a model", "models")
        from didact.models.architecture import read_spec
        from didact.models.folder import find

        spec = read_spec(find(self.model), head=False)
        runs = [self.executed(s) for s in (pool, target) if s is not None]
        return Cost(
            flops=sum(forward_flops(spec, n.tokens, n.squares) for n, _ in runs),
            tokens=sum(tokens for _, tokens in runs),
        )

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> FittedScorer:
        """The target's vectors."""
        from didact.models.architecture import read_spec

        where = "score.rds"
        if target is None:
            raise ConfigError(f"{where}: needs a target set, the samples to select for")
        seat, target_seat = self.seat(pool, where), self.seat(target, where)
        spec = read_spec(seat.path, head=False)
        weighted = self.loss == "completion"
        return similarity(
            _States(seat=seat, spec=spec, weighted=weighted),
            target,
            ctx,
            target_encoder=_States(seat=target_seat, spec=spec, weighted=weighted),
            within=self.within,
            reduce=self.reduce,
            where=where,
            facts={**seat.facts, "max_length": seat.context},
        )


@dataclass(frozen=True, kw_only=True)
class _States:
    """A judging model whose hidden states are read."""

    seat: Seat
    spec: "ModelSpec"
    weighted: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Samples are rendered by the model's template."""
        return ("turns",)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the model runs."""
        return self.seat.devices

    @contextmanager
    def open(self, device: str) -> Iterator[BatchEmbed]:
        """The model on a device."""
        with self.seat.open(device) as model:
            yield partial(self._embed, model)

    def _embed(self, model: "LanguageModel", batch: pa.RecordBatch) -> "Metered[Vectors]":
        from didact.models.embed import hidden_states

        tokens = self.seat.tokens(batch, model)
        return hidden_states(
            model, self.spec, tokens, weighted=self.weighted,
            tokens_per_batch=self.seat.tokens_per_batch,
        )  # fmt: skip
