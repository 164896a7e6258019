"""Static embedding: how close the words of a sample are to those of a target set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from didact.core.cost import Cost
from didact.core.errors import need
from didact.core.identity import method, versions
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sample_field import SampleField, check_fields
from didact.models.embed import open_static_encoder
from didact.models.folder import digest, find
from didact.scoring.similarity.cosines import BatchEmbed, Encoder
from didact.scoring.similarity.text_similarity import TextSimilarity

# Processor seconds a byte of text on a core of an AMD EPYC (Zen 3) that is shared with others, most
# of them the tokenizer's. Only `estimate` uses it.
_SECONDS_PER_BYTE = 0.5e-6
LIBRARIES = ("model2vec", "tokenizers")


@method("static_embedding", libraries=LIBRARIES, models=("model",), needs=("static",))
@dataclass(frozen=True, kw_only=True)
class StaticEmbedding(TextSimilarity):
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

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of pool and target."""
        n_bytes = pool.n_bytes + (target.n_bytes if target is not None else 0)
        return Cost(cpu_seconds=_SECONDS_PER_BYTE * n_bytes)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """The target's vectors."""
        check_fields(pool, target, self.field, self.target_field, self.where)
        encoder, facts = self.encoders()
        return self.fitted(target, ctx, encoder, facts)

    def encoders(self) -> tuple[Callable[[SampleField], Encoder], dict[str, Any]]:
        """The encoder of a field, ready to be opened, and what its vectors depend on."""
        need(self.where, "static")
        path = find(self.model)
        facts = {"model": digest(path), "versions": versions(LIBRARIES)}

        def encoder(field: SampleField) -> Encoder:
            return Encoder(
                open=partial(_open_static, path),
                columns=(field,),
                device=None,
                identity=["static", facts, field],
            )

        return encoder, facts


@contextmanager
def _open_static(path: Path, device: str) -> Iterator[tuple[BatchEmbed, dict[str, str]]]:
    """A static embedding; it runs in numpy, in whatever thread it is called."""
    del device
    with open_static_encoder(path) as embed:
        yield (lambda batch: embed(batch.column(0).to_pylist()), {})
