"""What is learned from: the settings of learned scorers, and the features of a batch of texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from didact.core.arrays import Float2D, Int1D, UInt64s
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Device, Progress
from didact.core.sample_field import SampleField
from didact.core.sampling import MOST_BYTES
from didact.scoring import embedding, static_embedding
from didact.scoring.similarity.cosines import BatchEmbed, Encoder
from didact.text.gram_sets import BITS, GramSets, gram_sets, joined
from didact.text.linear import GramFeatures, VectorFeatures

FeatureKind = Literal["ngrams", "static_embedding", "embedding"]
Content = GramSets | npt.NDArray[np.float32]

_TOGETHER: Final = 512  # rows read at a time, where not all are
NO_WORDS: Final = "the text has no words to judge it by"
# Processor seconds a byte on one core of an AMD EPYC (Zen 3), reading included: of a text that is
# scored, and of one that is trained on, a fold. Only `estimate` uses them.
_SECONDS_PER_BYTE: Final = 15e-9
_SECONDS_PER_TRAINED_BYTE: Final = 45e-9
# And of the steps over all weights, a fold: so much where every feature occurs, of which so many
# bytes have 63 %.
_SECONDS_OF_WEIGHTS: Final = 0.05
_BYTES_OF_MOST_FEATURES: Final = 1.5e6


@dataclass(frozen=True, slots=True)
class Texts:
    """What models see of `n` texts.

    Attributes:
        content: Their grams, or vectors float32 `(n, d)`.
        keys: uint64 `(n,)`: equal on texts of the same words, which fall into one fold.
        shape: float64 `(n, 2)`: logarithm of their bytes, and the share of their words and pairs of
            words that stand there for the first time.
        missing: Row to the reason that nothing can be told of it.
    """

    content: Content
    keys: UInt64s
    shape: Float2D
    missing: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def features(self) -> GramFeatures | VectorFeatures:
        """As the features of a linear model."""
        if isinstance(self.content, GramSets):
            return GramFeatures(self.content)
        return VectorFeatures(self.content.astype(np.float64))

    @property
    def width(self) -> int:
        """Number of features."""
        return 1 << BITS if isinstance(self.content, GramSets) else self.content.shape[1]

    def features_that_occur(self) -> tuple[GramFeatures | VectorFeatures, Int1D]:
        """The features without those that no text has, and which they are."""
        if isinstance(self.content, GramSets):
            columns = np.flatnonzero(np.bincount(self.content.buckets))
            return GramFeatures(self.content, columns=columns), columns
        return self.features, np.arange(self.width)

    @property
    def present(self) -> Int1D:
        """The rows that something can be told of."""
        return np.setdiff1d(np.arange(len(self)), np.fromiter(self.missing, np.int64))

    def take(self, rows: Int1D) -> Texts:
        """Some of the texts, none of them missing."""
        content = self.content
        chosen = content.take(rows) if isinstance(content, GramSets) else content[rows]
        return Texts(chosen, self.keys[rows], self.shape[rows], {})

    @classmethod
    def joined(cls, parts: list[Texts]) -> Texts:
        """The texts of several, one after another; there must be one."""
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        sets = [part.content for part in parts if isinstance(part.content, GramSets)]
        vectors = [part.content for part in parts if not isinstance(part.content, GramSets)]
        return cls(
            np.concatenate(vectors) if vectors else joined(sets),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.shape for part in parts]),
            {
                start + row: why
                for start, part in zip(starts, parts, strict=False)
                for row, why in part.missing.items()
            },
        )


BatchTexts = Callable[[pa.RecordBatch], Metered[Texts]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts of one field become features; small and picklable.

    Attributes:
        open: `device` → the function of a batch whose first column is the field, and what shows
            only where it is open.
        field: The field.
        device: Where its model runs; None without one of its own.
        facts: What features depend on beside the settings.
    """

    open: Callable[[str], AbstractContextManager[tuple[BatchTexts, Mapping[str, str]]]]
    field: SampleField
    device: Device | None
    facts: Mapping[str, Any]

    def texts(self, pool: Pool, rows: Int1D, ctx: Context, what: str) -> Texts:
        """Texts of some rows, in the order asked for, in one worker.

        Args:
            pool: The pool or the target set.
            rows: Row indices `(n,)`.
            ctx: Charged with what it costs.
            what: For the progress, such as "read the target".
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]

        def read(device: str) -> Metered[Texts]:
            parts, cost = [], Cost()
            with self.open(device) as (features, _):
                for at in range(0, max(len(rows), 1), _TOGETHER):
                    some = ascending[at : at + _TOGETHER]
                    found = features(pool.read(some, [self.field]))
                    parts.append(found.value)
                    cost += found.cost
                    ctx.progress(Progress(what, at + len(some), len(rows)))
            return Metered(Texts.joined(parts), cost)

        ctx.progress(Progress(what, 0, len(rows)))
        found = ctx.executor.call(read, device=self.device)
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        missing = {int(order[row]): why for row, why in found.missing.items()}
        return replace(found.take(back), missing=missing)


@dataclass(frozen=True, kw_only=True)
class LearnedScorer:
    """A scorer that is a linear model of what texts hold, fitted to some of them.

    Args:
        features: `ngrams` are hashed words and pairs of words; `static_embedding` and `embedding`
            the vectors of the scorers of these names, for which `model` is needed.
        model: A folder with the encoder, or a hub name; not with `ngrams`.
        device: Where an `embedding` runs; `auto` is every visible accelerator, else the CPU.
        field: The part of the pool's samples that is looked at.
        folds: Models that are fitted, each without the rows that it is to judge.
    """

    features: FeatureKind = "ngrams"
    model: str | None = None
    device: Device = "auto"
    field: SampleField = "text"
    folds: Annotated[int, Field(ge=2, le=20)] = 5

    where: ClassVar[str]

    def encoder(self) -> embedding.Embedding | static_embedding.StaticEmbedding | None:
        """The scorer whose vectors are the features; None with `ngrams`.

        Raises:
            ConfigError: `model` is missing, or given where none is needed.
        """
        if self.features == "ngrams":
            if self.model is not None:
                raise ConfigError(
                    f"{self.where}.model={self.model}: features=ngrams takes no model; set "
                    f"{self.where}.features=static_embedding or embedding, or leave model out"
                )
            return None
        if self.model is None:
            raise ConfigError(
                f"{self.where}.features={self.features} needs {self.where}.model: a folder with "
                "the encoder, or a hub name; features=ngrams needs none"
            )
        if self.features == "embedding":
            return embedding.Embedding(model=self.model, device=self.device, field=self.field)
        return static_embedding.StaticEmbedding(model=self.model, field=self.field)

    def reading(self, of: SampleField) -> Reading:
        """How texts of a field become features."""
        scorer = self.encoder()
        if scorer is None:
            return Reading(open=open_grams, field=of, device=None, facts={})
        encoders, facts = scorer.encoders()
        encoder = encoders(of)
        return Reading(
            open=partial(_open_vectors, encoder), field=of, device=encoder.device, facts=facts
        )

    def estimate_learned(self, pool: PoolStats, target: PoolStats | None, rows: int) -> Cost:
        """What features cost, and fitting on so many rows of the pool beside the target."""
        share = rows / max(pool.n, 1)
        of_target = target.n_bytes if target is not None else 0
        trained = min(share * pool.n_bytes, MOST_BYTES) + min(of_target, MOST_BYTES)
        scorer = self.encoder()
        if scorer is not None:
            whole = scorer.estimate(pool, target)
            return whole + Cost(
                share * whole.flops, round(share * whole.tokens), share * whole.cpu_seconds
            )
        seconds = _SECONDS_PER_BYTE * (pool.n_bytes + trained)
        of_weights = -_SECONDS_OF_WEIGHTS * math.expm1(-trained / _BYTES_OF_MOST_FEATURES)
        fitting = _SECONDS_PER_TRAINED_BYTE * trained + of_weights
        return Cost(cpu_seconds=seconds + self.folds * fitting)


def libraries(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Distributions that the features depend on."""
    by_kind = {
        "static_embedding": static_embedding.LIBRARIES,
        "embedding": embedding.LIBRARIES,
    }
    return by_kind.get(str(settings.get("features")), ())


