"""Counts the bits of zlib's level 9 without writing them.

Everything that decides the size is zlib's: hash chains of three bytes and how far they are
followed, lazy matching, where blocks end, ties in the Huffman trees, lengths limited to 15 and 7
bits, the run-length code of the lengths, the cheapest of three kinds of block. What is not needed
for the size is gone: no window that slides, no output, no codes.

Two things make it fast. A candidate is compressed on the tables of the prefix, and its hash
entries are taken back afterwards, newest first: each holds the one that it replaced. And matches
of four bytes or more are looked for in chains of four equal bytes, which are much shorter. zlib
follows at most 4096 entries of a chain of three; whether an entry is among them is known from the
number it has in its chain of three, so the match is the one that zlib finds.

**Source:** zlib 1.2.13 (Jean-loup Gailly and Mark Adler, zlib licence), deflate.c (`deflate_slow`,
`longest_match`, `fill_window`) and trees.c, at level 9, 15 window bits, memory level 8; written
anew from the algorithm.

One file, because what numba has kept of a function is compiled again when the function's own file
has changed, not when one has that it calls.

Memory, addresses or arrays alike: `text` holds the prefix and room for a candidate, `tables` is
int32 and laid out as the constants below say, `state` is int64.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from didact.text.compiling import compiled
from didact.text.deflate.memory import (
    Memory,
    byte,
    bytes4,
    bytes8,
    int32,
    int64,
    set_byte,
    set_int32,
    set_int64,
    trailing_zeros,
)

# deflate
_MAX_MATCH: Final = 258
_MAX_DISTANCE: Final = 32768 - 262
_TOO_FAR: Final = 4096  # of matches of 3 bytes
_LOOKAHEAD: Final = 262  # zlib refills its window when it knows fewer bytes than that
_SYMBOLS: Final = 16383  # of a block
_GOOD: Final = 32  # a previous match of that length quarters the chain
_CHAIN: Final = 4096
_END: Final = 256  # the symbol that ends a block
_LITERALS: Final = 286
_DISTANCES: Final = 30
_LENGTHS: Final = 19  # symbols that code lengths are coded with
_SORTED: Final = 573  # nodes of the largest tree, and the unused place 0

# tables: int32 words
_RING: Final = 1 << 16  # positions that chains are kept for; more than distance and candidate
_MASK: Final = _RING - 1
_HEAD3: Final = 0  # last position of each hash of three bytes
_HEAD4: Final = _HEAD3 + (1 << 15)
_PREVIOUS3: Final = _HEAD4 + (1 << 16)  # position → the one before it with the same hash
_PREVIOUS4: Final = _PREVIOUS3 + _RING
_NUMBER: Final = _PREVIOUS4 + _RING  # position → its number in its chain of three
_FREQUENCY: Final = _NUMBER + _RING  # of literals and lengths, then of distances
_DISTANCE: Final = _FREQUENCY + _LITERALS
_KEPT: Final = _DISTANCE + _DISTANCES  # copy of the frequencies
_LENGTH: Final = _KEPT + _LITERALS + _DISTANCES  # frequencies of code lengths
_LITERAL_BITS: Final = _LENGTH + _LENGTHS  # code lengths of leaves, then of inner nodes
_DISTANCE_BITS: Final = _LITERAL_BITS + 2 * _LITERALS
_LENGTH_BITS: Final = _DISTANCE_BITS + 2 * _DISTANCES
_HEAP: Final = _LENGTH_BITS + 2 * _LENGTHS
_PARENT: Final = _HEAP + _SORTED
_COUNT: Final = _PARENT + _SORTED  # codes of each length
_LENGTH_CODE: Final = _COUNT + 16  # match length - 3 → symbol
_DISTANCE_CODE: Final = _LENGTH_CODE + 256  # distance - 1, or 256 + (distance - 1) // 128 → code
_ORDER: Final = _DISTANCE_CODE + 512  # in which lengths of length codes are written
_EXTRA: Final = _ORDER + _LENGTHS  # bits beside the code of each literal, length and distance
TABLE_WORDS: Final = _EXTRA + _LITERALS + _DISTANCES

# What chains of a ring can hold beside the window, so that a candidate's entries can be taken back.
LONGEST: Final = _RING - 32768 - _LOOKAHEAD

# state: int64
_KNOWN: Final = 0  # bytes of the prefix
_AT: Final = 1  # next position
_MATCHED: Final = 2  # length of the match at the position before, 2 when there is none
_FROM: Final = 3  # where that match is
_PENDING: Final = 4  # 1 when the byte before is not yet coded
_CODED: Final = 5  # symbols of the open block
_BLOCK: Final = 6  # where the open block begins
_BITS: Final = 7  # of the closed blocks
STATE_LONGS: Final = 8

_NO_MATCH: Final = 2 << 32


def tables() -> npt.NDArray[np.int32]:
    """Tables of the empty prefix, int32 `(TABLE_WORDS,)`."""
    out = np.zeros(TABLE_WORDS, np.int32)
    extra = [max(0, (code - 4) // 4) for code in range(28)] + [0]
    lengths = np.repeat(np.arange(29), [1 << e for e in extra[:28]] + [1])
    out[_LENGTH_CODE : _LENGTH_CODE + 256] = 257 + lengths[:256]
    out[_LENGTH_CODE + 255] = 285  # 258 has a code of its own, without extra bits
    out[_EXTRA + 257 : _EXTRA + 286] = extra
    extra = [max(0, (code - 2) // 2) for code in range(30)]
    distances = np.repeat(np.arange(30), [1 << e for e in extra])
    out[_DISTANCE_CODE : _DISTANCE_CODE + 256] = distances[:256]
    out[_DISTANCE_CODE + 256 : _DISTANCE_CODE + 512] = distances[::128]
    out[_EXTRA + _LITERALS : _EXTRA + _LITERALS + 30] = extra
    out[_ORDER : _ORDER + 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    out[_FREQUENCY + _END] = 1
    return out


def state() -> npt.NDArray[np.int64]:
    """State of the empty prefix, int64 `(STATE_LONGS,)`."""
    out = np.zeros(STATE_LONGS, np.int64)
    out[_MATCHED] = 2
    out[_BITS] = 16  # zlib's header
    return out


def shift(tables: npt.NDArray[np.int32], state: npt.NDArray[np.int64], keep: int) -> int:
    """Renumber positions so that fewer than `keep` + 65536 bytes of the prefix are kept.

    Args:
        tables: Changed in place.
        state: Changed in place.
        keep: Bytes before the next position to keep, ≥ 65536.

    Returns:
        How many bytes to drop from the front of the text; a multiple of 65536, so that rings stay.
    """
    drop = max(0, int(state[_AT]) - keep) // _RING * _RING
    entries = tables[:_NUMBER]
    np.maximum(entries - drop, 0, out=entries)
    state[[_KNOWN, _AT, _FROM, _BLOCK]] -= drop
    return drop


@compiled
def _add(tables: Memory, at: int, count: int) -> None:
    """Add to an entry of the tables."""
    set_int32(tables, at, int32(tables, at) + count)


@compiled
def _hash3(text: Memory, at: int) -> int:
    """Hash three bytes as zlib does: collisions count as entries of a chain."""
    value = bytes4(text, at)
    return ((value & 31) << 10) ^ ((value & 0xFF00) >> 3) ^ ((value >> 16) & 0xFF)


@compiled
def _hash4(text: Memory, at: int) -> int:
    """Hash four bytes, by multiplication; zlib has no such chains."""
    return ((bytes4(text, at) * 2654435761) & 0xFFFFFFFF) >> 16


@compiled
def _insert(text: Memory, tables: Memory, at: int) -> None:
    """Put a position, of which four bytes are known, into its chains."""
    h = _HEAD3 + _hash3(text, at)
    head = int32(tables, h)
    slot = at & _MASK
    set_int32(tables, _PREVIOUS3 + slot, head)
    set_int32(tables, _NUMBER + slot, int32(tables, _NUMBER + (head & _MASK)) + 1)
    set_int32(tables, h, at)
    h = _HEAD4 + _hash4(text, at)
    set_int32(tables, _PREVIOUS4 + slot, int32(tables, h))
    set_int32(tables, h, at)


@compiled
def _take_back(text: Memory, tables: Memory, begin: int, end: int) -> None:
    """Undo the insertion of positions begin ≤ at < end."""
    for at in range(end - 1, begin - 1, -1):
        slot = at & _MASK
        set_int32(tables, _HEAD3 + _hash3(text, at), int32(tables, _PREVIOUS3 + slot))
        set_int32(tables, _HEAD4 + _hash4(text, at), int32(tables, _PREVIOUS4 + slot))


@compiled
def _common(text: Memory, a: int, b: int, most: int) -> int:
    """Equal bytes at two places of which four are known to be equal, at most `most`."""
    length = 4
    while length < most:
        different = bytes8(text, a + length) ^ bytes8(text, b + length)
        if different != 0:
            return min(length + (trailing_zeros(different) >> 3), most)
        length += 8
    return most


@compiled
def _search(  # noqa: C901 -- one loop
    text: Memory, tables: Memory, at: int, head: int, matched: int, ahead: int, final: int
) -> int:
    """The match that zlib finds at a position when the one before it has `matched` bytes.

    Returns:
        Length · 2³² + place; `_NO_MATCH` for one that is not longer than `matched`; -1 when bytes
        that are not known yet decide.
    """
    chain = _CHAIN >> 2 if matched >= _GOOD else _CHAIN
    oldest = int32(tables, _NUMBER + (head & _MASK)) - chain  # too old are numbers up to this
    nice = min(_MAX_MATCH, ahead)
    # The first entry of a chain may be at the largest distance, others may not.
    low = max(at - _MAX_DISTANCE, 0)
    if head == low:
        low -= 1
    best = max(matched, 3)
    found = _NO_MATCH
    if best < ahead:
        start = bytes4(text, at)
        tail = bytes4(text, at + best - 3)
        link = int32(tables, _HEAD4 + _hash4(text, at))
        # A longer match also has the four bytes that end one byte after the best one: their chain
        # is shorter. It lacks what is so near that these bytes are not in a chain yet.
        offset = 0
        if link < at - (best - 3):
            offset = best - 3
            link = int32(tables, _HEAD4 + _hash4(text, at + offset))
        below = at
        while link - offset > low:
            candidate = link - offset
            if (
                bytes4(text, candidate + best - 3) == tail
                and bytes4(text, candidate) == start
                and candidate < below
            ):
                if int32(tables, _NUMBER + (candidate & _MASK)) <= oldest:
                    break
                length = _common(text, candidate, at, nice)
                if length > best:
                    best = length
                    found = (length << 32) | candidate
                    if length >= nice:
                        break
                    tail = bytes4(text, at + best - 3)
                    if candidate <= at - (best - 3):
                        below = candidate
                        offset = best - 3
                        link = int32(tables, _HEAD4 + _hash4(text, at + offset))
                        continue
            link = int32(tables, _PREVIOUS4 + (link & _MASK))
        if not final and best >= ahead and best < _MAX_MATCH:
            return -1
    if found == _NO_MATCH and matched < 3:
        return _search3(text, tables, at, head, low, chain)
    return found


@compiled
def _search3(text: Memory, tables: Memory, at: int, head: int, low: int, chain: int) -> int:
    """The nearest place of three equal bytes; what `_search` returns."""
    start = bytes4(text, at) & 0xFFFFFF
    low = max(low, at - _TOO_FAR - 1)
    candidate = head
    while candidate > low and chain > 0:
        if bytes4(text, candidate) & 0xFFFFFF == start:
            return (3 << 32) | candidate
        candidate = int32(tables, _PREVIOUS3 + (candidate & _MASK))
        chain -= 1
    return _NO_MATCH


@compiled
def _sift(tables: Memory, k: int, size: int) -> None:
    """Move an entry of the heap down to its place.

    An entry is frequency · 2¹⁵ + depth · 2¹⁰ + node, and node numbers do not count in comparisons.
    """
    value = int32(tables, _HEAP + k)
    child = 2 * k
    while child <= size:
        entry = int32(tables, _HEAP + child)
        if child < size:
            other = int32(tables, _HEAP + child + 1)
            if other <= (entry | 1023):
                entry = other
                child += 1
        if value <= (entry | 1023):
            break
        set_int32(tables, _HEAP + k, entry)
        k = child
        child *= 2
    set_int32(tables, _HEAP + k, value)


@compiled
def _tree(tables: Memory, frequencies: int, symbols: int, most: int, bits: int) -> int:
    """Code lengths of a Huffman code, none longer than `most`.

    Returns:
        Bits of all codes · 2¹⁰ + the last symbol that has a code.
    """
    size = 0
    last = -1
    for n in range(symbols):
        frequency = int32(tables, frequencies + n)
        set_int32(tables, bits + n, 0)
        if frequency != 0:
            size += 1
            last = n
            set_int32(tables, _HEAP + size, (frequency << 15) | n)
    added = 0
    while size < 2:  # a code has two symbols at least; the added one is never written
        n = 0
        if last < 2:
            last += 1
            n = last
        size += 1
        set_int32(tables, _HEAP + size, (1 << 15) | n)
        added += 1
    cost = -added
    for k in range(size // 2, 0, -1):
        _sift(tables, k, size)
    node = symbols
    top = _SORTED
    while size >= 2:
        a = int32(tables, _HEAP + 1)
        set_int32(tables, _HEAP + 1, int32(tables, _HEAP + size))
        size -= 1
        _sift(tables, 1, size)
        b = int32(tables, _HEAP + 1)
        top -= 2
        set_int32(tables, _HEAP + top + 1, a)
        set_int32(tables, _HEAP + top, b)
        frequency = (a >> 15) + (b >> 15)
        depth = max(a & (31 << 10), b & (31 << 10)) + (1 << 10)
        set_int32(tables, _PARENT + (a & 1023), node)
        set_int32(tables, _PARENT + (b & 1023), node)
        set_int32(tables, _HEAP + 1, (frequency << 15) | depth | node)
        cost += frequency
        node += 1
        _sift(tables, 1, size)
    over = _depths(tables, top, node - 1, symbols, most, bits)
    if over > 0:
        cost = _limit(tables, most, over, symbols, bits) - added
    return (cost << 10) | last


@compiled
def _depths(tables: Memory, top: int, root: int, symbols: int, most: int, bits: int) -> int:
    """Depths of the nodes of a tree, and how many leaves there are at each.

    Args:
        tables: With parents before their children from place `top` of the heap on.
        top: The place of the first node below the root.
        root: The root.
        symbols: Nodes below are leaves.
        most: Deeper nodes are put there.
        bits: Where the depths are written.

    Returns:
        How many nodes are deeper than `most`.
    """
    set_int32(tables, bits + root, 0)
    for length in range(1, 16):
        set_int32(tables, _COUNT + length, 0)
    over = 0
    for k in range(top, _SORTED):
        n = int32(tables, _HEAP + k) & 1023
        length = int32(tables, bits + int32(tables, _PARENT + n)) + 1
        if length > most:
            length = most
            over += 1
        set_int32(tables, bits + n, length)
        if n < symbols:
            _add(tables, _COUNT + length, 1)
    return over


@compiled
def _limit(tables: Memory, most: int, over: int, symbols: int, bits: int) -> int:
    """Change code lengths so that none of `over` nodes is deeper than `most`.

    Returns:
        Bits of all codes.
    """
    while over > 0:
        length = most - 1
        while int32(tables, _COUNT + length) == 0:
            length -= 1
        _add(tables, _COUNT + length, -1)
        _add(tables, _COUNT + length + 1, 2)
        _add(tables, _COUNT + most, -1)
        over -= 2
    cost = 0
    k = _SORTED
    for length in range(most, 0, -1):
        left = int32(tables, _COUNT + length)
        while left > 0:
            k -= 1
            entry = int32(tables, _HEAP + k)
            if entry & 1023 < symbols:
                set_int32(tables, bits + (entry & 1023), length)
                cost += length * (entry >> 15)
                left -= 1
    return cost


@compiled
def _run_lengths(tables: Memory, bits: int, last: int) -> None:
    """Count the symbols that a tree's code lengths are written with."""
    previous = -1
    following = int32(tables, bits)
    count = 0
    most = 138 if following == 0 else 7
    least = 3 if following == 0 else 4
    for n in range(last + 1):
        length = following
        following = int32(tables, bits + n + 1) if n < last else -1
        count += 1
        if count < most and length == following:
            continue
        if count < least:
            _add(tables, _LENGTH + length, count)
        elif length != 0:
            if length != previous:
                _add(tables, _LENGTH + length, 1)
            _add(tables, _LENGTH + 16, 1)
        elif count <= 10:
            _add(tables, _LENGTH + 17, 1)
        else:
            _add(tables, _LENGTH + 18, 1)
        count = 0
        previous = length
        if following == 0:
            most, least = 138, 3
        elif length == following:
            most, least = 6, 3
        else:
            most, least = 7, 4


