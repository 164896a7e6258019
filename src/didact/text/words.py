"""Words of many texts at once, as 64-bit hashes: no Python object per word.

A word is a run of letters, digits, underscores and every other character that is neither
punctuation, a symbol nor a space; case is ignored. Scripts that are written without spaces
(Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan, Yi) give one word per character, and so do
pictographs. The tables below are our own and fixed, so that words do not change with the
Unicode version of an interpreter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Int1D, UInt8s, UInt64s
from didact.core.hashing import mix
from didact.text.buffers import utf8

# Bytes looked at together. Larger pieces leave the cache, smaller ones fight over the GIL.
PIECE: Final = 1 << 19
# Longer words (encoded data, mostly) are hashed one by one; up to here eight bytes at a time.
LONG: Final = 64

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_BETWEEN, _WITHIN, _ALONE = 0, 1, 2

# Code points beyond ASCII that stand for a word each.
_ALONE_RANGES: Final = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FFF),  # radicals
    (0x3000, 0x312F),  # kana, bopomofo
    (0x31A0, 0x4DBF),  # bopomofo, strokes, enclosed, ideographs A
    (0x4E00, 0xA4CF),  # ideographs, Yi
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFF66, 0xFF9D),  # half-width kana
    (0x1AFF0, 0x1B16F),  # kana supplements
    (0x1F000, 0x1FAFF),  # pictographs
    (0x20000, 0x3FFFF),  # supplementary ideographs
)
# Code points beyond ASCII that stand between words. U+200C and U+200D join letters: not here.
_BETWEEN_RANGES: Final = (
    (0x0080, 0x00A9), (0x00AB, 0x00B1), (0x00B4, 0x00B4), (0x00B6, 0x00B8), (0x00BB, 0x00BB),
    (0x00BF, 0x00BF), (0x00D7, 0x00D7), (0x00F7, 0x00F7),  # Latin-1 punctuation and signs
    (0x037E, 0x037E), (0x0387, 0x0387),  # Greek
    (0x055A, 0x055F), (0x0589, 0x058A),  # Armenian
    (0x05BE, 0x05BE), (0x05C0, 0x05C0), (0x05C3, 0x05C3), (0x05F3, 0x05F4),  # Hebrew
    (0x0600, 0x060F), (0x061B, 0x061F), (0x066A, 0x066D), (0x06D4, 0x06D4),  # Arabic
    (0x0964, 0x0965), (0x0970, 0x0970),  # Devanagari
    (0x0E3F, 0x0E3F), (0x0E4F, 0x0E4F), (0x0E5A, 0x0E5B),  # Thai
    (0x0F01, 0x0F17), (0x0F3A, 0x0F3D), (0x0FD0, 0x0FDA),  # Tibetan
    (0x104A, 0x104F), (0x17D4, 0x17DB),  # Myanmar, Khmer
    (0x1360, 0x1368), (0x1680, 0x1680), (0x180E, 0x180E),  # Ethiopic, Ogham, Mongolian
    (0x2000, 0x200B), (0x200E, 0x206F),  # general punctuation and spaces
    (0x20A0, 0x20CF), (0x2190, 0x2BFF),  # currency; arrows, mathematics, boxes, symbols
    (0x2E00, 0x2E7F), (0x3000, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030), (0x303D, 0x3040),
    (0x30A0, 0x30A0), (0x30FB, 0x30FB), (0xA4FE, 0xA4FF),  # CJK and other punctuation
    (0xFD3E, 0xFD3F), (0xFE10, 0xFE1F), (0xFE30, 0xFE6F), (0xFEFF, 0xFEFF),
    (0xFF00, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFFD),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a batch of `n` texts.

    Attributes:
        hashes: uint64 `(w,)`: the words of all texts, in order.
        offsets: int64 `(n + 1,)`: the words of text `i` are `hashes[offsets[i]:offsets[i + 1]]`.
    """

    hashes: UInt64s
    offsets: Int1D

    @property
    def counts(self) -> Int1D:
        """Words of each text, `(n,)`."""
        return np.diff(self.offsets)


