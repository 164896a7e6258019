"""RDS+: how close a sample is to the target's in the hidden states of the judging model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from didact.accounting.flops import forward_flops
from didact.accounting.spec import ModelSpec, headless
from didact.core.cost import Cost, Metered
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.models.architecture import read_spec
from didact.models.embed import Vectors, hidden_states
from didact.models.encode import Loss
from didact.scoring.judging.judging_model import MODEL_LIBRARIES, JudgingModel
from didact.scoring.judging.model_scorer import ModelScorer
from didact.scoring.similarity.cosines import BatchEmbed, Encoder, Within, similarity

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel


@method("rds", libraries=MODEL_LIBRARIES, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class RDS(ModelScorer):
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
    headed = False

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """One forward pass over pool and target, from their token counts, without the head."""
        spec = headless(specs["model"])
        runs = [self.executed(s, spec) for s in (pool, target) if s is not None]
        return Cost(
            flops=sum(forward_flops(spec, n.tokens, n.squares) for n, _ in runs),
            tokens=sum(tokens for _, tokens in runs),
        )

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """The target's vectors."""
        judge = self.judging_model(pool, self.where)
        target_judge = self.judging_model(target, self.where)
        spec = read_spec(judge.path, head=False)
        weighted = self.loss == "completion"

        def encoder(judge: JudgingModel) -> Encoder:
            return Encoder(
                open=partial(_open_states, judge, spec, weighted=weighted),
                columns=("turns",),
                device=judge.device,
                identity=["states", judge.identity, asdict(judge.encoding), weighted],
            )

        return similarity(
            encoder(judge),
            target,
            ctx,
            target_encoder=encoder(target_judge),
            within=self.within,
            reduce=self.reduce,
            where=self.where,
            facts={**judge.facts, "max_length": judge.context},
        )


@contextmanager
def _open_states(
    judge: JudgingModel, spec: ModelSpec, device: str, *, weighted: bool
) -> Iterator[tuple[BatchEmbed, dict[str, str]]]:
    """A judging model whose hidden states are read, on a device."""
    with judge.open(device) as model:
        yield partial(_embed, judge, spec, model, weighted=weighted), {"dtype": model.dtype}


def _embed(
    judge: JudgingModel,
    spec: ModelSpec,
    model: LanguageModel,
    batch: pa.RecordBatch,
    *,
    weighted: bool,
) -> Metered[Vectors]:
    return hidden_states(
        model, spec, judge.tokens(batch, model), weighted=weighted,
        tokens_per_batch=judge.tokens_per_batch,
    )  # fmt: skip
