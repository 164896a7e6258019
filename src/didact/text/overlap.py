"""Overlap: which texts share a run of n words with held-out texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Int1D, UInt8s, UInt64s
from didact.text.hash_set import HashSet
from didact.text.ngrams import hash_short_texts, ngram_hashes, run_hashes
from didact.text.words import Words, hash_weighted_words, word_strings

RULE: Final = 2  # raised when texts overlap that did not, or the other way round
_BLOCK: Final = 1 << 14  # words looked at together: their temporaries stay near the processor


@dataclass(frozen=True)
class Overlap:
    """Finds texts that share a run of n words with held-out texts; picklable.

    A text of fewer than n words is compared as a whole: it overlaps when a held-out text has the
    same words. Words are those of `didact.text.words`: case and punctuation are ignored. Where
    there are no spaces they are characters, of which a run has more: four letters (Thai, Burmese)
    or two ideographs or syllables (Chinese, Japanese) count as one word.

    Attributes:
        n: Words of a run.
        runs: The held-out texts' runs of n words.
        short: The held-out texts of fewer than n words.
    """

    n: int
    runs: HashSet
    short: HashSet

    def __call__(self, texts: pa.LargeStringArray) -> list[tuple[int, str]]:
        """Rows of a batch that overlap, each with the first run of words it shares.

        Returns:
            (row in the batch, the shared words joined by spaces), ascending by row.

        **Cost:** about 10 ns a byte on one core of 2021, twice that where there are no spaces.
        """
        words, quarters = hash_weighted_words(texts)
        rows, hashes = _short(words, quarters, self.n)
        whole = rows[self.short.find(hashes) >= 0]
        found = [(int(row), 0, int(words.counts[row])) for row in whole]
        found += self._shared(words, quarters)
        return [
            (row, " ".join(word_strings(texts[row].as_py(), start, start + length)))
            for row, start, length in sorted(found)
        ]

    def _shared(self, words: Words, quarters: UInt8s) -> list[tuple[int, int, int]]:
        """Of each row that shares a run: the row, and the first such run's place and words."""
        none = np.empty(0, np.int64)
        places, lengths = [none], [none]
        for at, hashes, length in _runs(words, quarters, self.n):
            hits = np.flatnonzero(self.runs.may_contain(hashes))
            hits = hits[self.runs.find(hashes[hits]) >= 0]
            places.append(at + hits)
            lengths.append(length[hits])
        start, length = np.concatenate(places), np.concatenate(lengths)
        inside = _inside(words, start, length)
        start, length = start[inside], length[inside]
        rows, first = np.unique(_text_of(words, start), return_index=True)
        numbers = start[first] - words.offsets[rows]
        return list(zip(rows.tolist(), numbers.tolist(), length[first].tolist(), strict=True))


def overlap_with(held_out: Iterable[pa.LargeStringArray], *, n: int = 13) -> Overlap:
    """What finds texts that share n words in a row with the held-out texts.

    **Source:** 13 words, as Brown et al. 2020 (arXiv:2005.14165, appendix C) cleaned their
    benchmarks; unlike them, texts that are too short for one run are compared as a whole, and
    characters count as parts of words where there are no spaces.

    Args:
        held_out: Batches of held-out texts.
        n: Words of a run, ≥ 1.
    """
    runs, short = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for texts in held_out:
        words, quarters = hash_weighted_words(texts)
        short.append(_short(words, quarters, n)[1])
        for at, hashes, length in _runs(words, quarters, n):
            start = np.arange(at, at + len(hashes))
            runs.append(np.unique(hashes[_inside(words, start, length)]))
    return Overlap(
        n, HashSet(np.unique(np.concatenate(runs))), HashSet(np.unique(np.concatenate(short)))
    )


def _short(words: Words, quarters: UInt8s, n: int) -> tuple[Int1D, UInt64s]:
    """Texts that count as fewer than n words, and hashes of all their words in order."""
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(quarters, dtype=np.int64)])
    return hash_short_texts(words, np.diff(total.take(words.offsets)) < 4 * n)


def _runs(words: Words, quarters: UInt8s, n: int) -> Iterator[tuple[int, UInt64s, Int1D]]:
    """The runs that begin in a block: its first word, their hashes, and how many words they have.

    A run is the fewest words from its first on that count as n. It may reach into the next text.
    """
    for at in range(0, len(words.hashes), _BLOCK):
        hashes = words.hashes[at : at + _BLOCK + 4 * n - 1]
        weight = quarters[at : at + len(hashes)]
        if weight.min() == 4:
            runs = ngram_hashes(hashes[: _BLOCK + n - 1], n)
            yield at, runs, np.broadcast_to(np.int64(n), len(runs))
            continue
        word_of_quarter = np.repeat(np.arange(len(weight)), weight)
        last = np.cumsum(weight, dtype=np.int64) - weight + 4 * n - 1  # quarter of each run
        ends = word_of_quarter[last[last < len(word_of_quarter)][:_BLOCK]] + 1
        yield at, run_hashes(hashes, ends), ends - np.arange(len(ends))


def _text_of(words: Words, places: Int1D) -> Int1D:
    return np.searchsorted(words.offsets, places, side="right") - 1


def _inside(words: Words, start: Int1D, length: Int1D) -> npt.NDArray[np.bool_]:
    """Whether runs end in the text they begin in."""
    return start + length <= words.offsets[_text_of(words, start) + 1]
