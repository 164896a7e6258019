"""What every model scorer shares: its settings, its cost, and scoring a pool with its model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from didact.accounting.flops import Lengths
from didact.accounting.lengths import executed, typical_lengths
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float2D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, need
from didact.core.identity import about
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import BatchScorer, BatchScores, Device, Dtype, Fitted
from didact.core.render import Template
from didact.models.encode import (
    Encoding,
    Loss,
    ModelTemplate,
    check_chat_template,
)
from didact.models.folder import digest, find
from didact.models.tokens import Tokens
from didact.scoring.around.score_pool import MODEL_ROWS
from didact.scoring.judging.judging_model import JudgingModel

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel

NOT_FINITE = "the model's loss or gradient is not a finite number, or the gradient is zero"


@dataclass(frozen=True, kw_only=True)
class ModelScorer:
    """A scorer that judges with a language model: which one, and how samples are shown to it.

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: What counts: the `completion` (the turns a trainer learns, each by its weight), `all`
            tokens, or the sample as plain `text` without a template.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Most tokens of a sample; the model's context when not given.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
    """

    model: str
    device: Device = "auto"
    dtype: Dtype = "auto"
    loss: Loss = "completion"
    template: ModelTemplate = "model"
    max_length: Annotated[int, Field(ge=2)] | None = None
    tokens_per_batch: Annotated[int, Field(ge=1)] = 8192

    needs_target: ClassVar[bool] = False
    headed: ClassVar[bool] = True  # whether passes end in the vocabulary head

    @property
    def where(self) -> str:
        """Where its settings stand in a config, for messages: "score.perplexity"."""
        return f"score.{about(type(self)).name}"

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What a run will cost: `estimate_from_specs` of the models as their files have them."""
        return self.estimate_from_specs(pool, target, self.specs(pool, target))

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The models that `estimate_from_specs` asks for, each by the setting that names it."""
        need("judging with a model", "models")
        encodings = [self._encoding(s.kind, "plain") for s in (pool, target) if s is not None]
        return {"model": model_spec(self.model, encodings, headed=self.headed)}

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """What a run will cost, from sizes alone: opens no file and needs no library of models.

        As exact as the pool's token counts: read it with the model's own tokenizer.

        Args:
            pool: The pool's sizes.
            target: The target set's, for scorers that need one.
            specs: What `specs` gives, or the like made by hand.
        """
        raise NotImplementedError

    def typical(self, stats: PoolStats, spec: ModelSpec) -> Int1D:
        """Lengths of samples as the model reads them, for all or for a few thousand of the pool."""
        return typical_lengths(
            stats,
            overhead=spec.added(stats.kind),
            max_length=self.max_length or spec.context or None,
        )

    def executed(self, stats: PoolStats, spec: ModelSpec) -> tuple[Lengths, int]:
        """What the model reads of a pool, padding included, and its tokens without padding."""
        lengths = self.typical(stats, spec)
        scale = stats.n / max(len(lengths), 1)
        return executed(
            lengths, scale=scale, tokens_per_batch=self.tokens_per_batch, rows=MODEL_ROWS
        )

    def _encoding(self, kind: Kind, pool_template: Template) -> Encoding:
        return Encoding(
            kind=kind, loss=self.loss, template=self.template, pool_template=pool_template
        )

    def judging_model(self, pool: Pool, where: str, *, truncate: bool = True) -> JudgingModel:
        """The model checked against a pool, before anything is loaded.

        Args:
            pool: The pool, or a target set.
            where: For messages, such as "score.perplexity".
            truncate: Whether samples are cut at `max_length`, the model's context by default.

        Raises:
            DataError: The folder is no model, or holds remote code or only pickles.
            ConfigError: There is no such device, the samples do not fit the settings, the length is
                beyond the model's context.
        """
        need("judging with a model", "models")
        from didact.models.language_model import context_of, open_tokenizer

        path = find(self.model)
        tokenizer = open_tokenizer(path)
        chat = pool.kind != "text" and self.loss != "text"
        if chat and self.template == "model":
            try:
                check_chat_template(tokenizer)
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from error
        context = context_of(path, tokenizer)
        if self.max_length is not None and self.max_length > context:
            raise ConfigError(
                f"{where}.max_length={self.max_length}: {self.model} reads at most {context} tokens"
            )
        return JudgingModel(
            path=path,
            digest=digest(path),
            encoding=replace(
                self._encoding(pool.kind, pool.meta["template"]),
                max_length=(self.max_length or context) if truncate else None,
            ),
            device=self.device,
            dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch,
            context=min(self.max_length or context, context),
        )


def model_spec(model: str, encodings: Sequence[Encoding], *, headed: bool) -> ModelSpec:
    """A model's numbers, from its configuration, its tokenizer and the headers of its weights.

    Args:
        model: A folder, or a hub name.
        encodings: How it is shown samples, of each kind that there is.
        headed: Whether passes end in the vocabulary head.
    """
    from didact.models.language_model import spec_as_shown

    return spec_as_shown(find(model), encodings, head=None if headed else False)


Judgement = Callable[["LanguageModel", Tokens], Metered[BatchScores]]


def judged(
    judge: JudgingModel,
    function: Judgement,
    *,
    higher_is_better: bool,
    facts: Mapping[str, Any] | None = None,
) -> Fitted:
    """A fitted scorer from a function of a model and the tokens of a batch.

    Args:
        judge: The judging model.
        function: `(model, tokens) → Metered[BatchScores]`, picklable; it scores the rows
            `tokens.scored` and leaves anything on the others, which become missing.
        higher_is_better: Direction of preference.
        facts: What the result depends on beside the settings and the model.
    """
    return Fitted(
        open=partial(_open, judge, function),
        columns=("turns",),
        higher_is_better=higher_is_better,
        device=judge.device,
        facts={**judge.facts, **(facts or {})},
    )


@contextmanager
def _open(
    judge: JudgingModel, function: Judgement, index: int, device: str
) -> Iterator[BatchScorer]:
    """The model, opened once per worker."""
    del index
    with judge.open(device) as model:
        yield partial(_judge, judge, function, model)


def _judge(
    judge: JudgingModel, function: Judgement, model: LanguageModel, batch: pa.RecordBatch
) -> Metered[BatchScores]:
    tokens = judge.tokens(batch, model)
    found = function(model, tokens)
    scores = found.value
    missing = missing_or_not_finite({**scores.missing, **tokens.missing}, scores.values)
    facts = {"dtype": model.dtype}
    return Metered(BatchScores(scores.values, scores.parts, missing, facts), found.cost)


def missing_or_not_finite(
    missing: Mapping[int, str], values: Float2D, reason: str = NOT_FINITE
) -> dict[int, str]:
    """Rows without a score and why: the missing, and those with one of `(b, K)` not finite."""
    out = dict(missing)
    for row in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        out.setdefault(row, reason)
    return out
