"""BM25: how much a sample shares the words of a target set, or runs of characters of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted, Progress
from didact.core.sample_field import SampleField, check_fields
from didact.text import bm25
from didact.text.bm25 import Variant
from didact.text.hash_set import HashSet

# Processor seconds a byte of both passes on one core of an AMD EPYC (Zen 3), 14 queries, reading
# included; each further query costs the second figure. Only `estimate` uses them.
_SECONDS_PER_BYTE = 25e-9
_SECONDS_PER_BYTE_AND_QUERY = 0.15e-9
_SECONDS_PER_BYTE_OF_TARGET = 15e-9


@method("bm25")
@dataclass(frozen=True, kw_only=True)
class BM25:
    """Lucene or Okapi BM25 of each sample against the target set; higher is better.

    One query per target task: the words of all its samples, a repeated word counting as often as
    it occurs. The score is a sum over the query's words, so tasks with longer texts have larger
    scores; the scores of every task are kept, and selectors over tasks compare ranks. Words are
    the terms of `didact.text.words`: in scripts without spaces, runs of two ideographs (Chinese,
    Japanese) or of three letters (Thai, Khmer, Burmese).

    Args:
        variant: `lucene` has weights that are never negative and lets words that are in more than
            half of the samples count next to nothing; `okapi` floors the weight of such words at
            ε times the mean weight of the pool's vocabulary.
        k1: Saturation of repeated words; 0 counts a word once.
        b: Length normalisation, 0 none to 1 full.
        epsilon: Okapi's ε.
        field: The part of the pool's samples that is scored.
        target_field: The part of the target's samples that makes the query; by default as `field`.
        reduce: How the scores of several tasks become one.

    **Source:** variants of `bm25s` with method="lucene" and of `rank_bm25.BM25Okapi`, whose other
    defaults are ours; equal to them in a differential test given the same words. As a selection
    method: Yin and Rush 2025, arXiv:2410.16208. Its released code (github.com/oseyosey/CCDS) is
    `variant: okapi, field: first_message, target_field: text`: it reads the first message of a row
    of the pool alone and makes one query of each validation subtask, its shots with their answers.
    Two things differ: its words are split at spaces after ASCII punctuation is dropped, and its
    queries hold the tags of a chat template. `field: prompt` is another score on rows of several
    turns, since it has all that is not learnt.
    **Cost:** two passes over the text, about 25 ns a byte on one core, twice that where there are
    no spaces; no model.
    """

    variant: Variant = "lucene"
    k1: Annotated[float, Field(ge=0)] = 1.5
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    epsilon: Annotated[float, Field(ge=0)] = 0.25
    field: SampleField = "text"
    target_field: SampleField | None = None
    reduce: Literal["mean", "max"] = "mean"
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of the pool times a rate that grows with the queries, and of the target."""
        n_tasks = len(target.tasks) if target is not None else 1
        per_byte = _SECONDS_PER_BYTE + _SECONDS_PER_BYTE_AND_QUERY * n_tasks
        of_target = _SECONDS_PER_BYTE_OF_TARGET * target.n_bytes if target is not None else 0.0
        return Cost(cpu_seconds=per_byte * pool.n_bytes + of_target)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """Pass 1: document frequencies of the query words, mean length, Okapi's mean weight."""
        target_field = check_fields(pool, target, self.field, self.target_field, "score.bm25")
        queries = _queries(target, target_field)
        task = _WordCount(pool, self.field, queries.among, vocabulary=self.variant == "okapi")
        totals = bm25.Totals(queries.among)
        ctx.progress(Progress("count words", 0, len(pool)))
        for counts in ctx.executor.map(count_rows, pool.batches(), shared=task):
            for part in counts:
                totals.add(part)
            ctx.progress(Progress("count words", totals.documents, len(pool)))
        fitted = bm25.statistics(totals, self.variant, k1=self.k1, b=self.b, epsilon=self.epsilon)
        facts = {k: v for k, v in asdict(fitted).items() if k not in {"variant", "k1", "b", "idf"}}
        facts["query_words"] = len(queries.among)
        return one_pass(
            partial(score_texts, queries=queries, fitted=fitted),
            (self.field,),
            tasks=target.task_names,
            reduce=self.reduce,
            facts=facts,
        )


@dataclass(frozen=True, slots=True)
class _WordCount:
    """What a worker of pass 1, which counts the query words, needs."""

    pool: Pool
    field: SampleField
    among: HashSet
    vocabulary: bool


def count_rows(task: _WordCount, rows: range) -> Metered[list[bm25.Counts]]:
    """Pass 1 over a range of rows."""
    texts = task.pool.read(rows, [task.field]).column(0)
    return Metered(bm25.count_batch(texts, task.among, vocabulary=task.vocabulary))


def score_texts(
    batch: pa.RecordBatch, *, queries: bm25.Queries, fitted: bm25.Statistics
) -> npt.NDArray[np.float64]:
    """Pass 2 over the batch's only column: `(b, K)`."""
    return bm25.score_batch(batch.column(0), queries, fitted)


def _queries(target: Pool, field: SampleField) -> bm25.Queries:
    """One query per task of the target set."""
    batches = [
        (target.read(rows, [field]).column(0), target.task_codes[rows.start : rows.stop])
        for rows in target.batches()
    ]
    queries = bm25.Queries.of(batches, len(target.task_names))
    for name, counts in zip(target.task_names, queries.counts, strict=True):
        if not counts.any():
            raise DataError(
                f"score.bm25: the {field} of target task {name!r} has no words; drop the task, or "
                "set score.bm25.target_field to the part that has them"
            )
    return queries
