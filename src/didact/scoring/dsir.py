"""DSIR: how much likelier the n-grams of a sample are in a target set than in the pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from didact.core.arrays import Float2D, Int1D, UInt64s
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted, Progress
from didact.core.sample_field import SampleField, check_fields
from didact.core.sampling import random_key
from didact.scoring.similarity.shared_words import note_on_words, words_known, words_of_sample
from didact.text.importance import NGrams, WordKind, count, log_ratio, weigh

# Processor seconds a byte of both passes on one core of an AMD EPYC (Zen 3), one target task,
# reading included; each further task costs the second figure. Only `estimate` uses them.
_SECONDS_PER_BYTE: Final[dict[WordKind, float]] = {"words": 23e-9, "released": 650e-9}
_SECONDS_PER_BYTE_AND_TASK: Final = 1e-9
_SECONDS_PER_BYTE_OF_TARGET: Final[dict[WordKind, float]] = {"words": 30e-9, "released": 270e-9}
# A target whose n-grams leave buckets empty with more than this share of the pool's n-grams says
# more of what it happens to lack than of what it is like.
_MOSTLY_UNSEEN: Final = 0.9
_FEW_NGRAMS: Final = 200  # of a target, whatever share that is
_UNEVEN: Final = 4  # 90th over 10th percentile of lengths, from which sums are mostly length


@method("dsir")
@dataclass(frozen=True, kw_only=True)
class DSIR:
    """Log importance weight of each sample, target against pool, in nats; higher is better.

    Words and pairs of words are hashed into buckets; the weight is the mean over a sample's n-grams
    of log p_target - log p_pool of their buckets. The paper takes the sum, `per: sample`: a sample
    drawn with a probability in proportion to its exponential is a sample of the target as far as
    n-grams tell, and `select: {method: gumbel_top_k, unit: score, temperature: 1}` draws so. But a
    sum grows with length: most samples are less likely under the target, so that long ones have the
    lowest weights and short ones lie near 0. The paper cuts its pool into pieces of one length;
    where samples differ the mean found far more of a target's own kind, which is why it is the
    default here (docs/choose-a-method.md).

    Args:
        order: Runs of 1 to so many neighboring words.
        buckets: How many buckets n-grams are hashed into; the package has 10,000.
        features: `words` are the terms of `didact.text.words`, of every script, by a 64-bit hash;
            `released` are those of the package `data-selection`: NLTK's WordPunct tokens of the
            lower-cased text, punctuation among them, by SHA-256 modulo the buckets.
        smoothing: Added to every probability; the package has 1e-8.
        per: `ngram` is the mean over n-grams, which length does not enter; `sample` their sum, as
            published.
        min_words: Samples with fewer words have no score; 100 is the package's.
        separate_targets: One score for every task of the target; or one of all tasks together.
        field: The part of the pool's samples that is scored.
        target_field: The part of the target's samples; by default as `field`.
        reduce: How the scores of several tasks become one.

    **Source:** Xie et al. 2023, "Data Selection for Language Models via Importance Resampling"
    (arXiv:2302.03169); its package `data-selection` 1.0.3, to which `features: released,
    buckets: 10_000, smoothing: 1e-8, per: sample, min_words: 100` is equal in a test. More buckets
    and smoothing found more (docs/choose-a-method.md). Three things differ: NLTK from 3.10 on
    counts combining marks as letters, which is not done here; the package counts n-grams of the
    pool up to 100,000 a bucket, here all count; and it draws exact copies as separate samples.
    **Cost:** two passes over the text, about 23 ns a byte on one core, 1 more for each further
    task; 500 to 850 with `features: released`; one over the target, 30 and 270. Memory: 8 bytes a
    bucket and task; `released` also remembers the buckets of a million n-grams, 140 MiB in each
    worker.
    """

    order: Annotated[int, Field(ge=1, le=5)] = 2
    buckets: Annotated[int, Field(ge=2, le=1 << 20)] = 100_000
    features: WordKind = "words"
    smoothing: Annotated[float, Field(gt=0)] = 1e-6
    per: Literal["ngram", "sample"] = "ngram"
    min_words: Annotated[int, Field(ge=1)] = 1
    separate_targets: bool = True
    field: SampleField = "text"
    target_field: SampleField | None = None
    reduce: Literal["mean", "max"] = "mean"
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of the passes times a rate, which for the pool's grows with the number of tasks."""
        n_tasks = len(target.tasks) if target is not None and self.separate_targets else 1
        more = _SECONDS_PER_BYTE_AND_TASK * (max(n_tasks, 1) - 1)
        seconds = (_SECONDS_PER_BYTE[self.features] + more) * pool.n_bytes
        if target is not None:
            seconds += _SECONDS_PER_BYTE_OF_TARGET[self.features] * target.n_bytes
        return Cost(cpu_seconds=seconds)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """Pass 1: how many n-grams of the pool, and of each task, are in each bucket."""
        target_field = check_fields(pool, target, self.field, self.target_field, "score.dsir")
        ngrams = NGrams(self.order, self.buckets, self.features)
        sampled = words_of_sample(pool, self.field, random_key(ctx, "dsir"))
        of_target, known = self._count_target(target, target_field, ngrams, sampled, ctx)
        of_pool = np.zeros(self.buckets, np.int64)
        ctx.progress(Progress("count n-grams", 0, len(pool)))
        done, task = 0, _Counting(pool, self.field, ngrams)
        for rows, counts in ctx.executor.map(count_rows, pool.batches(), shared=task):
            of_pool += counts
            done += rows
            ctx.progress(Progress("count n-grams", done, len(pool)))
        return one_pass(
            partial(
                score_texts,
                ngrams=ngrams,
                log_ratios=np.stack([log_ratio(t, of_pool, self.smoothing) for t in of_target]),
                mean=self.per == "ngram",
                min_words=self.min_words,
            ),
            (self.field,),
            tasks=target.task_names if self.separate_targets else (),
            reduce=self.reduce,
            facts=_facts(of_pool, of_target.sum(axis=0), known, self._note_on_lengths(pool)),
        )

    def _note_on_lengths(self, pool: Pool) -> str:
        """That sums go with length, where samples differ in it; else ""."""
        if self.per == "ngram" or not len(pool):
            return ""
        low, high = np.quantile(pool.n_tokens, [0.1, 0.9])
        if high <= _UNEVEN * low:
            return ""
        return (
            f"samples differ in length ({low:,.0f} and {high:,.0f} tokens at the 10th and the 90th "
            "percentile) and summed weights go with it, short ones above long ones; "
            "score.dsir.per: ngram takes the mean"
        )

    def _count_target(
        self, target: Pool, field: SampleField, ngrams: NGrams, sampled: UInt64s, ctx: Context
    ) -> tuple[npt.NDArray[np.int64], float]:
        """Counts of each task, `(K, buckets)`, or of all together, `(1, buckets)`.

        And the share of the target's words that are in the sample.
        """
        names = target.task_names
        counts = np.zeros((len(names), self.buckets), np.int64)
        known = total = 0
        task = _Target(target, field, ngrams, sampled)
        for part in ctx.executor.map(count_target_rows, target.batches(), shared=task):
            for code, of_task in part.by_task.items():
                counts[code] += of_task
            known += part.known
            total += part.words
        if not self.separate_targets:
            counts, names = counts.sum(axis=0, keepdims=True), ("",)
        for name, found in zip(names, counts, strict=True):
            if not found.any():
                of = f"target task {name!r}" if self.separate_targets else "the target"
                raise DataError(
                    f"score.dsir: the {field} of {of} has no words; drop it, or set "
                    "score.dsir.target_field to the part that has them"
                )
        return counts, known / max(total, 1)


