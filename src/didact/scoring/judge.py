"""What every model scorer shares: the settings of the judging model, and how it meets a pool."""
# No postponed annotations: scorers inherit the settings, and their types are read from here.

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from didact.accounting.flops import Lengths
from didact.accounting.lengths import executed, typical_lengths
from didact.core.cost import Metered
from didact.core.errors import ConfigError, need
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import BatchScorer, BatchScores
from didact.core.render import Template
from didact.core.scores import Int1D
from didact.scoring.run import MODEL_ROWS

if TYPE_CHECKING:
    from didact.models.door import LanguageModel
    from didact.models.encode import Encoding, Tokens

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float64"]
Loss = Literal["completion", "all", "text"]
ModelTemplate = Literal["model", "plain", "roles", "chatml"]
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
    model_settings: ClassVar[tuple[str, ...]] = ("model",)

    def typical(self, stats: PoolStats) -> Int1D:
        """Lengths of samples as the model reads them, for all or for a few thousand of the pool.

        From the pool's histogram; loads the tokenizer, no model. As exact as the pool's token
        counts: read it with the model's own tokenizer.
        """
        need("judging with a model", "models")
        from didact.models.door import context_of, open_tokenizer
        from didact.models.encode import overhead
        from didact.models.folder import find

        path = find(self.model)
        tokenizer = open_tokenizer(path)
        return typical_lengths(
            stats,
            overhead=overhead(tokenizer, self._encoding(stats.kind, "plain")),
            max_length=self.max_length or context_of(path, tokenizer),
        )

    def executed(self, stats: PoolStats) -> tuple[Lengths, int]:
        """What the model reads of a pool, padding included, and its tokens without padding."""
        lengths = self.typical(stats)
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
        from didact.models.door import context_of, devices, open_tokenizer
        from didact.models.encode import check_chat_template
        from didact.models.folder import digest, find

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
            devices=devices(self.device),
            dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch,
            context=min(self.max_length or context, context),
        )


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A judging model that was checked and can be opened; small and picklable.

    Attributes:
        path: The model's folder.
        digest: Identity of its files.
        how: How samples become tokens.
        devices: Where it runs.
        dtype: Of weights and arithmetic.
        tokens_per_batch: Most tokens of a batch.
        context: Most tokens it reads at once.
    """

    path: Path
    digest: str
    how: "Encoding"
    devices: tuple[str, ...]
    dtype: Dtype
    tokens_per_batch: int
    context: int

    @contextmanager
    def open(self, device: str, *, attention: str | None = None) -> "Iterator[LanguageModel]":
        """The model on a device."""
        from didact.models.door import open_model

        with open_model(self.path, device=device, dtype=self.dtype, attention=attention) as model:
            yield model

    def tokens(self, batch: pa.RecordBatch, model: "LanguageModel") -> "Tokens":
        """The batch's column `turns` as tokens."""
        from didact.models.encode import encode

        return encode(batch.column("turns"), model.tokenizer, self.how)

    @property
    def facts(self) -> dict[str, Any]:
        """What the result depends on beside the settings."""
        from importlib.metadata import version

        from didact.models.door import torch_dtype

        names = ("torch", "transformers", "tokenizers")
        dtype = str(torch_dtype(self.dtype, self.devices[0])).removeprefix("torch.")
        versions = {name: version(name) for name in names}
        facts = {"model": self.digest, "dtype": dtype, "versions": versions}
        if self.how.kind == "labelled" and self.how.loss == "completion":
            facts["note"] = "completions labelled false were judged like the others; leave them out"
        return facts


Judgement = Callable[["LanguageModel", "Tokens", int], Metered[BatchScores]]


def judged(
    seat: Seat,
    function: Judgement,
    *,
    higher_is_better: bool,
    tasks: tuple[str, ...] = (),
    reduce: Literal["mean", "max"] = "mean",
    passes: int = 1,
    facts: Mapping[str, Any] | None = None,
    attention: str | None = None,
) -> "Judged":
    """A fitted scorer from a function of a model, the tokens of a batch and the pass's index.

    Args:
        seat: The judging model.
        function: `(model, tokens, index) → Metered[BatchScores]`, picklable; it scores the rows
            `tokens.scored` and leaves anything on the others, which become missing.
        higher_is_better: Direction of preference.
        tasks: Names of the K tasks.
        reduce: How scores per task become one.
        passes: How often it sees the pool.
        facts: What the result depends on beside the settings and the model.
        attention: Attention kernel of transformers; its default when None.
    """
    return Judged(
        seat=seat, function=function, higher_is_better=higher_is_better, tasks=tasks,
        reduce=reduce, passes=passes, facts={**seat.facts, **(facts or {})}, attention=attention,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Judged:
    """See `judged`."""

    seat: Seat
    function: Judgement
    higher_is_better: bool
    tasks: tuple[str, ...]
    reduce: Literal["mean", "max"]
    passes: int
    facts: Mapping[str, Any]
    attention: str | None
    columns: tuple[str, ...] = field(default=("turns",), init=False)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the model runs."""
        return self.seat.devices

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        """The model, opened once per worker and pass."""
        with self.seat.open(device, attention=self.attention) as model:
            yield partial(self._score, model, index)

    def _score(
        self, model: "LanguageModel", index: int, batch: pa.RecordBatch
    ) -> Metered[BatchScores]:
        tokens = self.seat.tokens(batch, model)
        found = self.function(model, tokens, index)
        scores = found.value
        missing = {**scores.missing, **tokens.missing}
        bad = np.flatnonzero(~np.isfinite(scores.values).all(axis=1))
        for row in bad.tolist():
            missing.setdefault(row, NOT_FINITE)
        return Metered(BatchScores(scores.values, scores.parts, missing), found.cost)
