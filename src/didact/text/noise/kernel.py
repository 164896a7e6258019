"""Compiled loops of `noisy`: which words meet, how words are spelled, what texts make of both.

All of them read words as `didact.text.words.place_words` returns them. Imported only where numba
is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from didact.text.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LETTERS: Final = 128  # code points of an alphabet: one block of Unicode
ALPHABETS: Final = 96  # alphabets; beyond U+3000 a character is a word or a syllable
APART: Final = 0.25  # what neighbors are counted that something stands between
TRIES: Final = 16
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)


class Met(NamedTuple):
    """How often words and pairs of neighboring words occur, by the top bits of their hash.

    Attributes:
        words: float32 `(2^w, 4)`: how often a word occurs; how many pairs it is in; the sum of
            their attractions; and 24 more bits of its hash, by which it is known.
        pairs: How often a pair occurs, int32 `(2^p,)`.
        letters: How often a letter follows a letter, or 0 as the first of its word, in words that
            were met twice; float64 `(ALPHABETS, LETTERS, LETTERS)`.
    """

    words: Array
    pairs: Array
    letters: Array


class Text(NamedTuple):
    """Words of texts.

    Attributes:
        data: Bytes of all texts, lower case.
        starts: Where each word begins, int64 `(w,)`,
        ends: and ends.
        hashes: uint64 `(w,)`.
        near: Which words are the neighbor of the next word, bool `(w,)`: of the same text, and
            nothing but one space, or nothing, between them. What stands on two sides of a comma, a
            bracket or a line break need not go together.
        offsets: int64 `(n + 1,)`: which words are whose.
        counted: Which texts were counted, bool `(n,)`; each leaves its own occurrences out.
    """

    data: Array
    starts: Array
    ends: Array
    hashes: Array
    near: Array
    offsets: Array
    counted: Array


@compiled
def place(hashed: np.uint64, buckets: int) -> np.int64:
    """The bucket of a hash among 2^b."""
    return np.int64((hashed >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32))


@compiled
def find(hashed: np.uint64, words: Array) -> np.int64:
    """The bucket of a word: the first of `TRIES` that is its own or empty, else a shared one."""
    at, mask = place(hashed, len(words)), len(words) - 1
    tag = np.float32(hashed & np.uint64(0xFFFFFF))
    for _ in range(TRIES):
        if words[at, 0] == 0 or words[at, 3] == tag:
            return at
        at = (at + 1) & mask
    return at


@compiled
def pair(one: np.uint64, other: np.uint64) -> np.uint64:
    """The hash of a pair of words."""
    return one * _BASE + other


@compiled
def count(text: Text, met: Met) -> None:
    """Count the words and pairs of the texts that are counted."""
    hashes, near, words, pairs = text.hashes, text.near, met.words, met.pairs
    for t in range(len(text.counted)):
        if text.counted[t]:
            for i in range(text.offsets[t], text.offsets[t + 1]):
                here = find(hashes[i], words)
                if words[here, 0] == 0:
                    words[here, 3] = np.float32(hashes[i] & np.uint64(0xFFFFFF))
                words[here, 0] += 1
                if near[i]:
                    pairs[place(pair(hashes[i], hashes[i + 1]), len(pairs))] += 1


@compiled
def attraction(seen: int, one: float, other: float, total: float) -> float:
    """Log ratio of how often a pair occurs elsewhere to how often by chance, ½ added to both."""
    return float(np.log((seen + 0.5) / (one * other / total + 0.5)))


@compiled
def look_up(text: Text, met: Met, at: Array, seen: Array) -> None:
    """Where each word is counted, and how often each pair of near neighbors was met.

    Every look-up is one of memory that no cache holds; here none waits for what another finds.

    Args:
        text: Texts of w words.
        met: What was counted.
        at: Filled: the bucket of each word, int32 `(w,)`.
        seen: Filled: how often each word and the next were met, int32 `(w,)`; 0 where apart.
    """
    hashes, near, words, pairs = text.hashes, text.near, met.words, met.pairs
    for i in range(len(hashes)):
        at[i] = find(hashes[i], words)
    for i in range(len(hashes)):
        seen[i] = 0
        if near[i]:
            seen[i] = pairs[place(pair(hashes[i], hashes[i + 1]), len(pairs))]


@compiled
def attractions(text: Text, met: Met, total: float) -> tuple[Array, Array]:
    """What every pair of the texts that are counted attracts, 0 where apart, and where words are.

    Returns:
        Attractions, float64 `(w,)`; and the buckets of the words, int32 `(w,)`.
    """
    words = met.words
    at, seen = np.empty(len(text.hashes), np.int32), np.empty(len(text.hashes), np.int32)
    found = np.zeros(len(text.hashes))
    look_up(text, met, at, seen)
    for t in range(len(text.counted)):
        if text.counted[t]:
            for i in range(text.offsets[t], text.offsets[t + 1]):
                if text.near[i]:
                    one, other = max(words[at[i], 0] - 1, 0.0), max(words[at[i + 1], 0] - 1, 0.0)
                    found[i] = attraction(max(seen[i] - 1, 0), one, other, total)
    return found, at


@compiled
def attract(text: Text, met: Met, found: Array, at: Array) -> tuple[float, int]:
    """Add up what every word's pairs attract, and how words are spelled that were met twice.

    Args:
        text: Texts.
        met: Is changed.
        found: See `attractions`,
        at: and the buckets.

    Returns:
        The sum of all attractions, and the number of pairs.
    """
    words, letters = met.words, met.letters
    worth, number = 0.0, 0
    for t in range(len(text.counted)):
        if not text.counted[t]:
            continue
        for i in range(text.offsets[t], text.offsets[t + 1]):
            here = at[i]
            if words[here, 0] - 1 > 0:
                walk(text.data, text.starts[i], text.ends[i], letters, 1)
            if text.near[i]:
                there = at[i + 1]
                words[here, 1] += 1
                words[here, 2] += found[i]
                words[there, 1] += 1
                words[there, 2] += found[i]
                worth += found[i]
                number += 1
    return worth, number


@compiled
def walk(data: Array, at: int, end: int, letters: Array, add: int) -> tuple[float, int, int]:
    """Walk through a word's letters, each after the one before it.

    An underscore begins a word again. A number has no letters.

    Args:
        data: Bytes.
        at: Where the word begins,
        end: and ends.
        letters: What a letter is worth after another; see `Met.letters`.
        add: What to add to each instead of adding them up; 0 to add them up.

    Returns:
        The sum of what its letters are worth, the letters it is over, and all letters of the word.
    """
    before: Any = 0
    block_before: Any = -1
    known, length, worth = 0, 0, 0.0
    if is_number(data, at, end):
        return worth, known, length
    while at < end:
        byte: Any = np.int64(data[at])
        point, width = byte, 1
        if byte >= 0x80:
            width = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            point = byte & (0x7F >> width)
            for k in range(1, min(width, end - at)):
                point = point << 6 | (np.int64(data[at + k]) & 63)
        at += width
        if point == 95:
            before = 0
            continue
        block, letter = point >> 7, point & 127
        if block < ALPHABETS and (before == 0 or block == block_before):
            if add:
                letters[block, before, letter] += add
            else:
                worth += letters[block, before, letter]
            known += 1
        before, block_before = letter, block
        length += 1
    return worth, known, length


@compiled
def is_number(data: Array, at: int, end: int) -> bool:
    """Whether a word has nothing but digits and underscores."""
    for i in range(at, end):  # noqa: SIM110 - numba compiles no generator
        if not (48 <= data[i] <= 57 or data[i] == 95):
            return False
    return True


@compiled
def meet(text: Text, t: int, met: Met, total: float, at: Array, seen: Array, alone: Array,
         found: Array) -> None:  # fmt: skip
    """How often a text's words occur elsewhere, and what their pairs attract; 0 where apart."""
    first, size = text.offsets[t], text.offsets[t + 1] - text.offsets[t]
    own = 1 if text.counted[t] else 0
    for k in range(size):
        alone[k] = max(met.words[at[first + k], 0] - own, 0.0)
    for k in range(size):
        i = first + k
        found[k] = 0.0
        if text.near[i]:
            found[k] = attraction(max(seen[i] - own, 0), alone[k], alone[k + 1], total)


