"""What `feature_based` works on: grams of many samples as numbered features, and lazy greedy.

Needs numba; imported only where it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from didact.core.cost import Metered
from didact.core.protocols import Progress
from didact.selection.feature_based import kernel
from didact.selection.greedy.heap import heapify
from didact.text.ngrams import hash_grams

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Float1D, Int1D, Int32s, UInt64s
    from didact.core.pool import Texts
    from didact.core.protocols import Context
    from didact.selection.greedy.shares import Shares


_FULL: Final = 0.7  # the share of a table at which it is enlarged,
_GROWTH: Final = 1.6  # and by how much
_NONE: Final = np.empty(0, np.int32)


@dataclass
class Features:
    """Features of samples 0..n-1, and how often each feature occurs in a sample.

    Attributes:
        once: Features that occur once in a sample, sample after sample, in order of appearance.
        once_at: Where each sample begins in `once`, `(n + 1,)`.
        more: Features that occur more often.
        times: How often each of `more` occurs in its sample.
        more_at: Where each sample begins in `more`, `(n + 1,)`.
        frequency: In how many samples each feature is, suspects and copies not counted.
        own: Pairs of each sample that no feature stands for, `(n,)`; 0 on suspects.
    """

    once: Int32s
    once_at: Int1D
    more: Int32s
    times: Int32s
    more_at: Int1D
    frequency: Int32s
    own: Int32s


def read_features(
    pool: Texts, rows: Int1D, ctx: Context, *, min_df: int, suspects: Bool1D
) -> Features:
    """Two passes over the samples' text: which grams are met twice, then which sample has which.

    Args:
        pool: The samples.
        rows: Ascending rows.
        ctx: Workers, progress.
        min_df: Samples a gram must be in, suspects and copies not counted.
        suspects: Samples that are noise, `(n,)`.

    **Cost:** some 35 ns a byte; memory 4 bytes a gram that is a feature of its sample, a bit to two
    per byte of text, and up to 30 bytes a feature.
    """
    items = [rows[part] for part in pool.parts(rows)]
    vocabulary = _Vocabulary(int(pool.n_bytes[rows].sum()), everything=min_df == 1)
    n_once = n_more = done = 0
    ctx.progress(Progress("grams", 0, len(rows)))
    met = ctx.executor.map(_meet, items, shared=pool)
    for item, (grams, repeated) in zip(items, met, strict=True):
        vocabulary.add(grams)
        n_once, n_more = n_once + len(grams) - repeated, n_more + repeated
        done += len(item)
        ctx.progress(Progress("grams", done, len(rows)))
    # Memory that is never written to is never taken: these need what is used of them.
    once, more, times = (np.empty(size, np.int32) for size in (n_once, n_more, n_more))
    once_at, more_at = (np.zeros(len(rows) + 1, np.int64) for _ in range(2))
    left = np.empty((len(rows), 2), np.int32)
    a = b = done = 0
    ctx.progress(Progress("features", 0, len(rows)))
    found = ctx.executor.map(_features, items, shared=(pool, vocabulary.keys, vocabulary.ids))
    for item, (its_once, its_once_at, its_more, its_times, its_more_at, totals) in zip(
        items, found, strict=True
    ):
        end = done + len(item)
        once[a : a + len(its_once)] = its_once
        more[b : b + len(its_more)] = its_more
        times[b : b + len(its_more)] = its_times
        once_at[done : end + 1] = its_once_at + a
        more_at[done : end + 1] = its_more_at + b
        left[done:end] = totals
        a, b, done = a + len(its_once), b + len(its_more), end
        ctx.progress(Progress("features", done, len(rows)))
    pair = kernel.pairs_of(vocabulary.keys, vocabulary.ids, vocabulary.known)
    features = Features(once[:a], once_at, more[:b], times[:b], more_at, _NONE, _NONE)
    counted = np.zeros(len(rows), np.bool_)
    counted[np.unique(pool.content_hash[rows], return_index=True)[1]] = True
    _drop_rare(features, pair, left, counted & ~suspects, min_df=min_df)
    features.own[suspects] = 0
    return features


def _drop_rare(
    features: Features,
    pair: npt.NDArray[np.uint8],
    totals: Int32s,
    counted: Bool1D,
    *,
    min_df: int,
) -> None:
    """Count in how many of some samples each feature is, and drop those that are in too few."""
    parts = ((features.once, features.once_at), (features.more, features.more_at))
    features.frequency = np.zeros(len(pair), np.int32)
    for part in parts:
        kernel.witness(*part, counted, features.frequency)
    for part in parts:
        kernel.subtract_known(*part, pair, features.frequency, min_df, totals)
    features.own = totals[:, 1]
    size = kernel.drop_rare(features.once, _NONE, features.once_at, features.frequency, min_df)
    features.once = features.once[:size]
    size = kernel.drop_rare(
        features.more, features.times, features.more_at, features.frequency, min_df
    )
    features.more, features.times = features.more[:size], features.times[:size]


class _Vocabulary:
    """Grams that were met in two samples and few others, numbered in the order they were found.

    Args:
        n_bytes: Of all texts. As many bits tell whether a gram was met: one in ten is set.
        everything: Number every gram.
    """

    def __init__(self, n_bytes: int, *, everything: bool) -> None:
        bits = max(16, n_bytes.bit_length())
        self._seen = np.full(1 << (bits - 3), 255 if everything else 0, np.uint8)
        self._shift = 64 - bits
        self.known = 0
        self.keys = np.empty(1 << 16, np.uint64)
        self.ids = np.full(1 << 16, -1, np.int32)

    def add(self, grams: UInt64s) -> None:
        """Meet the distinct grams of some samples."""
        at = 0
        while True:
            at, self.known = kernel.meet(
                grams, at, self._seen, self._shift, self.keys, self.ids, self.known,
                int(_FULL * len(self.ids)),
            )  # fmt: skip
            if at == len(grams):
                return
            slots = int(_GROWTH * len(self.ids))
            keys, ids = np.empty(slots, np.uint64), np.full(slots, -1, np.int32)
            kernel.rehash(self.keys, self.ids, keys, ids)
            self.keys, self.ids = keys, ids


def _meet(pool: Texts, rows: Int1D) -> Metered[tuple[UInt64s, int]]:
    """Distinct grams of each row, and how many of them repeat in it."""
    grams, counts, _ = _distinct(pool, rows)
    return Metered((grams, int((counts > 1).sum())))


def _features(shared: tuple[Texts, UInt64s, Int32s], rows: Int1D) -> Metered[tuple[Any, ...]]:
    """See `kernel.look_up`."""
    pool, keys, ids = shared
    return Metered(kernel.look_up(*_distinct(pool, rows), keys, ids))


def _distinct(pool: Texts, rows: Int1D) -> tuple[UInt64s, Int32s, Int1D]:
    """See `kernel.distinct`; the rows are of one batch of the pool."""
    grams = hash_grams(pool.texts_of(rows))
    distinct: tuple[UInt64s, Int32s, Int1D] = kernel.distinct(grams.hashes, grams.offsets)
    return distinct


def with_sources(
    features: Features,
    weight: Float1D,
    alone: Float1D,
    source: Int1D,
    n_bytes: Int1D,
    size: Float1D,
    *,
    balance: float,
    whole: Float1D | None = None,
) -> tuple[kernel.Samples, Float1D]:
    """What lazy greedy works on: the features, and sources that occur as often as there are bytes.

    Args:
        features: Features of the samples.
        weight: Weight of each feature, `(f,)`.
        alone: What each sample adds whatever is chosen, `(n,)`.
        source: Source of each sample, `(n,)`, from 0.
        n_bytes: Bytes of each sample, `(n,)`.
        size: What each gain is divided by, `(n,)`.
        balance: What all sources of all samples are worth, next to everything else of them.
        whole: Bytes of each source in what the samples are a part of, whose shares count; those of
            the samples when None.

    Returns:
        The samples, and the weights of all features and sources. Samples that add nothing else do
        not count for their source, but for one more that weighs nothing. A source weighs √ of its
        share of the bytes, so that what sources are worth is most where all have their shares.
    """
    of_source = np.bincount(source, weights=n_bytes)
    counts = kernel.occurrences(features.once, features.more, features.times, len(weight))
    worth = float((weight * np.sqrt(counts)).sum() + alone.sum())
    scale = balance * worth / max(float(of_source.sum()), 1.0)
    bare = (np.diff(features.once_at) == 0) & (np.diff(features.more_at) == 0) & (alone == 0)
    last = len(weight) + np.where(bare, len(of_source), source)
    samples = kernel.Samples(
        features.once, features.once_at, features.more, features.times, features.more_at,
        last.astype(np.int32), np.maximum(n_bytes, 1), alone, size,
    )  # fmt: skip
    kept: Float1D = of_source.astype(np.float64)
    if whole is not None:
        kept = whole[: len(of_source)] * (float(of_source.sum()) / max(float(whole.sum()), 1.0))
    return samples, np.concatenate([weight, scale * np.sqrt(kept), [0.0]])


class LazyGreedy:
    """The sample of largest gain next, of equal ones the lowest: a `Growth` by exact lazy greedy.

    Args:
        samples: The candidates.
        weight: Weight of each feature, `(f,)`; ≥ 0.
        shares: Groups of candidates whose shares are kept.

    Attributes:
        chunk: Picks worth asking for at a time.
    """

    chunk: int = 1000

    def __init__(self, samples: kernel.Samples, weight: Float1D, shares: Shares) -> None:
        n = len(samples.size)
        self._samples = samples
        self._shares = shares
        self._state = kernel.State(weight, np.zeros(len(weight), np.int64), weight.copy())
        self._fresh = np.zeros(n, np.int32)
        self._gone = np.zeros(n, np.bool_)
        self._picked = 0
        gains = np.empty(n)
        kernel.gains_of(gains, samples, self._state)
        self._rows = np.argsort(shares.group, kind="stable").astype(np.int32)
        self._gains = gains[self._rows]
        self._entries = np.bincount(shares.group, minlength=len(shares.share))
        self._begins = np.cumsum(self._entries) - self._entries
        for begin, size in zip(self._begins, self._entries, strict=True):
            ours = slice(begin, begin + size)
            heapify(self._gains[ours], self._rows[ours], size)

    def pick(self, most: int) -> Int1D:
        """See `Growth`."""
        picks = np.empty(most, np.int64)
        found = kernel.pick(
            picks, self._gains, self._rows, self._begins, self._entries, self._fresh, self._picked,
            self._gone, self._samples, self._state, self._shares,
        )  # fmt: skip
        self._picked += found
        return picks[:found]

    def block(self, positions: Int1D) -> None:
        """See `Growth`."""
        self._gone[positions] = True

    def replay(self, positions: Int1D) -> None:
        """See `Growth`."""
        for position in positions.tolist():
            kernel.add(position, self._samples, self._state)
        np.add.at(self._shares.picked, self._shares.group[positions], self._shares.size[positions])
        self._gone[positions] = True
        self._picked += len(positions)