@compiled
def _block(tables: Memory, bits: int, stored: int) -> int:
    """Bits after a block, the cheapest of its three kinds.

    Args:
        tables: With the frequencies of its symbols.
        bits: Bits before it.
        stored: Bytes that it stands for. zlib cannot store more than its window holds, but then it
            would not: 32,507 bytes in 16,383 symbols have so many matches that the fixed code,
            with at most 9 bits a literal and 22 a match of 3 bytes, is shorter.
    """
    literals = _tree(tables, _FREQUENCY, _LITERALS, 15, _LITERAL_BITS)
    distances = _tree(tables, _DISTANCE, _DISTANCES, 15, _DISTANCE_BITS)
    for n in range(_LENGTHS):
        set_int32(tables, _LENGTH + n, 0)
    _run_lengths(tables, _LITERAL_BITS, literals & 1023)
    _run_lengths(tables, _DISTANCE_BITS, distances & 1023)
    lengths = _tree(tables, _LENGTH, _LENGTHS, 7, _LENGTH_BITS)
    written = _LENGTHS
    while written > 4 and int32(tables, _LENGTH_BITS + int32(tables, _ORDER + written - 1)) == 0:
        written -= 1
    header = 3 * written + 14 + (lengths >> 10) + 7 * int32(tables, _LENGTH + 18)
    header += 2 * int32(tables, _LENGTH + 16) + 3 * int32(tables, _LENGTH + 17)
    extra = 0
    for n in range(257, _LITERALS + _DISTANCES):
        extra += int32(tables, _FREQUENCY + n) * int32(tables, _EXTRA + n)
    dynamic = (literals >> 10) + (distances >> 10) + header + extra
    fixed = extra
    for n in range(_LITERALS + _DISTANCES):
        code = 8 if n < 144 else 9 if n < 256 else 7 if n < 280 else 8 if n < _LITERALS else 5
        fixed += code * int32(tables, _FREQUENCY + n)
    cost = fixed if (fixed + 10) >> 3 <= (dynamic + 10) >> 3 else dynamic
    if stored + 4 <= (cost + 10) >> 3:
        return ((bits + 10) & ~7) + 32 + 8 * stored
    return bits + 3 + cost