def hash_words(texts: pa.LargeStringArray) -> Words:
    """The words of a batch of texts.

    A word of up to eight bytes has a hash of its own; among longer ones two different words share
    a hash with probability 2⁻⁶⁴.

    **Cost:** about 5.5 ns a byte on one core of 2021; memory 8 bytes a word and 10 MiB.
    """
    data, offsets = utf8(pc.utf8_lower(texts))
    hashes: list[UInt64s] = []
    word_offsets = np.zeros(len(offsets), np.int64)
    total = 0
    for at, stop, starts, ends in _pieces(data, offsets):
        first, last = np.searchsorted(offsets, [at, stop])
        word_offsets[first:last] = total + np.searchsorted(starts, offsets[first:last] - at)
        hashes.append(_hash(data[at:stop], starts, ends))
        total += len(starts)
    word_offsets[np.searchsorted(offsets, len(data)) :] = total
    return Words(np.concatenate([np.empty(0, np.uint64), *hashes]), word_offsets)


def count_words(texts: pa.LargeStringArray) -> Int1D:
    """Number of words of each text, `(n,)`."""
    data, offsets = utf8(pc.utf8_lower(texts))
    counts = np.zeros(len(offsets), np.int64)
    for at, _, starts, _ in _pieces(data, offsets):
        counts += np.searchsorted(starts, offsets - at)
    return np.diff(counts)


def word_strings(text: str, start: int = 0, stop: int | None = None) -> list[str]:
    """The words of one text from number `start` to `stop`, as lower-case strings."""
    data, offsets = utf8(pc.utf8_lower(pa.array([text], pa.large_string())))
    raw = data.tobytes()
    out: list[str] = []
    seen = 0
    for at, _, starts, ends in _pieces(data, offsets):
        inside = slice(max(start - seen, 0), None if stop is None else max(stop - seen, 0))
        for a, b in zip((starts[inside] + at).tolist(), (ends[inside] + at).tolist(), strict=True):
            out.append(raw[a:b].decode())
        seen += len(starts)
    return out


def _pieces(data: UInt8s, offsets: Int1D) -> Iterator[tuple[int, int, Int1D, Int1D]]:
    """Start and stop of a piece of the bytes, and the bounds of its words relative to the start.

    No word crosses from one piece to the next: a piece ends where its last segment begins.
    """
    at, size, end = 0, PIECE, len(data)
    while at < end:
        stop = min(at + size, end)
        if stop < end:
            while data[stop] & 0xC0 == 0x80:  # inside a character
                stop -= 1
        first, last = np.searchsorted(offsets, [at, stop])
        bounds, is_word = _segments(data[at:stop], offsets[first:last] - at)
        if stop == end:
            bounds = np.append(bounds, stop - at)
        elif len(bounds) == 1:  # one word fills the piece
            size *= 2
            continue
        else:
            stop = at + int(bounds[-1])
            is_word = is_word[:-1]
        yield at, stop, bounds[:-1].compress(is_word), bounds[1:].compress(is_word)
        at, size = stop, PIECE


def _segments(piece: UInt8s, breaks: Int1D) -> tuple[Int1D, npt.NDArray[np.bool_]]:
    """Where words and the gaps between them begin, and which of these are words."""
    word = (piece - np.uint8(97)) < 26
    word |= (piece - np.uint8(48)) < 10
    word |= piece == 95
    word |= piece >= 0x80
    edge = np.empty(len(piece), np.bool_)
    lead = np.flatnonzero(piece >= 0xC0)
    alone = np.empty(0, np.int64)
    if len(lead):
        kind, width = _kinds(piece, lead)
        between = lead[kind == _BETWEEN]
        gap = width[kind == _BETWEEN]
        for k in range(4):
            word[between[gap > k] + k] = False
        alone = lead[kind == _ALONE]
        alone = np.concatenate([alone, alone + width[kind == _ALONE]])
    np.not_equal(word[1:], word[:-1], out=edge[1:])
    edge[0] = True
    edge[breaks] = True
    edge[alone[alone < len(piece)]] = True
    bounds = np.flatnonzero(edge)
    return bounds, word.take(bounds)


