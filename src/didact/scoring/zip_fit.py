"""ZIP-FIT: how much better a sample compresses together with samples of a target set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from didact.core.arrays import Float2D, Int1D
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.findings import counted, were
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.core.sample_field import SampleField, check_fields
from didact.core.sampling import random_key, shuffled_rows
from didact.scoring.similarity.shared_words import note_on_words, words_known, words_of_sample
from didact.text.deflate.sizes import fast_backend
from didact.text.pair_sizes import (
    PairCodec,
    Sizes,
    distances,
    is_primed,
    pair_library,
    pair_sizes,
    resolve_pair_level,
)

# Processor seconds on one core of an AMD EPYC (Zen 3), rows of 600 bytes: of a pair, and of a byte
# of the two, by codec; only `estimate` uses them. zstd's are of level 3, DEFLATE's of all but 0.
_RATES: Final[dict[PairCodec, tuple[float, float]]] = {
    "gzip": (3e-6, 25e-9),
    "zlib": (3e-6, 25e-9),
    "isal": (4e-6, 9.5e-9),
    "zstd": (5e-6, 5e-9),
    "lz4": (1.5e-6, 2.4e-9),
}
_PRIMED: Final = (8e-6, 10e-9)  # of a pair and a byte of the target sample, of which
_FIRST: Final = 1024  # so many bytes are fast: later ones have more places to look at,
_LATER: Final = 36e-9  # and cost this
_PRIMING: Final = (90e-6, 40e-9)  # of a sample and a byte of it
_EMPTY: Final = "empty text: a compression distance needs at least one byte"


@method("zip_fit", libraries=("isal", "zstandard"))
@dataclass(frozen=True, kw_only=True)
class ZipFit:
    """1 - mean normalised compression distance to the target's samples; higher is better.

    The distance of two texts is (C(ab) - min(C(a), C(b))) / max(C(a), C(b)), C being compressed
    bytes and ab the sample followed by the target's. 1 - distance is about 0.9 for copies and near
    0 for long texts that share nothing; short ones share the container, and have up to 0.2. It
    knows no words: markup, code and runs of characters in any script count as far as they repeat.
    Two texts of different lengths are never close, since what the longer one has more is in C(ab).

    Args:
        codec: `gzip`, the paper's, and `zlib` are DEFLATE in two containers; `isal`, `zstd` and
            `lz4` are faster and see less in short texts.
        level: The codec's own: gzip and zlib 0-9 (9), isal 0-3 (2), zstd 1-22 (3), lz4 0-12 (0);
            default in brackets. Level 0 of gzip and zlib stores the bytes as they are, so that the
            distance is a function of the two lengths and nothing else.
        max_targets: At most so many samples of each task are compared with, drawn by the seed;
            None takes all.
        field: The part of the pool's samples that is scored.
        target_field: The part of the target's samples; by default as `field`.
        reduce: How the scores of several tasks become one.

    **Source:** Obbad et al. 2024, "ZIP-FIT" (arXiv:2410.18194). Its package `zip-fit` 1.0.9 is
    `max_targets: null` with its `codec` (gzip, lz4, zstd) and `level`; its default of gzip at level
    0 does not compress at all, see `level`. Equal to a plain version in a test.
    **Cost:** samples × target samples × bytes. With gzip at level 9 a sample is compressed once and
    each target sample goes on from there: 110 µs a sample and 14 µs a pair of 600 bytes each on one
    core with numba (`pip install 'didact[fast]'`), else 33 µs a pair; lz4 4, zstd 11, isal 15.
    """

    codec: PairCodec = "gzip"
    level: int | None = None
    max_targets: Annotated[int, Field(ge=1)] | None = 64
    field: SampleField = "text"
    target_field: SampleField | None = None
    reduce: Literal["mean", "max"] = "mean"
    needs_target = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Pairs and their bytes times the rates of codec and level."""
        n_tasks = max(len(target.tasks), 1) if target is not None else 1
        n_targets = (self.max_targets or 1) * n_tasks
        if target is not None and (self.max_targets is None or target.n < n_targets):
            n_targets = target.n
        length = target.n_bytes / max(target.n, 1) if target is not None else 600.0
        pairs = pool.n * n_targets
        level = resolve_pair_level(self.codec, self.level)
        if is_primed(self.codec, level, n_targets) and fast_backend():
            seconds = _PRIMING[0] * pool.n + _PRIMING[1] * pool.n_bytes
            later = max(length - _FIRST, 0)
            seconds += pairs * (_PRIMED[0] + _PRIMED[1] * (length - later) + _LATER * later)
        else:
            fixed, per_byte = _RATES[self.codec]
            seconds = pairs * (fixed + per_byte * length) + per_byte * n_targets * pool.n_bytes
        return Cost(cpu_seconds=seconds)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """Draw the target's samples and compress each of them."""
        target_field = check_fields(pool, target, self.field, self.target_field, "score.zip_fit")
        level = resolve_pair_level(self.codec, self.level)
        filled = _with_text(target, target_field)
        rows = self._drawn(target, filled, ctx)
        texts = target.read(np.sort(rows), [target_field]).column(0).to_pylist()
        others = [texts[at].encode() for at in np.argsort(np.argsort(rows))]
        codes = target.task_codes[rows].astype(np.int64)
        for task, name in enumerate(target.task_names):
            if not (codes == task).any():
                raise DataError(
                    f"score.zip_fit: the {target_field} of target task {name!r} is empty; drop the "
                    "task, or set score.zip_fit.target_field to the part that has text"
                )
        alone = pair_sizes(self.codec, level, others)(b"")[:-1]
        facts = {
            "codec": self.codec,
            "level": level,
            "library": pair_library(self.codec),
            "target_samples": len(others),
        }
        sampled = words_of_sample(pool, self.field, random_key(ctx, "zip_fit"))
        known, words = words_known(pa.array(texts, pa.large_string()), sampled)
        # markup has no words, and repeats itself all the same
        apart = note_on_words(known / words if words else 1.0, "runs of bytes that mean nothing")
        note = "; ".join(filter(None, [apart, self._note(level, len(rows), len(filled))]))
        return one_pass(
            partial(score_texts, alone=alone, codes=codes, n_tasks=len(target.task_names)),
            (self.field,),
            tasks=target.task_names,
            reduce=self.reduce,
            facts={**facts, "note": note} if note else facts,
            open=partial(_open, self.codec, level, others),
        )

    def _drawn(self, target: Pool, filled: Int1D, ctx: Context) -> Int1D:
        """Rows of the target to compare with, of every task, in an order of their content alone."""
        mixed = shuffled_rows(target, filled, random_key(ctx, "zip_fit"))
        of = target.task_codes[mixed]
        return np.concatenate(
            [mixed[of == task][: self.max_targets] for task in range(len(target.task_names))]
        )

    def _note(self, level: int, used: int, rows: int) -> str:
        notes = []
        if used < rows:
            notes.append(
                f"{used:,} of {counted(rows, 'target sample')} with text {were(used)} drawn by the "
                "seed; score.zip_fit.max_targets sets how many of each task, and time grows with it"
            )
        if self.codec in {"gzip", "zlib"} and level == 0:
            notes.append(
                f"{self.codec} at level 0 stores without compressing, so these scores are a "
                "function of lengths alone; set score.zip_fit.level to 9"
            )
        return "; ".join(notes)


def _with_text(target: Pool, field: SampleField) -> Int1D:
    """Rows of the target whose field is not empty."""
    found = [np.empty(0, np.int64)]
    for rows in target.batches():
        size = pc.binary_length(target.read(rows, [field]).column(0))
        found.append(rows.start + np.flatnonzero(pc.fill_null(size, 0)))
    return np.concatenate(found)


@contextmanager
def _open(codec: PairCodec, level: int, others: list[bytes]) -> Iterator[Sizes]:
    """What a worker compresses with."""
    yield pair_sizes(codec, level, others)


def score_texts(
    sizes: Sizes, batch: pa.RecordBatch, *, alone: Int1D, codes: Int1D, n_tasks: int
) -> BatchScores:
    """Scores of the batch's only column: `(b, K)`; empty texts are missing."""
    texts = batch.column(0).to_pylist()
    values: Float2D = np.zeros((len(texts), n_tasks))
    times = np.bincount(codes, minlength=n_tasks)
    missing: dict[int, str] = {}
    for row, text in enumerate(texts):
        if text:
            near = 1 - distances(sizes(text.encode()), alone)
            values[row] = np.bincount(codes, near, n_tasks) / times
        else:
            missing[row] = _EMPTY
    return BatchScores(values, missing=missing)
