"""Which samples of a pool are noise: no order of words, or bytes decoded with the wrong table.

No model, no list of a language's words: what is usual is read from the pool itself.

A text's *cohesion* is how much more often its pairs of neighboring words occur elsewhere in the
pool than chance would have them meet. Words drawn at random by their frequency meet as often as
chance has it, and random letters, keys and encoded bytes make words that meet nobody: both have a
cohesion of nothing, in any language, and code, formulas, lists and verse do not.

A short text has few pairs, but its words speak too: random letters, keys and encoded bytes make
words that occur nowhere else, and a usual text hardly has any. Their share is its *strangeness*.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.protocols import Progress, ignore_progress
from didact.text.ngrams import ngram_hashes
from didact.text.words import Words, hash_words

if TYPE_CHECKING:
    from didact.core.pool import Pool


# A text says little about itself before it is this long: so many bytes of a typical text are
# counted with it.
PRIOR_BYTES: Final = 40
# Strange words speak for so many bytes at most: in a longer text the pairs say enough.
STRANGE_BYTES: Final = 96
# A word longer than this counts as several, none of which meets a word it knows.
WORD_BYTES: Final = 32
# Pairs are counted in at most this much text, so that memory has a bound.
_COUNTED_BYTES: Final = 2**27
_BUCKETS: Final = (2**16, 2**26)
_BYTES_PER_BUCKET: Final = 1.5  # a quarter of a word

# Latin-1 and Windows-1252 characters by the byte that they stand for.
_CONTINUATION: Final = "\x80-\xbf" + "".join(
    bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)
)
# One byte of a character may be gone: Windows-1252 has five that stand for nothing.
_MISDECODED: Final = re.compile(
    f"[\xc2-\xdf][{_CONTINUATION}]"
    f"|[\xe0-\xef][{_CONTINUATION}]{{1,2}}"
    f"|[\xf0-\xf4][{_CONTINUATION}]{{2,3}}"
)
_ONE: Final = np.int32(1)  # a number of another type is added twenty times slower
_BEYOND_ASCII: Final = re.compile("[^\x00-\x7f]")
_MOST: Final = 0.75


class WordPairs:
    """How often words and pairs of neighboring words occur, by hash.

    Args:
        n_bytes: Bytes of the texts that will be counted; the tables' sizes follow from it.

    **Cost:** memory about 4 bytes a byte of text, at most 320 MiB; 5 ns a byte to count.
    """

    def __init__(self, n_bytes: int) -> None:
        fewest, most = _BUCKETS
        bits = int(min(max(n_bytes / _BYTES_PER_BUCKET, fewest), most) - 1).bit_length()
        self._pair_shift, self._word_shift = np.uint64(64 - bits), np.uint64(64 - bits + 2)
        self._pairs = np.zeros(1 << bits, np.int32)
        self._words = np.zeros(1 << (bits - 2), np.int32)
        self._total = 0

    def add(self, words: Words) -> None:
        """Count the words and pairs of some texts."""
        places, pairs, _ = self._places(words)
        np.add.at(self._words, places, _ONE)
        np.add.at(self._pairs, pairs, _ONE)
        self._total += len(places)

    def _places(self, words: Words) -> tuple[Int1D, Int1D, Int1D]:
        """Buckets of all words, buckets of all pairs, and which word each pair begins with."""
        last = np.zeros(len(words.hashes), np.bool_)
        last[words.offsets[1:][words.counts > 0] - 1] = True
        first = np.flatnonzero(~last)
        pairs = ngram_hashes(words.hashes, 2)[first] if len(first) else np.empty(0, np.uint64)
        return (
            (words.hashes >> self._word_shift).view(np.int64),
            (pairs >> self._pair_shift).view(np.int64),
            first,
        )

    def cohesion(self, words: Words, lengths: Int1D, counted: Bool1D) -> tuple[Float1D, Float1D]:
        """How well texts hold together, and how strange their words are.

        Cohesion is the mean log ratio of how often a text's pairs occur elsewhere to how often by
        chance. Half an occurrence is added to both, so that a pair never seen, of words hardly ever
        seen, says nothing. Strangeness is the share of words that occur nowhere else, neither in
        another text nor again in this one.

        Args:
            words: Words of `n` texts.
            lengths: Bytes of each text, `(n,)`.
            counted: Which of them were counted; each then leaves its own occurrence out.

        Returns:
            Nats per pair, float64 `(n,)`, 0 is chance; and shares from 0 to 1, float64 `(n,)`.
        """
        places, pairs, first = self._places(words)
        text = np.repeat(np.arange(len(lengths)), words.counts)
        own = counted[text].astype(np.int32)
        alone = np.maximum(self._words[places] - own, 0).astype(np.float64)
        chance = alone[first] * alone[first + 1] / max(self._total, 1) if len(first) else alone[:0]
        seen = np.maximum(self._pairs[pairs] - own[first], 0)
        attraction = np.log((seen + 0.5) / (chance + 0.5))
        n_pairs = np.maximum(np.maximum(words.counts - 1, lengths / WORD_BYTES), 1)
        n_words = np.maximum(np.maximum(words.counts, lengths / WORD_BYTES), 1)
        strange = np.bincount(text[alone == 0], minlength=len(lengths))
        cohesion = np.bincount(text[first], attraction, len(lengths)) / n_pairs
        return cohesion, strange / n_words


def noisy(
    pool: Pool,
    rows: Int1D,
    strictness: float,
    progress: Callable[[Progress], None] = ignore_progress,
) -> Bool1D:
    """Which samples are noise.

    A sample's score is its cohesion, in units of the pool's median sample's, less what its
    strangeness is beyond the median sample's, the latter for 96 bytes at most. 40 bytes of a sample
    that scores 1 are counted with it. Noise is what scores less than `strictness`, and what is
    misdecoded. Exact duplicates count once, and are all noise or none.

    Found are random letters, keys and encoded bytes with or without spaces, words in random order,
    and UTF-8 read as Latin-1 or Windows-1252, once or twice. At a strictness of 0.3 it takes 22
    bytes of words that nobody else has, and some 40 of usual words in random order. Not found:
    shorter noise, a blob inside a longer text, noise that repeats noise, and noise that makes up
    half of the pool: where the median sample's cohesion is 0 or less, only misdecoded samples are
    noise. Taken for noise: the first sample in a language that nothing else in the pool is written
    in, and one that is little but names nobody else mentions.

    Args:
        pool: The samples.
        rows: The candidates, ascending; what is usual is read from these alone.
        strictness: 0 finds only what chance would have written, 1 half of the samples.
        progress: Told of rows done, over both passes.

    Returns:
        bool `(len(rows),)`.

    **Source:** the pairs' log ratio is pointwise mutual information (Church and Hanks 1990,
    "Word association norms", Computational Linguistics 16), each text's own words left out.
    **Cost:** 35 ns a byte on one core of 2021, two passes over the text; memory of `WordPairs` and
    of one batch.
    """
    _, first, group_of = np.unique(pool.content_hash[rows], return_index=True, return_inverse=True)
    once = np.zeros(len(rows), np.bool_)
    once[first] = True
    lengths = pool.n_bytes[rows]
    step = -(-int(lengths[once].sum()) // _COUNTED_BYTES)
    counted = once & (np.cumsum(once) % max(step, 1) == 0)
    pairs = WordPairs(int(lengths[counted].sum()))
    for place, texts in pool.texts(rows):
        pairs.add(hash_words(texts.filter(pa.array(counted[place]))))
        progress(Progress("noise", place.stop, 2 * len(rows)))
    cohesion, strangeness = np.zeros(len(rows)), np.zeros(len(rows))
    broken = np.zeros(len(rows), np.bool_)
    for place, texts in pool.texts(rows):
        words = hash_words(texts)
        cohesion[place], strangeness[place] = pairs.cohesion(words, lengths[place], counted[place])
        broken[place] = misdecoded(texts)
        progress(Progress("noise", len(rows) + place.stop, 2 * len(rows)))
    typical = float(np.median(cohesion[first])) if len(first) else 0.0
    if typical > 0:
        excess = strangeness - np.median(strangeness[first])
        score = cohesion / typical * lengths - excess * np.minimum(lengths, STRANGE_BYTES)
        broken |= (score + PRIOR_BYTES) / (lengths + PRIOR_BYTES) < strictness
    return np.asarray(broken[first][group_of])


def noise_notes(suspects: Bool1D, chosen: int, strictness: float) -> tuple[str, ...]:
    """One line on how many samples are noise and how many of them are chosen; none if none is.

    Args:
        suspects: Which candidates are noise.
        chosen: How many of these are in the selection.
        strictness: See `noisy`.
    """
    if not suspects.any():
        return ()
    line = (
        f"{int(suspects.sum()):,} of {len(suspects):,} rows look like noise "
        f"(noise={strictness:g}) and come last; {chosen:,} of them are chosen"
    )
    return (line,)


def misdecoded(texts: pa.LargeStringArray) -> Bool1D:
    """Which texts are UTF-8 that was read as Latin-1 or Windows-1252, bool `(n,)`.

    Those where at least three quarters of the characters beyond ASCII are, in one of these tables,
    bytes of valid UTF-8 characters. Text in its right encoding hardly ever has a Ã before a ©.

    **Cost:** 2 ns a byte.
    """
    found = np.zeros(len(texts), np.bool_)
    some = pc.match_substring_regex(texts, _MISDECODED.pattern).fill_null(False).to_numpy(False)
    for i in np.flatnonzero(some).tolist():
        text = texts[i].as_py()
        broken = sum(map(len, _MISDECODED.findall(text)))
        found[i] = broken >= _MOST * len(_BEYOND_ASCII.findall(text))
    return found