@compiled
def _count_match(tables: Memory, length: int, distance: int) -> None:
    """Count the two symbols that a match is written with."""
    _add(tables, _FREQUENCY + int32(tables, _LENGTH_CODE + length - 3), 1)
    far = distance - 1
    slot = far if far < 256 else 256 + (far >> 7)
    _add(tables, _DISTANCE + int32(tables, _DISTANCE_CODE + slot), 1)


@compiled
def _run(  # noqa: C901, PLR0912, PLR0915 -- one loop with its state in registers
    text: Memory, tables: Memory, state: Memory, end: int, final: int
) -> int:
    """Compress the text up to `end`.

    Args:
        text: Eight bytes more than `end` can be read.
        tables: Changed.
        state: Changed unless `final`.
        end: Bytes of text.
        final: 1 when the text ends there; 0 to go as far as what follows cannot change.

    Returns:
        Bits of all blocks when `final`.
    """
    at = int64(state, _AT)
    matched = int64(state, _MATCHED)
    place = int64(state, _FROM)
    pending = int64(state, _PENDING)
    coded = int64(state, _CODED)
    block = int64(state, _BLOCK)
    bits = int64(state, _BITS)
    while True:
        ahead = end - at
        if ahead < (1 if final else 4):
            break
        # When the text is about to end just before zlib's window slides, it slides early, and the
        # byte at the largest distance becomes its first, which no match can begin with.
        edge = ahead < _LOOKAHEAD and at >= 65274 and (at - _MAX_DISTANCE) & 32767 == 0
        if edge and not final:
            break
        found = _NO_MATCH
        if ahead >= 3 and matched < _MAX_MATCH:
            if matched < ahead:
                head = int32(tables, _HEAD3 + _hash3(text, at))
                distance = at - head
                if head > 0 and distance <= _MAX_DISTANCE - edge:
                    found = _search(text, tables, at, head, matched, ahead, final)
                    if found < 0:
                        break
            elif not final:
                break
        length = found >> 32
        if matched >= 3 and length <= matched:
            if not final and matched + 2 > ahead:
                break
            _count_match(tables, matched, at - 1 - place)
            for q in range(at, min(at + matched - 1, end - 3)):
                _insert(text, tables, q)
            coded += 1
            at += matched - 1
            matched = 2
            pending = 0
        else:
            if ahead >= 4:
                _insert(text, tables, at)
            if pending:
                _add(tables, _FREQUENCY + byte(text, at - 1), 1)
                coded += 1
            pending = 1
            matched = length
            place = found & 0xFFFFFFFF
            at += 1
        if coded == _SYMBOLS:
            stop = at - pending
            bits = _block(tables, bits, stop - block)
            for n in range(_LITERALS + _DISTANCES):
                set_int32(tables, _FREQUENCY + n, 1 if n == _END else 0)
            coded = 0
            block = stop
    if final:
        if pending:
            _add(tables, _FREQUENCY + byte(text, end - 1), 1)
        return _block(tables, bits, end - block)
    set_int64(state, _AT, at)
    set_int64(state, _MATCHED, matched)
    set_int64(state, _FROM, place)
    set_int64(state, _PENDING, pending)
    set_int64(state, _CODED, coded)
    set_int64(state, _BLOCK, block)
    set_int64(state, _BITS, bits)
    return 0


