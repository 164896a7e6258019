"""Instruction-following difficulty: how little the prompt helps a model with the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from didact.accounting.flops import forward_flops
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.models.encode import start_token
from didact.models.tokens import Tokens
from didact.scoring.judging.judging_model import MODEL_LIBRARIES
from didact.scoring.judging.model_scorer import ModelScorer, judged

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel

AboveOne = Literal["drop", "keep"]
Ratio = Literal["perplexity", "loss"]

NO_HELP = "IFD above 1: the answer is harder to foretell with its prompt than without"


@method("ifd", libraries=MODEL_LIBRARIES, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class IFD(ModelScorer):
    """Perplexity of the answers given their prompts ÷ of the same answers alone; higher is better.

    Near 0 the prompt gives the answer away; near 1 it hardly helps, which is what the method looks
    for. Both passes read the same tokens of the answer. *Alone* means that a turn that is learned
    stands right after the tokenizer's BOS (EOS where it has none), without template, prompt or
    earlier turns; the mean is over the tokens of all such turns of a sample, by their weights.
    The ratio depends on the template: a base model that has never seen the marks of a chat template
    is hindered by them, and every ratio can come out above 1. Then use `template: roles` or
    `plain`.

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: Only `completion`: the turns a trainer learns, each by its weight.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Most tokens of a sample, the model's context when not given; answers are cut
            alike in both passes, and the column `truncated` tells.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
        ratio: Of perplexities, or of mean losses. Both are above 1 for the same samples.
        above_one: `drop` makes samples above 1 missing, as the paper leaves them out: there the
            prompt misleads, mostly because the two do not belong together. The column `ifd` has
            the ratio of every sample in any case.

    **Source:** Li et al. 2023, arXiv:2308.12032, whose released code takes the ratio of losses and
    puts "### Response:" before the answer alone; the ratio of perplexities without it is that of
    their later code (arXiv:2402.00530). There BOS stands before the answer only where the tokenizer
    adds one of itself; GPT-2's adds none, so the answer's first token is not counted alone.
    **Cost:** a forward pass over the samples, and one over their answers.
    """

    loss: Literal["completion"] = "completion"
    ratio: Ratio = "perplexity"
    above_one: AboveOne = "drop"

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """Two forward passes: whole samples, then the answers, by their share of the bytes."""
        del target
        spec = specs["model"]
        given, tokens = self.executed(pool, spec)
        alone = pool.learned * min(pool.n_tokens, tokens) + pool.n  # and a BOS each
        both = 1 + alone / max(tokens, 1)
        squares = given.squares * (1 + (both - 1) ** 2)
        flops = forward_flops(spec, round(given.tokens * both), squares)
        return Cost(flops=flops, tokens=round(tokens * both))

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check the model against the pool; note the template, on which the scores depend."""
        del target, ctx
        from didact.models.language_model import open_tokenizer

        if pool.kind == "text":
            raise ConfigError(
                "score.ifd: raw text has no prompts and answers; use perplexity, or a pool of chats"
            )
        judge = self.judging_model(pool, self.where)
        tokenizer = open_tokenizer(judge.path)
        first = start_token(tokenizer)
        if not first:
            raise ConfigError(
                f"score.ifd: the tokenizer of {self.model} has neither BOS nor EOS, after which an "
                "answer alone could stand; set its bos_token"
            )
        score = partial(
            score_tokens,
            first=first[0],
            ratio=self.ratio,
            above_one=self.above_one,
            tokens_per_batch=judge.tokens_per_batch,
        )
        return judged(judge, score, higher_is_better=True, facts=self._facts(tokenizer))

    def _facts(self, tokenizer: Any) -> dict[str, str]:
        if self.template != "model":
            return {"template": self.template}
        text = str(tokenizer.chat_template)
        return {"template": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def score_tokens(
    model: LanguageModel,
    tokens: Tokens,
    *,
    first: int,
    ratio: Ratio,
    above_one: AboveOne,
    tokens_per_batch: int,
) -> Metered[BatchScores]:
    """IFD of every sample of a batch; `first` is the token before an answer alone."""
    from didact.models.windows import counted_runs, likelihood, whole_samples

    given = likelihood(model, whole_samples(tokens), tokens_per_batch=tokens_per_batch)
    alone = likelihood(model, counted_runs(tokens, first), tokens_per_batch=tokens_per_batch)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        perplexities = np.exp([given.value.mean, alone.value.mean])
        if ratio == "perplexity":
            values = np.exp(given.value.mean - alone.value.mean)
        else:
            values = given.value.mean / alone.value.mean
    parts = {
        "ifd": values,
        "perplexity_given_prompt": perplexities[0],
        "perplexity_alone": perplexities[1],
        "tokens": given.value.counted.astype(np.float64),
        "truncated": tokens.truncated.astype(np.float64),
    }
    missing: dict[int, str] = {}
    if above_one == "drop":
        with np.errstate(invalid="ignore"):
            missing = dict.fromkeys(np.flatnonzero(values > 1).tolist(), NO_HELP)
    cost = given.cost + alone.cost
    return Metered(BatchScores(values.reshape(-1, 1), parts, missing), cost)