@dataclass(frozen=True, slots=True)
class _Counting:
    """What a worker of pass 1 needs."""

    pool: Pool
    field: SampleField
    ngrams: NGrams


def count_rows(task: _Counting, rows: range) -> Metered[tuple[int, Int1D]]:
    """Pass 1 over a range of rows: how many they are, and their n-grams in each bucket."""
    texts = task.pool.read(rows, [task.field]).column(0)
    return Metered((len(rows), count(texts, task.ngrams)))


@dataclass(frozen=True, slots=True)
class _Target:
    """What a worker needs that counts the target's n-grams."""

    target: Pool
    field: SampleField
    ngrams: NGrams
    sampled: UInt64s


@dataclass(frozen=True, slots=True)
class _Found:
    """What a range of the target's rows has.

    Attributes:
        by_task: Task code → n-grams in each bucket, int64 `(buckets,)`.
        known: Words that are in the sample of the pool.
        words: All words.
    """

    by_task: dict[int, Int1D]
    known: int
    words: int


def count_target_rows(task: _Target, rows: range) -> Metered[_Found]:
    """The n-grams of a range of the target's rows, and which words the pool's sample knows."""
    texts = task.target.read(rows, [task.field]).column(0)
    codes = task.target.task_codes[rows.start : rows.stop]
    by_task = {
        int(code): count(texts.take(pa.array(np.flatnonzero(codes == code))), task.ngrams)
        for code in np.unique(codes)
    }
    return Metered(_Found(by_task, *words_known(texts, task.sampled)))


def score_texts(
    batch: pa.RecordBatch, *, ngrams: NGrams, log_ratios: Float2D, mean: bool, min_words: int
) -> BatchScores:
    """Pass 2 over the batch's only column: `(b, K)`; texts with too few words are missing."""
    values, words, grams = weigh(batch.column(0), ngrams, log_ratios)
    if mean:
        values /= np.maximum(grams, 1)[:, np.newaxis]
    few = "no words" if min_words == 1 else f"fewer than {min_words} words"
    reason = f"{few}: score.dsir.min_words leaves it out" if min_words > 1 else few
    return BatchScores(
        values, missing=dict.fromkeys(np.flatnonzero(words < min_words).tolist(), reason)
    )


def _facts(of_pool: Int1D, of_target: Int1D, known: float, lengths: str) -> dict[str, Any]:
    """What was counted, and a note where a weight may not mean what it should."""
    unseen = float(of_pool[of_target == 0].sum() / max(of_pool.sum(), 1))
    facts: dict[str, Any] = {
        "pool_ngrams": int(of_pool.sum()),
        "target_ngrams": int(of_target.sum()),
        "pool_in_buckets_without_target": round(unseen, 4),
        "target_words_in_pool": round(known, 4),
    }
    notes = [lengths] if lengths else []
    if apart := note_on_words(known, "accidents of the hash"):
        notes.append(apart)
    elif unseen > _MOSTLY_UNSEEN or of_target.sum() < _FEW_NGRAMS:
        notes.append(
            f"{unseen:.0%} of the pool's n-grams are in buckets where the target's "
            f"{int(of_target.sum()):,} n-grams left none: scores say above all how many of these a "
            "sample has; give more target samples, or set fewer score.dsir.buckets or a larger "
            "score.dsir.smoothing"
        )
    return {**facts, "note": "; ".join(notes)} if notes else facts