@compiled
def feed(text: Memory, tables: Memory, state: Memory, end: int) -> None:
    """Go on with a prefix that now has `end` bytes."""
    set_int64(state, _KNOWN, end)
    _run(text, tables, state, end, 0)


@compiled
def count(
    text: Memory,
    tables: Memory,
    state: Memory,
    data: Memory,
    offsets: Memory,
    rows: Memory,
    n: int,
    out: Memory,
) -> None:
    """Compressed bytes of the prefix followed by each of some texts.

    Args:
        text: The prefix, room for the longest of the texts and for eight bytes more.
        tables: Left as they were, unless a text is longer than `LONGEST`.
        state: Left as it was.
        data: uint8: bytes of all texts.
        offsets: int64: where each begins, and the end.
        rows: int64 `(n,)`.
        n: Number of symbols.
        out: int64 `(n,)`.
    """
    known = int64(state, _KNOWN)
    at = int64(state, _AT)
    for i in range(n):
        row = int64(rows, i)
        start = int64(offsets, row)
        size = int64(offsets, row + 1) - start
        for k in range(size):
            set_byte(text, known + k, byte(data, start + k))
        for k in range(_LITERALS + _DISTANCES):
            set_int32(tables, _KEPT + k, int32(tables, _FREQUENCY + k))
        bits = _run(text, tables, state, known + size, 1)
        set_int64(out, i, ((bits + 7) >> 3) + 4)  # Adler-32
        for k in range(_LITERALS + _DISTANCES):
            set_int32(tables, _FREQUENCY + k, int32(tables, _KEPT + k))
        if size <= LONGEST:
            _take_back(text, tables, at, known + size - 3)