@contextmanager
def open_grams(device: str) -> Iterator[tuple[BatchTexts, Mapping[str, str]]]:
    """Grams need nothing that is kept."""
    del device
    yield _grams, {}


def _grams(batch: pa.RecordBatch) -> Metered[Texts]:
    texts = batch.column(0)
    sets = gram_sets(texts)
    missing = dict.fromkeys(np.flatnonzero(sets.counts == 0).tolist(), NO_WORDS)
    return Metered(Texts(sets, sets.keys, _shape(texts, sets), missing))


@contextmanager
def _open_vectors(encoder: Encoder, device: str) -> Iterator[tuple[BatchTexts, Mapping[str, str]]]:
    with encoder.open(device) as (embed, facts):
        yield partial(_vectors, embed), facts


def _vectors(embed: BatchEmbed, batch: pa.RecordBatch) -> Metered[Texts]:
    texts, found = batch.column(0), embed(batch)
    sets, vectors = gram_sets(texts), found.value
    return Metered(
        Texts(vectors.values, sets.keys, _shape(texts, sets), vectors.missing), found.cost
    )


def _shape(texts: pa.Array, sets: GramSets) -> Float2D:
    n_bytes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    return np.stack([np.log1p(n_bytes), sets.counts / np.maximum(sets.totals, 1)], axis=1)
