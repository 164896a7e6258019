"""Embedding: how close a sample is in meaning to the samples of a target set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from didact.accounting.flops import forward_flops
from didact.accounting.lengths import executed, typical_lengths
from didact.accounting.spec import ModelSpec, headless
from didact.core.cost import Cost
from didact.core.errors import ConfigError, need
from didact.core.identity import method, versions
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Device, Dtype, Fitted
from didact.core.sample_field import SampleField, check_fields
from didact.models.folder import digest, find
from didact.models.sentences import open_sentence_encoder, read_sentence_folder
from didact.scoring.around.score_pool import MODEL_ROWS
from didact.scoring.judging.judging_model import MODEL_LIBRARIES
from didact.scoring.similarity.cosines import BatchEmbed, Encoder
from didact.scoring.similarity.text_similarity import TextSimilarity

LIBRARIES = (*MODEL_LIBRARIES, "sentence-transformers")


@method("embedding", libraries=LIBRARIES, models=("model",), needs=("sentences",))
@dataclass(frozen=True, kw_only=True)
class Embedding(TextSimilarity):
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
    over target samples and of each sample the first message (`field: first_message`).
    **Cost:** one pass of the encoder over at most `max_length` tokens of each sample, 2 FLOPs per
    weight and token and attention; with `within: each`, 8 bytes per sample and target sample.
    """

    prompt: str | None = None
    max_length: Annotated[int, Field(ge=4)] | None = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    tokens_per_batch: Annotated[int, Field(ge=1)] = 8192

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What a run will cost: `estimate_from_specs` of the encoder as its files describe it."""
        return self.estimate_from_specs(pool, target, self.specs(pool, target))

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The encoder, by the setting that names it."""
        need(self.where, "sentences")
        about = read_sentence_folder(find(self.model))
        kinds = dict.fromkeys(s.kind for s in (pool, target) if s is not None)
        added = tuple((kind, about.overhead) for kind in kinds)
        return {"model": replace(about.spec, context=about.limit, overhead=added)}

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """One encoder pass over pool and target; counts whole texts, whatever `field` says.

        From sizes alone: no file is opened and no library of models needed. A vocabulary head that
        the spec has does not count.
        """
        spec = headless(specs["model"])
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

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """The target's vectors."""
        check_fields(pool, target, self.field, self.target_field, self.where)
        encoder, facts = self.encoders()
        return self.fitted(target, ctx, encoder, facts)

    def encoders(self) -> tuple[Callable[[SampleField], Encoder], dict[str, Any]]:
        """The encoder of a field, ready to be opened, and what its vectors depend on."""
        need(self.where, "sentences")
        path = find(self.model)
        limit = read_sentence_folder(path).limit
        if self.max_length is not None and self.max_length > limit:
            raise ConfigError(
                f"{self.where}.max_length={self.max_length}: {self.model} reads at most {limit} "
                "tokens"
            )
        limit = self.max_length or limit
        facts = {"model": digest(path), "max_length": limit, "versions": versions(LIBRARIES)}

        def encoder(field: SampleField) -> Encoder:
            return Encoder(
                open=partial(
                    _open_sentences, path, self.dtype, limit, self.tokens_per_batch, self.prompt
                ),
                columns=(field,),
                device=self.device,
                identity=["sentences", facts, self.dtype, self.prompt, field],
            )

        return encoder, facts


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