@compiled
def ties(text: Text, t: int, met: Met, typical: float, at: Array, alone: Array, found: Array,
         tie: Array) -> None:  # fmt: skip
    """The tie of each of a text's words: mean attraction of the pairs that it is in elsewhere.

    Two of no attraction are counted with them; from 0 to `typical`.
    """
    near, words = text.near, met.words
    first, own = text.offsets[t], text.counted[t]
    for k in range(text.offsets[t + 1] - first):
        tie[k] = 0.0
        if alone[k] > 0:
            here = at[first + k]
            partners, worth = float(words[here, 1]), float(words[here, 2])
            if own and near[first + k]:
                partners, worth = partners - 1, worth - found[k]
            if own and k and near[first + k - 1]:
                partners, worth = partners - 1, worth - found[k - 1]
            tie[k] = min(max(worth / (max(partners, 0.0) + 2), 0.0), typical)


@compiled
def judge(text: Text, met: Met, total: float, typical: float, values: Array) -> Array:
    """What texts are made of.

    Returns:
        float64 `(n, 7)`: the sum of attractions of a text's pairs; the same of what their words'
        ties have it be; the number of pairs, and of neighbors apart by `APART`; bytes of all words
        but numbers; of these, by the share of `typical` that is missing of each word's tie, those
        that nothing ties; and the sum of the values of their letters, and how many letters that is
        over.
    """
    data, starts, ends, offsets = text.data, text.starts, text.ends, text.offsets
    out = np.zeros((len(text.counted), 7))
    longest = 0
    for t in range(len(out)):
        longest = max(longest, offsets[t + 1] - offsets[t])
    found, alone, tie = np.zeros(longest + 1), np.zeros(longest + 1), np.zeros(longest + 1)
    at, seen = np.empty(len(text.hashes), np.int32), np.empty(len(text.hashes), np.int32)
    look_up(text, met, at, seen)
    for t in range(len(out)):
        first, size = offsets[t], offsets[t + 1] - offsets[t]
        meet(text, t, met, total, at, seen, alone, found)
        ties(text, t, met, typical, at, alone, found, tie)
        for k in range(size):
            i = first + k
            loose = 1 - tie[k] / typical
            value, known, length = walk(data, starts[i], ends[i], values, 0)
            if length:
                out[t, 3] += ends[i] - starts[i]
                out[t, 4] += loose * (ends[i] - starts[i])
                out[t, 5] += loose * (value + (length - known))
                out[t, 6] += loose * length
        for k in range(size - 1):
            out[t, 2] += 1 if text.near[first + k] else APART
            if text.near[first + k]:
                out[t, 0] += found[k]
                out[t, 1] += (tie[k] + tie[k + 1]) / 2
    return out
