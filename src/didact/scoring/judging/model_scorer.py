"""What every model scorer shares: the settings of the judging model, and how it meets a pool."""
# No postponed annotations: scorers inherit the settings, and their types are read from here.

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from didact.accounting.flops import Lengths
from didact.accounting.lengths import executed, typical_lengths
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float2D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, need
from didact.core.identity import versions
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import BatchScorer, BatchScores, Device, Fitted
from didact.core.render import Template
from didact.scoring.around.score_pool import MODEL_ROWS

if TYPE_CHECKING:
    from didact.models.encode import Encoding, Tokens
    from didact.models.language_model import LanguageModel

Dtype = Literal["auto", "float32", "bfloat16", "float64"]
Loss = Literal["completion", "all", "text"]
ModelTemplate = Literal["model", "plain", "roles", "chatml"]
JUDGING = ("torch", "transformers", "tokenizers")  # libraries that a judgement depends on
NOT_FINITE = "the model's loss or gradient is not a finite number, or the gradient is zero"


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The judging model and how samples are shown to it.

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

    headed: ClassVar[bool] = True  # whether passes end in the vocabulary head

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What `foreseen` makes of the models as their files describe them."""
        return self.foreseen(pool, target, self.specs(pool, target))

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The models that `foreseen` asks for, each by the setting that names it."""
        need("judging with a model", "models")
        shown = [self._encoding(s.kind, "plain") for s in (pool, target) if s is not None]
        return {"model": described(self.model, shown, headed=self.headed)}

    def foreseen(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """The cost, from sizes alone: no file is opened and no library of models needed.

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

    def _encoding(self, kind: Kind, pool_template: Template) -> "Encoding":
        from didact.models.encode import Encoding

        return Encoding(
            kind=kind, loss=self.loss, template=self.template, pool_template=pool_template
        )

    def seat(self, pool: Pool, where: str, *, truncate: bool = True) -> "Seat":
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
        from didact.models.encode import check_chat_template
        from didact.models.folder import digest, find
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
        return Seat(
            path=path,
            digest=digest(path),
            how=replace(
                self._encoding(pool.kind, pool.meta["template"]),
                max_length=(self.max_length or context) if truncate else None,
            ),
            device=self.device,
            dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch,
            context=min(self.max_length or context, context),
        )


def described(model: str, shown: Sequence["Encoding"], *, headed: bool) -> ModelSpec:
    """A model's numbers, from its configuration, its tokenizer and the headers of its weights.

    Args:
        model: A folder, or a hub name.
        shown: How it is shown samples, of each kind that there is.
        headed: Whether passes end in the vocabulary head.
    """
    from didact.models.architecture import read_spec
    from didact.models.encode import overhead
    from didact.models.folder import find
    from didact.models.language_model import context_of, open_tokenizer

    path = find(model)
    tokenizer = open_tokenizer(path)
    return replace(
        read_spec(path, head=None if headed else False),
        context=context_of(path, tokenizer),
        overhead=tuple({how.kind: overhead(tokenizer, how) for how in shown}.items()),
    )


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A judging model that was checked and can be opened; small and picklable.

    Attributes:
        path: The model's folder.
        digest: Identity of its files.
        how: How samples become tokens.
        device: Where it runs.
        dtype: Of weights and arithmetic.
        tokens_per_batch: Most tokens of a batch.
        context: Most tokens it reads at once.
    """

    path: Path
    digest: str
    how: "Encoding"
    device: Device
    dtype: Dtype
    tokens_per_batch: int
    context: int

    @contextmanager
    def open(self, device: str, *, attention: str | None = None) -> "Iterator[LanguageModel]":
        """The model on a device."""
        from didact.models.language_model import open_model

        with open_model(self.path, device=device, dtype=self.dtype, attention=attention) as model:
            yield model

    def tokens(self, batch: pa.RecordBatch, model: "LanguageModel") -> "Tokens":
        """The batch's column `turns` as tokens."""
        from didact.models.encode import encode

        return encode(batch.column("turns"), model.tokenizer, self.how)

    @property
    def identity(self) -> dict[str, Any]:
        """What values depend on that this model makes; whatever it is shown."""
        return {"model": self.digest, "dtype": self.dtype, "versions": versions(JUDGING)}

    @property
    def facts(self) -> dict[str, Any]:
        """What the result depends on beside the settings; its dtype shows where it is opened."""
        facts = {k: v for k, v in self.identity.items() if k != "dtype"}
        if self.how.kind == "labelled" and self.how.loss == "completion":
            facts["note"] = "completions labelled false were judged like the others; leave them out"
        return facts


Judgement = Callable[["LanguageModel", "Tokens"], Metered[BatchScores]]


def judged(
    seat: Seat,
    function: Judgement,
    *,
    higher_is_better: bool,
    facts: Mapping[str, Any] | None = None,
) -> Fitted:
    """A fitted scorer from a function of a model and the tokens of a batch.

    Args:
        seat: The judging model.
        function: `(model, tokens) → Metered[BatchScores]`, picklable; it scores the rows
            `tokens.scored` and leaves anything on the others, which become missing.
        higher_is_better: Direction of preference.
        facts: What the result depends on beside the settings and the model.
    """
    return Fitted(
        open=partial(_open, seat, function),
        columns=("turns",),
        higher_is_better=higher_is_better,
        device=seat.device,
        facts={**seat.facts, **(facts or {})},
    )


@contextmanager
def _open(seat: Seat, function: Judgement, index: int, device: str) -> Iterator[BatchScorer]:
    """The model, opened once per worker."""
    del index
    with seat.open(device) as model:
        yield partial(_judge, seat, function, model)


def _judge(
    seat: Seat, function: Judgement, model: "LanguageModel", batch: pa.RecordBatch
) -> Metered[BatchScores]:
    tokens = seat.tokens(batch, model)
    found = function(model, tokens)
    scores = found.value
    missing = without_number({**scores.missing, **tokens.missing}, scores.values)
    facts = {"dtype": model.dtype}
    return Metered(BatchScores(scores.values, scores.parts, missing, facts), found.cost)


def without_number(missing: Mapping[int, str], values: Float2D) -> dict[int, str]:
    """Rows without a score and why; those whose values are not finite among them."""
    out = dict(missing)
    for row in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        out.setdefault(row, NOT_FINITE)
    return out
