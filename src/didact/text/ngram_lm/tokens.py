"""Texts as sentences of tokens, hashed: what an n-gram model counts and judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Int1D, UInt8s, UInt64s
from didact.text.buffers import utf8
from didact.text.words import hash_spans, hash_words, place_words

Unit = Literal["words", "characters", "whitespace"]
Sentence = Literal["line", "text"]

# What stands between tokens: KenLM's white space, and the zero byte, which no token may hold.
_GAPS: Final = np.zeros(256, np.bool_)
_GAPS[list(b"\0\t\n\v\f\r ")] = True
SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"  # a space as a character, as in SentencePiece


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a batch of `n` texts.

    Attributes:
        hashes: uint64 `(t,)`: the tokens of all sentences, in order.
        ends: int64 `(s + 1,)`: sentence `j` is `hashes[ends[j]:ends[j + 1]]`; it may be empty.
        texts: int64 `(n + 1,)`: text `i` has the sentences `texts[i]` to `texts[i + 1]`.
    """

    hashes: UInt64s
    ends: Int1D
    texts: Int1D


def sentences_of(texts: pa.LargeStringArray, unit: Unit, sentence: Sentence) -> Sentences:
    """The sentences of a batch of texts, as hashes of their tokens.

    Args:
        texts: `n` texts; a null counts as an empty one.
        unit: Tokens are the `words` of `didact.text.words`; `characters` as they are, a run of
            white space within a sentence being one of them; or what stands between `whitespace`,
            as it is: all that KenLM knows.
        sentence: A sentence is a `line`, as KenLM reads files, or the whole `text`.

    **Cost:** 6 to 12 ns a byte for words and white space, 20 for characters, on one core.
    """
    lines, of_text = _lines(texts, sentence)
    if unit == "words":
        words = hash_words(lines)
        return Sentences(words.hashes, words.offsets, of_text)
    data, starts, ends, at = _spans(lines, unit)
    hashes = hash_spans(data, starts, ends)
    if unit == "characters":
        hashes[data.take(starts) == ord(" ")] = hash_of(SPACE)
    return Sentences(hashes, at, of_text)


def hash_of(token: str) -> np.uint64:
    """The hash of one token, as it is."""
    raw = np.frombuffer(token.encode(), np.uint8)
    return np.uint64(hash_spans(raw, np.array([0]), np.array([len(raw)]))[0])


def spelled(texts: pa.LargeStringArray, unit: Unit, sentence: Sentence) -> list[list[str]]:
    """The sentences of `sentences_of` as text, with a space between tokens; none is empty.

    **Cost:** about 0.2 µs a token.
    """
    lines, of_text = _lines(texts, sentence)
    if unit == "words":
        words = place_words(lines)
        data, starts, ends, at = words.data, words.starts, words.ends, words.offsets
    else:
        data, starts, ends, at = _spans(lines, unit)
    raw = data.tobytes()
    tokens = [raw[a:b].decode() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    if unit == "characters":
        tokens = [token if token != " " else SPACE for token in tokens]
    bounds, first = at.tolist(), of_text.tolist()
    return [
        [
            " ".join(tokens[bounds[j] : bounds[j + 1]])
            for j in range(first[i], first[i + 1])
            if bounds[j] < bounds[j + 1]
        ]
        for i in range(len(texts))
    ]


def _lines(texts: pa.LargeStringArray, sentence: Sentence) -> tuple[pa.LargeStringArray, Int1D]:
    """The sentences of texts as texts, and which of them each text has."""
    if texts.null_count:
        texts = texts.fill_null("")
    if sentence == "text":
        return texts, np.arange(len(texts) + 1)
    lists = pc.split_pattern(texts, "\n")
    return lists.flatten(), lists.offsets.to_numpy().astype(np.int64)


def _spans(lines: pa.LargeStringArray, unit: Unit) -> tuple[UInt8s, Int1D, Int1D, Int1D]:
    """Bytes, where tokens start and end in them, and the number of each line's first token."""
    data, offsets = utf8(lines)
    find = _characters if unit == "characters" else _between_gaps
    data, starts, ends = find(data, offsets)
    return data, starts, ends, np.searchsorted(starts, offsets)


def _between_gaps(data: UInt8s, offsets: Int1D) -> tuple[UInt8s, Int1D, Int1D]:
    token = ~_GAPS.take(data)
    return data, np.flatnonzero(_first(token, offsets)), np.flatnonzero(_last(token, offsets)) + 1


def _characters(data: UInt8s, offsets: Int1D) -> tuple[UInt8s, Int1D, Int1D]:
    """Characters: gaps are written as spaces, one for each run of them inside a line."""
    gap = _GAPS.take(data)
    data = np.where(gap, np.uint8(0x20), data)
    begin = (data & 0xC0) != 0x80
    inside = ~gap
    # a gap is a token where it is the first after a token of its line, and a token follows
    run = np.cumsum(_first(inside, offsets))  # runs of tokens begun so far
    line = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    last_run = np.append(run, 0)[offsets[1:] - 1] if len(run) else run
    first_run = np.append(0, run)[offsets[:-1]]
    between = (run > first_run[line]) & (run < last_run[line]) if len(run) else gap
    begin &= inside | (_first(gap, offsets) & between)
    starts = np.flatnonzero(begin)
    lead = data.take(starts)
    width = 1 + (lead >= 0xC0).astype(np.int64) + (lead >= 0xE0) + (lead >= 0xF0)
    return data, starts, starts + width


def _first(marked: npt.NDArray[np.bool_], offsets: Int1D) -> npt.NDArray[np.bool_]:
    """The first byte of every run of marked ones; a run ends with its line."""
    first = marked.copy()
    first[1:] &= ~marked[:-1]
    begins = offsets[offsets < len(marked)]
    first[begins] = marked[begins]
    return first


def _last(marked: npt.NDArray[np.bool_], offsets: Int1D) -> npt.NDArray[np.bool_]:
    """The last byte of every such run."""
    last = marked.copy()
    last[:-1] &= ~marked[1:]
    ends = offsets[1:] - 1
    ends = ends[ends >= 0]
    last[ends] = marked[ends]
    return last