def _kinds(piece: UInt8s, lead: Int1D) -> tuple[UInt8s, npt.NDArray[np.int64]]:
    """Kind and width in bytes of the characters that begin at `lead`."""
    first = piece[lead].astype(np.int64)
    last = len(piece) - 1
    tail = [piece[np.minimum(lead + k, last)].astype(np.int64) & 0x3F for k in (1, 2, 3)]
    width = 2 + (first >= 0xE0) + (first >= 0xF0)
    two = (first & 0x1F) << 6 | tail[0]
    three = (first & 0x0F) << 12 | tail[0] << 6 | tail[1]
    four = (first & 0x07) << 18 | tail[0] << 12 | tail[1] << 6 | tail[2]
    points = np.where(width == 2, two, np.where(width == 3, three, four))
    return _table()[points], width


@cache
def _table() -> UInt8s:
    """Kind of each code point."""
    kinds = np.full(0x200000, _WITHIN, np.uint8)
    for first, last in _ALONE_RANGES:
        kinds[first : last + 1] = _ALONE
    for first, last in _BETWEEN_RANGES:
        kinds[first : last + 1] = _BETWEEN
    return kinds


def _hash(piece: UInt8s, starts: Int1D, ends: Int1D) -> UInt64s:
    """Hashes of the words of one piece, eight bytes at a time."""
    padded = np.zeros(len(piece) + 8, np.uint8)
    padded[: len(piece)] = piece
    eight = np.ndarray((len(piece) + 1,), "<u8", padded.data, strides=(1,))
    length = ends - starts
    hashes = mix(eight.take(starts) & _MASKS.take(np.minimum(length, 8)))
    rest = np.flatnonzero(length > 8)
    for k in range(8, LONG, 8):
        if not len(rest):
            break
        more = eight[starts[rest] + k] & _MASKS.take(np.minimum(length[rest] - k, 8))
        hashes[rest] = mix((hashes[rest] + _GOLDEN) ^ more)
        rest = rest[length[rest] > k + 8]
    for i in rest.tolist():
        word = piece[starts[i] : ends[i]].tobytes()
        hashes[i] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
    return hashes


# _MASKS[k] keeps the first k of eight little-endian bytes. No word holds a zero byte.
_MASKS: Final = np.array([(1 << 8 * k) - 1 for k in range(9)], np.uint64)


@dataclass(frozen=True, slots=True)
class PlacedWords(Words):
    """Words of a batch of texts, and where they are.

    Attributes:
        data: Bytes of the texts, lower case, `(m,)`.
        starts: Where each word begins in `data`, int64 `(w,)`,
        ends: and ends.
    """

    data: UInt8s
    starts: Int1D
    ends: Int1D


def place_words(texts: pa.LargeStringArray) -> PlacedWords:
    """The words of `hash_words`, and where they are.

    **Cost:** as `hash_words`; memory 24 bytes a word.
    """
    data, offsets = utf8(pc.utf8_lower(texts))
    none = np.empty(0, np.int64)
    hashes, starts, ends = [np.empty(0, np.uint64)], [none], [none]
    for at, stop, first, last in _pieces(data, offsets):
        hashes.append(_hash(data[at:stop], first, last))
        starts.append(first + at)
        ends.append(last + at)
    begin = np.concatenate(starts)
    of_text = np.searchsorted(begin, offsets).astype(np.int64)
    return PlacedWords(np.concatenate(hashes), of_text, data, begin, np.concatenate(ends))
