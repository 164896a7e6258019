"""Log importance weights over hashed n-grams: what a text looks like drawn from a target.

Two distributions over the same buckets, of a pool and of a target, and of every text the sum over
its n-grams of how much likelier their buckets are in the target. Counting (`count`) and scoring
(`weigh`) each read a text once; nothing of the text is kept.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float1D, Float2D, Int1D, UInt64s
from didact.text.ngrams import ngram_hashes
from didact.text.words import hash_terms

WordKind = Literal["words", "released"]

_HALF: Final = np.uint64(32)
_ROWS: Final = 4096  # looked at together
_TOKENS: Final = re.compile(r"\w+|[^\w\s]+")  # NLTK's WordPunctTokenizer
_KNOWN: Final = 1 << 20  # n-grams whose buckets are remembered, and those of a batch more


@dataclass(frozen=True, slots=True)
class NGrams:
    """Which n-grams count, and the buckets they fall into.

    Attributes:
        order: Runs of 1 to so many neighboring words.
        buckets: Number of buckets.
        features: `words` are the terms of `didact.text.words`, by a 64-bit hash; `released` are
            those of the package `data-selection`.
    """

    order: int
    buckets: int
    features: WordKind = "words"

    def places(self, texts: pa.LargeStringArray) -> Places:
        """The buckets of all n-grams of a batch of texts.

        **Cost:** `words`: about 6 ns a byte of English for two orders on one core of 2021;
        `released`: about 200 ns.
        """
        return self._released(texts) if self.features == "released" else self._words(texts)

    def _words(self, texts: pa.LargeStringArray) -> Places:
        words = hash_terms(texts)
        out = np.empty((self.order, len(words.hashes)), np.int64)
        for n in range(1, self.order + 1):
            hashes = words.hashes if n == 1 else ngram_hashes(words.hashes, n)
            out[n - 1, : len(hashes)] = _bucket(hashes, self.buckets)
        return self._within(out, words.offsets)

    def _released(self, texts: pa.LargeStringArray) -> Places:
        found: list[list[int]] = [[] for _ in range(self.order)]
        offsets = np.zeros(len(texts) + 1, np.int64)
        known = _sha256_buckets(self.buckets)
        if len(known) > _KNOWN:
            known.clear()
        for row, text in enumerate(texts.to_pylist()):
            words = _TOKENS.findall((text or "").lower())
            offsets[row + 1] = len(words)
            for n, places in enumerate(found, 1):
                grams = (
                    words
                    if n == 1
                    else map(" ".join, zip(*(words[k:] for k in range(n)), strict=False))
                )
                places.extend(map(known.__getitem__, grams))
                places.extend([self.buckets] * min(n - 1, len(words)))
        np.cumsum(offsets, out=offsets)
        return self._within(np.array(found, np.int64).reshape(self.order, -1), offsets)

    def _within(self, places: npt.NDArray[np.int64], offsets: Int1D) -> Places:
        """Put the n-grams that would reach into the next text into the bucket of none."""
        for n in range(1, self.order):
            for back in range(1, n + 1):
                ends = offsets[1:] - back
                places[n, ends[ends >= offsets[:-1]]] = self.buckets
        return Places(places, offsets)


@dataclass(frozen=True, slots=True)
class Places:
    """The buckets of the n-grams of `n` texts with `w` words.

    Attributes:
        buckets: int64 `(order, w)`: of the runs of 1, 2, … words that begin at each word; the
            number of buckets where the text ends before the run does.
        offsets: int64 `(n + 1,)`: the words of text `i` are `offsets[i]:offsets[i + 1]`.
    """

    buckets: npt.NDArray[np.int64]
    offsets: Int1D


def count(texts: pa.LargeStringArray, ngrams: NGrams) -> Int1D:
    """How many n-grams of some texts fall into each bucket, int64 `(buckets,)`."""
    total = np.zeros(ngrams.buckets, np.int64)
    for at in range(0, len(texts), _ROWS):
        places = ngrams.places(texts.slice(at, _ROWS)).buckets
        total += np.bincount(places.ravel(), minlength=ngrams.buckets + 1)[:-1]
    return total


def log_ratio(target: Int1D, pool: Int1D, smoothing: float) -> Float1D:
    """log(p_target + s) - log(p_pool + s) of each bucket, nats.

    Args:
        target: Counts of the target, `(buckets,)`, not all 0.
        pool: Counts of the pool, `(buckets,)`; all 0 only where nothing is weighed.
        smoothing: s, above 0: a probability, not a count.
    """
    p_target, p_pool = target / target.sum(), pool / max(pool.sum(), 1)
    return np.asarray(np.log(p_target + smoothing) - np.log(p_pool + smoothing))


def weigh(
    texts: pa.LargeStringArray, ngrams: NGrams, log_ratios: Float2D
) -> tuple[Float2D, Int1D, Int1D]:
    """Sums of log ratios over the n-grams of each text.

    Args:
        texts: `n` texts.
        ngrams: Which n-grams.
        log_ratios: `(K, buckets)`, one row for each of K targets.

    Returns:
        The sums, float64 `(n, K)`, nats; the words of each text and its n-grams, int64 `(n,)`.
        Sums run in the order of the words, so they do not depend on the rest of the batch.
    """
    sums = np.zeros((len(texts), len(log_ratios)))
    words = np.zeros(len(texts), np.int64)
    tables = np.pad(log_ratios, ((0, 0), (0, 1)))
    for at in range(0, len(texts), _ROWS):
        places = ngrams.places(texts.slice(at, _ROWS))
        counts = np.diff(places.offsets)
        rows = slice(at, at + len(counts))
        words[rows] = counts
        document = np.repeat(np.arange(len(counts)), counts)
        for k, table in enumerate(tables):
            value = table.take(places.buckets[0])
            for longer in places.buckets[1:]:
                value += table.take(longer)
            sums[rows, k] = np.bincount(document, value, minlength=len(counts))
    grams = sum(np.maximum(words - n, 0) for n in range(ngrams.order))
    return sums, words, np.asarray(grams)


def _bucket(hashes: UInt64s, buckets: int) -> Int1D:
    """Buckets in proportion to the high 32 bits: no division, and every bucket as likely."""
    return (((hashes >> _HALF) * np.uint64(buckets)) >> _HALF).view(np.int64)


class _SHA256Buckets(dict[str, int]):
    """N-gram, its words joined by spaces → its SHA-256 modulo the buckets; kept once computed."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self._buckets = buckets

    def __missing__(self, ngram: str) -> int:
        digest = hashlib.sha256(ngram.encode()).digest()
        bucket = self[ngram] = int.from_bytes(digest, "big") % self._buckets
        return bucket


@cache
def _sha256_buckets(buckets: int) -> _SHA256Buckets:
    return _SHA256Buckets(buckets)
