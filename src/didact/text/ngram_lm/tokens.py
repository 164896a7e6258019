"""Texts as sentences of tokens, hashed: what an n-gram model counts and judges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Int1D, UInt64s
from didact.text.buffers import utf8
from didact.text.words import hash_spans, hash_words, word_strings

Unit = Literal["words", "characters", "whitespace"]
Sentence = Literal["line", "text"]

# What stands between tokens: KenLM's white space, and the zero byte, which no token may hold.
_GAP: Final = re.compile("[\0\t\n\v\f\r ]")
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

    **Cost:** 6 ns a byte on one core, twice that of Chinese.
    """
    lines, of_text = _lines(texts, sentence)
    if unit == "words":
        words = hash_words(lines)
        return Sentences(words.hashes, words.offsets, of_text)
    data, offsets = utf8(lines)
    if unit == "characters":
        from didact.text.ngram_lm import kernel

        hashes, ends = np.empty(len(data), np.uint64), np.zeros(len(offsets), np.int64)
        kernel.characters(data, offsets, hash_of(SPACE), hashes, ends)
        return Sentences(hashes[: ends[-1]].copy(), ends, of_text)
    token = ~_GAPS.take(data)
    starts, stops = np.flatnonzero(_first(token, offsets)), np.flatnonzero(_last(token, offsets))
    hashes = hash_spans(data, starts, stops + 1)
    return Sentences(hashes, np.searchsorted(starts, offsets), of_text)


def hash_of(token: str) -> np.uint64:
    """The hash of one token, as it is."""
    raw = np.frombuffer(token.encode(), np.uint8)
    return np.uint64(hash_spans(raw, np.array([0]), np.array([len(raw)]))[0])


def spelled(texts: pa.LargeStringArray, unit: Unit, sentence: Sentence) -> list[list[str]]:
    """The sentences of `sentences_of` as text, with a space between tokens; none is empty.

    **Cost:** about 0.2 µs a token.
    """
    lines, of_text = _lines(texts, sentence)
    said = [" ".join(_spelled(line, unit)) for line in lines.to_pylist()]
    return [[line for line in said[a:b] if line] for a, b in pairwise(of_text.tolist())]


def _spelled(line: str, unit: Unit) -> Iterable[str]:
    if unit == "words":
        return word_strings(line)
    tokens = [token for token in _GAP.split(line) if token]
    return tokens if unit == "whitespace" else SPACE.join(tokens)


def _lines(texts: pa.LargeStringArray, sentence: Sentence) -> tuple[pa.LargeStringArray, Int1D]:
    """The sentences of texts as texts, and which of them each text has."""
    if texts.null_count:
        texts = texts.fill_null("")
    if sentence == "text":
        return texts, np.arange(len(texts) + 1)
    lists = pc.split_pattern(texts, "\n")
    return lists.flatten(), lists.offsets.to_numpy().astype(np.int64)


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
