"""Embeddings: how close a sample is in meaning to the samples of a target set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from didact.accounting.flops import forward_flops
from didact.accounting.lengths import executed, typical_lengths
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost
from didact.core.errors import ConfigError, need
from didact.core.identity import method, versions
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Device, Fitted
from didact.core.sample_field import Part, check_part
from didact.scoring.around.score_pool import MODEL_ROWS, needed
from didact.scoring.judging.model_scorer import JUDGING, Dtype
from didact.scoring.similarity.cosines import BatchEmbed, Encoder, Within, similarity

# Processor seconds a byte of text on a core of an AMD EPYC (Zen 3) that is shared with others, most
# of them the tokenizer's. Only `estimate` uses it.
_STATIC_SECONDS_PER_BYTE = 0.5e-6
_STATIC = ("model2vec", "tokenizers")
_SENTENCES = (*JUDGING, "sentence-transformers")


@method(
    "embedding",
    libraries=_SENTENCES,
    models=("model",),
    needs=("sentences",),
)
@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Cosine of a sentence encoder's embeddings of a sample and of the target's; higher is better.

    The encoder is a sentence-transformers model; only safetensors are read and no code that came
    with it is run. A text beyond the encoder's limit is cut: the column `truncated` says which.

    Args:
        model: A folder that sentence-transformers saved, or a hub name.
        field: The part of the pool's samples that is embedded.
        target_field: The part of the target's samples; by default as `field`.
        within: How cosines to the samples of one target task become its score: their `mean` or
            `max`; `each` keeps one score per target sample, for `round_robin` over samples.
        reduce: How the scores of several tasks (or target samples) become one.
        prompt: Put before every text, as some encoders want ("query: "); the model's default
            prompt when not given.
        max_length: Most tokens read of a text; the encoder's limit when not given.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.

    **Source:** the embedding baseline of Yin and Rush 2025 (arXiv:2410.16208), which takes the mean
    over target samples and of each sample the prompt (`field: prompt`).
    **Cost:** one pass of the encoder over at most `max_length` tokens of each sample, 2 FLOPs per
    weight and token and attention; with `within: each`, 8 bytes per sample and target sample.
    """

    model: str
    field: Part = "text"
    target_field: Part | None = None
    within: Within = "mean"
    reduce: Literal["mean", "max"] = "mean"
    prompt: str | None = None
    max_length: Annotated[int, Field(ge=4)] | None = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    tokens_per_batch: Annotated[int, Field(ge=1)] = 8192
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What `foreseen` makes of the encoder as its files describe it."""
        return self.foreseen(pool, target, self.specs(pool, target))

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The encoder, by the setting that names it."""
        need("score.embedding", "sentences")
        from didact.models.folder import find
        from didact.models.sentences import read_sentence_folder

        about = read_sentence_folder(find(self.model))
        kinds = dict.fromkeys(s.kind for s in (pool, target) if s is not None)
        added = tuple((kind, about.overhead) for kind in kinds)
        return {"model": replace(about.spec, context=about.limit, overhead=added)}

    def foreseen(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """One encoder pass over pool and target; counts whole texts, whatever `field` says.

        From sizes alone: no file is opened and no library of models needed.
        """
        spec = specs["model"]
        limit = min(filter(None, (self.max_length, spec.context)), default=None)
        runs = []
        for stats in (pool, target) if target is not None else (pool,):
            lengths = typical_lengths(stats, overhead=spec.added(stats.kind), max_length=limit)
            scale = stats.n / max(len(lengths), 1)
            most = self.tokens_per_batch
            runs.append(executed(lengths, scale=scale, tokens_per_batch=most, rows=MODEL_ROWS))
        return Cost(
            flops=sum(forward_flops(spec, n.tokens, n.squares) for n, _ in runs),
            tokens=sum(tokens for _, tokens in runs),
        )

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """The target's vectors."""
        from didact.models.folder import digest, find
        from didact.models.sentences import read_sentence_folder

        where = "score.embedding"
        target, target_field = _checked(self, pool, target, where)
        need("score.embedding", "sentences")
        path = find(self.model)
        limit = read_sentence_folder(path).limit
        if self.max_length is not None and self.max_length > limit:
            raise ConfigError(
                f"{where}.max_length={self.max_length}: {self.model} reads at most {limit} tokens"
            )
        limit = self.max_length or limit
        facts = {
            "model": digest(path),
            "max_length": limit,
            "versions": versions(_SENTENCES),
        }

        def encoder(part: Part) -> Encoder:
            return Encoder(
                open=partial(
                    _open_sentences, path, self.dtype, limit, self.tokens_per_batch, self.prompt
                ),
                columns=(part,),
                device=self.device,
                identity=["sentences", facts, self.dtype, self.prompt, part],
            )

        return similarity(
            encoder(self.field),
            target,
            ctx,
            target_encoder=encoder(target_field),
            within=self.within,
            reduce=self.reduce,
            where=where,
            facts=facts,
        )


@contextmanager
def _open_sentences(
    path: Path,
    dtype: Dtype,
    max_length: int,
    tokens_per_batch: int,
    prompt: str | None,
    device: str,
) -> Iterator[tuple[BatchEmbed, dict[str, str]]]:
    """A sentence encoder on a device."""
    from didact.models.language_model import torch_dtype
    from didact.models.sentences import open_sentence_encoder

    with open_sentence_encoder(
        path,
        device=device,
        dtype=dtype,
        max_length=max_length,
        tokens_per_batch=tokens_per_batch,
        prompt=prompt,
    ) as embed:
        yield (
            lambda batch: embed(batch.column(0).to_pylist()),
            {"dtype": str(torch_dtype(dtype, device))},
        )


@method("static_embedding", libraries=_STATIC, models=("model",), needs=("static",))
@dataclass(frozen=True, kw_only=True)
class StaticEmbedding:
    """Cosine of mean token vectors of a sample and of the target's; higher is better.

    A static embedding has one vector per token and no transformer, so it knows words and not their
    order. It is a hundred times faster than `embedding`, runs without torch and reads whole texts.

    Args:
        model: A folder that model2vec saved, or a hub name such as "minishlab/potion-base-8M".
        field: The part of the pool's samples that is embedded.
        target_field: The part of the target's samples; by default as `field`.
        within: How cosines to the samples of one target task become its score: their `mean` or
            `max`; `each` keeps one score per target sample, for `round_robin` over samples.
        reduce: How the scores of several tasks (or target samples) become one.

    **Source:** Model2Vec (github.com/MinishLab/model2vec); as a score, `embedding` with another
    encoder.
    **Cost:** one pass over the text, about 0.5 µs a byte on one core; no FLOPs of a model; with
    `within: each`, 8 bytes per sample and target sample.
    """

    model: str
    field: Part = "text"
    target_field: Part | None = None
    within: Within = "mean"
    reduce: Literal["mean", "max"] = "mean"
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of pool and target."""
        n_bytes = pool.n_bytes + (target.n_bytes if target is not None else 0)
        return Cost(cpu_seconds=_STATIC_SECONDS_PER_BYTE * n_bytes)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """The target's vectors."""
        from didact.models.folder import digest, find

        where = "score.static_embedding"
        target, target_field = _checked(self, pool, target, where)
        need("score.static_embedding", "static")
        path = find(self.model)
        facts = {
            "model": digest(path),
            "versions": versions(_STATIC),
        }

        def encoder(part: Part) -> Encoder:
            return Encoder(
                open=partial(_open_static, path),
                columns=(part,),
                device=None,
                identity=["static", facts, part],
            )

        return similarity(
            encoder(self.field),
            target,
            ctx,
            target_encoder=encoder(target_field),
            within=self.within,
            reduce=self.reduce,
            where=where,
            facts=facts,
        )


@contextmanager
def _open_static(path: Path, device: str) -> Iterator[tuple[BatchEmbed, dict[str, str]]]:
    """A static embedding; it runs in numpy, in whatever thread it is called."""
    from didact.models.embed import open_static_encoder

    del device
    with open_static_encoder(path) as embed:
        yield (lambda batch: embed(batch.column(0).to_pylist()), {})


def _checked(
    scorer: Embedding | StaticEmbedding, pool: Pool, target: Pool | None, where: str
) -> tuple[Pool, Part]:
    """The target set and the part of it that is embedded, both checked."""
    target = needed(target, where.removeprefix("score."))
    check_part(pool, scorer.field, f"{where}.field")
    part = scorer.target_field or scorer.field
    check_part(target, part, f"{where}.target_field", what="target set")
    return target, part
