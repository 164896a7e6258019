"""N-grams of words, hashed: runs of n neighboring words of many texts at once.

Words are those of `didact.text.words`, where a character of a script without spaces is a word: its
1- and 2-grams are characters and pairs of characters, which is what Chinese and Japanese retrieval
indexes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from didact.text.words import hash_words

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from didact.core.arrays import Int1D, UInt64s
    from didact.text.words import Words

_BASE: Final = 0x9E3779B97F4A7C15  # odd, so that no bit of a word's hash is lost
_PAIR: Final = np.uint64(1)


def ngram_hashes(words: UInt64s, n: int) -> UInt64s:
    """Hash of every run of n words: Σ word[i + k] · base^(n - 1 - k) modulo 2⁶⁴.

    Args:
        words: Hashes of `w` words.
        n: Words of a run, ≥ 1.

    Returns:
        uint64 `(max(w - n + 1, 0),)`.

    **Cost:** about 2 · log₂ n multiplications a word: runs are joined from runs of 1, 2, 4, …
    """
    size = len(words) - n + 1
    if size <= 0:
        return np.empty(0, np.uint64)
    runs, run = words, 1
    joined, done = np.zeros(size, np.uint64), 0
    while True:
        power = np.uint64(pow(_BASE, run, 1 << 64))
        if n & run:
            joined = joined * power + runs[done : done + size]
            done += run
        if 2 * run > n:
            return joined
        runs = runs[:-run] * power + runs[run:]
        run *= 2


def run_hashes(words: UInt64s, ends: Int1D) -> UInt64s:
    """Hash of the run `words[i:ends[i]]` of each of the first words: as `ngram_hashes` hashes it.

    With sums of word[k] / base^(k + 1) from the beginning on, a run is the difference of two of
    them times base^end; an odd base has an inverse modulo 2⁶⁴.

    Args:
        words: Hashes of `w` words.
        ends: int64 `(m,)`, m ≤ w: where the run of word i ends, i < end ≤ w.

    **Cost:** about 15 ns a word.
    """
    inverse = np.uint64(pow(_BASE, -1, 1 << 64))
    up: UInt64s = np.cumprod(np.full(len(words), _BASE), dtype=np.uint64)  # base^(k + 1)
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(np.cumprod(np.full(len(words), inverse), dtype=np.uint64) * words, out=sums[1:])
    return (sums.take(ends) - sums[: len(ends)]) * up.take(ends - 1)


def hash_short_texts(words: Words, short: npt.NDArray[np.bool_]) -> tuple[Int1D, UInt64s]:
    """Those of the texts marked `short` that have words, and hashes of all their words in order."""
    counts = words.counts
    rows = np.flatnonzero((counts > 0) & short)
    starts, counts = words.offsets[rows], counts[rows]
    hashes = counts.astype(np.uint64)
    for k in range(counts.max(initial=0)):
        longer = np.flatnonzero(counts > k)
        hashes[longer] = hashes[longer] * np.uint64(_BASE) + words.hashes[starts[longer] + k]
    return rows, hashes


@dataclass(frozen=True, slots=True)
class Grams:
    """The 1- and 2-grams of a batch of `n` texts.

    Attributes:
        hashes: uint64 `(g,)`: first word, first pair, second word, second pair, …, text after text.
            The lowest bit is 1 on pairs and 0 on words.
        offsets: int64 `(n + 1,)`: the grams of text `i` are `hashes[offsets[i]:offsets[i + 1]]`.
    """

    hashes: UInt64s
    offsets: Int1D


def hash_grams(texts: pa.LargeStringArray) -> Grams:
    """The words and the pairs of neighboring words of a batch of texts.

    A text of w words has 2·w - 1 grams, or none. Two different grams share a hash with a
    probability of about 2⁻⁶³.

    **Cost:** about 7 ns a byte on one core of 2021; memory 50 bytes a word and 10 MiB.
    """
    return grams(hash_words(texts))


def grams(words: Words) -> Grams:
    """Words that are hashed, and their pairs, as `hash_grams` has them."""
    total = len(words.hashes)
    hashes = np.empty(2 * total, np.uint64)
    hashes[::2] = words.hashes & ~_PAIR
    hashes[1:-1:2] = ngram_hashes(words.hashes, 2) | _PAIR
    counts = words.counts
    keep = np.ones(2 * total, np.bool_)
    keep[2 * words.offsets[1:][counts > 0] - 1] = False  # a pair of two texts
    offsets = 2 * words.offsets
    offsets[1:] -= np.cumsum(counts > 0)
    return Grams(hashes[keep], offsets)
