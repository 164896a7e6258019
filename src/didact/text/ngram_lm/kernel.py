"""Compiled loops of n-gram models: counting, estimating, finding and judging n-grams.

An n-gram is known by the place of its first n - 1 words among the (n - 1)-grams and by the place of
its last word among the words, 32 bits each: no two n-grams share a key. Words are known by 64-bit
hashes. A *cell* is 16 bytes: the key, and as two float32 the log₁₀ probability and back-off weight.

One file, because what numba has kept of a function is compiled again when the function's own file
changes, and not when that of another changes which it calls.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from didact.core.arrays import Float1D, Float32s, Int1D, UInt8s, UInt32s, UInt64s
from didact.text.compiling import compiled

ORDERS: Final = 5  # at most
UNKNOWN, BEGIN, END = 0, 1, 2  # places of <unk>, <s>, </s> after all words, or before them
SPECIAL: Final = 3
TOGETHER: Final = 1 << 11  # tokens judged together: their cells stay near the processor
NO_CONTEXT, TWICE = 1, 2  # what may be wrong with an n-gram of a file

_ONE, _SHIFT = np.uint64(1), np.uint64(32)
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_ZERO = np.uint64(0)

PerOrder = tuple[Any, ...]  # an array for each of five orders


@compiled
def _place(key: Any, size: Any) -> Any:
    """Where the search for a key begins in a table of `size` places, below 2³²."""
    h = key * _FIRST
    h = (h ^ (h >> _SHIFT)) * _SECOND
    return np.int64(((h >> _SHIFT) * np.uint64(size)) >> _SHIFT)


@compiled
def _key(context: Any, word: Any) -> Any:
    """The key of an n-gram; never 0, which is an empty place."""
    return (np.uint64(context + 1) << _SHIFT) | np.uint64(word)


@compiled
def _find(cells: UInt64s, base: Any, size: Any, key: Any) -> Any:
    """The place of a key among `size` cells from `base` on; -1 - the empty one it belongs in."""
    at = _place(key, size)
    while True:
        found = cells[2 * (base + at)]
        if found == key:
            return at
        if found == _ZERO:
            return -1 - at
        at += 1
        if at == size:
            at = 0


# -- characters ----------------------------------------------------------------------------------


@compiled
def characters(data: UInt8s, offsets: Int1D, space: Any, hashes: UInt64s, ends: Int1D) -> None:
    """Hashes of the characters of lines, as `didact.text.words.hash_spans` hashes them.

    White space at the ends of a line is left out, and a run of it inside is one character.

    Args:
        data: UTF-8 of all lines.
        offsets: Where each line begins, `(n + 1,)`.
        space: The hash of white space.
        hashes: Filled; room for one a byte.
        ends: Filled: where the characters of each line end, after a first 0; `(n + 1,)`.
    """
    filled = 0
    for line in range(len(offsets) - 1):
        at, stop, first = offsets[line], offsets[line + 1], filled
        gap = False
        while at < stop:
            byte = data[at]
            if byte == 0 or byte == 32 or 9 <= byte <= 13:  # noqa: PLR1714 - compiled
                gap = True
                at += 1
                continue
            if gap and filled > first:
                hashes[filled] = space
                filled += 1
            gap = False
            width = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            x = _ZERO
            for k in range(width):
                x |= np.uint64(data[at + k]) << np.uint64(8 * k)
            x = (x ^ (x >> np.uint64(30))) * _SECOND
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            hashes[filled] = x ^ (x >> np.uint64(31))
            filled += 1
            at += width
        ends[line + 1] = filled


# -- counting ------------------------------------------------------------------------------------


@compiled
def _number(key: Any, keys: UInt64s, table: UInt32s, n: Any) -> Any:
    """The number of a key; the next one, `n`, where it is new, and then it is entered."""
    at = _place(key, len(table))
    while table[at] != 0:
        number = np.int64(table[at]) - 1
        if keys[number] == key:
            return number
        at += 1
        if at == len(table):
            at = 0
    table[at] = n + 1
    keys[n] = key
    return n


@compiled
def renumber(keys: UInt64s, first: int, n: int, table: UInt32s) -> None:
    """Enter keys number `first` to `n` into an empty table."""
    for number in range(first, n):
        at = _place(keys[number], len(table))
        while table[at] != 0:
            at += 1
            if at == len(table):
                at = 0
        table[at] = number + 1


@compiled
def _warm(wanted: UInt64s, n: int, keys: UInt64s, table: UInt32s, numbers: UInt32s) -> Any:
    """Read what `_number` will read for n keys, so that it need not wait; a digest of it."""
    met = _ZERO
    for k in range(n):
        numbers[k] = table[_place(wanted[k], len(table))]
    for k in range(n):
        if numbers[k] != 0:
            met ^= keys[np.int64(numbers[k]) - 1]
    return met


@compiled
def _count_tokens(  # noqa: C901 - one loop for each order
    wanted: UInt64s,
    words: Int1D,
    depth: Int1D,
    n: int,
    order: int,
    keys: PerOrder,
    counts: PerOrder,
    shorter: PerOrder,
    tables: PerOrder,
    filled: Int1D,
) -> Any:
    """Count the n-grams of whole sentences, one order after the other for all of them.

    Args:
        wanted: Keys of the words; changed.
        words: Numbers of the words, filled; <s> and </s> have theirs, the others -1.
        depth: Tokens since <s>.
        n: How many; each sentence begins with <s>.
        order: As in `count`, and so on.
        keys: n-grams by number.
        counts: Their counts.
        shorter: Those without their first word.
        tables: Where they are found.
        filled: How many there are.
    """
    who, numbers = np.empty(n, np.int64), np.empty(n, np.uint32)
    asked = 0
    for j in range(n):
        if words[j] < 0:
            who[asked], wanted[asked] = j, wanted[j]
            asked += 1
    met = _warm(wanted, asked, keys[0], tables[0], numbers)
    for k in range(asked):
        number = _number(wanted[k], keys[0], tables[0], filled[0])
        if number == filled[0]:
            filled[0] += 1
        words[who[k]] = number
    if order == 1:
        for j in range(n):
            counts[0][words[j]] += np.uint32(depth[j] > 0)
    kept, longer = words.copy(), np.empty(n, np.int64)  # n-grams that end here, -1: there is none
    for m in range(1, order):
        asked = 0
        for j in range(n):
            longer[j] = -1
            if depth[j] > 0 and kept[j - 1] >= 0:
                who[asked], wanted[asked] = j, _key(kept[j - 1], words[j])
                asked += 1
        met ^= _warm(wanted, asked, keys[m], tables[m], numbers)
        for k in range(asked):
            j = who[k]
            number = _number(wanted[k], keys[m], tables[m], filled[m])
            if number == filled[m]:
                filled[m] += 1
                shorter[m][number] = np.uint32(kept[j])
                counts[m - 1][kept[j]] += np.uint32(1)
            if m == order - 1 or m == depth[j]:
                counts[m][number] += np.uint32(1)
            longer[j] = number
        kept, longer = longer, kept
    return met


@compiled
def count(
    hashes: UInt64s,
    ends: Int1D,
    order: int,
    keys: PerOrder,
    counts: PerOrder,
    shorter: PerOrder,
    tables: PerOrder,
    filled: Int1D,
) -> Any:
    """Count the n-grams of sentences, of all orders.

    The longest n-grams and those that begin a sentence count as often as they occur, the others
    once for every different word before them.

    Args:
        hashes: Tokens of the sentences, and of others perhaps.
        ends: Where the first sentence begins in `hashes`, and where each ends.
        order: Words of the longest n-grams, 1 to 5.
        keys: Keys of the n-grams by number; of words their hashes.
        counts: What each counts as, uint32.
        shorter: The number of the n-gram without its first word, uint32.
        tables: Numbers + 1 by the hash of the key, 0 where empty.
        filled: n-grams of each order, changed; there is room for one more of each a token.

    Returns:
        A digest of what was read, so that no compiler leaves the reading out.
    """
    room = TOGETHER
    for sentence in range(len(ends) - 1):
        room = max(room, ends[sentence + 1] - ends[sentence] + 2)
    wanted = np.empty(room, np.uint64)
    words, depth = np.empty(room, np.int64), np.empty(room, np.int64)
    n, met = 0, _ZERO
    for sentence in range(len(ends) - 1):
        first, last = ends[sentence], ends[sentence + 1]
        if first == last:
            continue
        if n + last - first + 2 > room:
            met ^= _count_tokens(
                wanted, words, depth, n, order, keys, counts, shorter, tables, filled
            )
            n = 0
        words[n], depth[n] = BEGIN, 0
        for i in range(first, last):
            n += 1
            wanted[n], words[n], depth[n] = max(hashes[i], _ONE), -1, i - first + 1
        n += 1
        words[n], depth[n] = END, last - first + 1
        n += 1
    return met ^ _count_tokens(
        wanted, words, depth, n, order, keys, counts, shorter, tables, filled
    )


# -- estimating ----------------------------------------------------------------------------------


@compiled
def totals(keys: UInt64s, counts: UInt32s, sums: Int1D, kinds: UInt32s) -> None:
    """What follows each context: the sum of the counts, and how many are 1, 2, 3 or more.

    Args:
        keys: Keys of the n-grams.
        counts: What each counts as.
        sums: `(contexts,)`, zeros, filled.
        kinds: `(contexts, 3)`, zeros, filled.
    """
    for i in range(len(keys)):
        context = np.int64(keys[i] >> _SHIFT) - 1
        sums[context] += np.int64(counts[i])
        kind = np.int64(min(counts[i], 3)) - 1
        kinds[context, kind] += np.uint32(1)


@compiled
def interpolate(
    keys: UInt64s,
    counts: UInt32s,
    shorter: UInt32s,
    sums: Int1D,
    left: Float1D,
    discounts: Float1D,
    below: Float1D,
    out: Float1D,
) -> None:
    """Probabilities of n-grams: discounted counts, and what is left times that of the shorter.

    Args:
        keys: Keys of the n-grams.
        counts: What each counts as.
        shorter: The n-gram without its first word.
        sums: Sum of the counts after each context.
        left: Share that is left to the shorter n-grams after each context.
        discounts: What is taken off a count of 0, 1, 2, 3 or more, `(4,)`.
        below: Probabilities of the shorter n-grams.
        out: Filled.
    """
    for i in range(len(keys)):
        context = np.int64(keys[i] >> _SHIFT) - 1
        seen = np.int64(counts[i]) - discounts[np.int64(min(counts[i], 3))]
        out[i] = seen / sums[context] + left[context] * below[np.int64(shorter[i])]


@compiled
def settle(
    keys: UInt64s,
    words: Int1D,
    contexts: Int1D,
    cells: UInt64s,
    base: int,
    size: int,
    places: Int1D,
) -> None:
    """Enter n-grams into their cells.

    Args:
        keys: Keys, of numbers.
        words: The place of each word among the words, by number; none for the words themselves.
        contexts: The place of each context among the n-grams one shorter, by number.
        cells: All cells; the keys are of places.
        base: The first cell of this order.
        size: Cells of this order.
        places: The place of each n-gram, filled.
    """
    for i in range(len(keys)):
        key = keys[i]
        if len(contexts):
            context = contexts[np.int64(key >> _SHIFT) - 1]
            key = _key(context, words[np.int64(key & np.uint64(0xFFFFFFFF))])
        at = -1 - _find(cells, base, size, key)
        cells[2 * (base + at)] = key
        places[i] = at


# -- reading -------------------------------------------------------------------------------------


@compiled
def enter_words(hashes: UInt64s, cells: UInt64s, size: int, places: Int1D) -> int:
    """Enter words; the first that is there already, or -1."""
    for i in range(len(hashes)):
        key = max(hashes[i], _ONE)
        at = _find(cells, 0, size, key)
        if at >= 0:
            return i
        places[i] = -1 - at
        cells[2 * places[i]] = key
    return -1


@compiled
def find_words(hashes: UInt64s, cells: UInt64s, size: int, places: Int1D) -> None:
    """The place of each word; below 0 where there is none."""
    for i in range(len(hashes)):
        places[i] = _find(cells, 0, size, max(hashes[i], _ONE))


@compiled
def _walk(words: Any, cells: UInt64s, bases: Int1D, sizes: Int1D) -> Any:
    """The place of an n-gram given by its words among those of its order; below 0: not there."""
    at = words[0]
    for n in range(1, len(words)):
        at = _find(cells, bases[n], sizes[n], _key(at, words[n]))
        if at < 0:
            return -1
    return at


@compiled
def enter(
    words: Any, cells: UInt64s, bases: Int1D, sizes: Int1D, places: Int1D, fault: Int1D
) -> bool:
    """Enter the n-grams of a file.

    Args:
        words: Places of their words, `(m, n)`.
        cells: All cells.
        bases: The first cell of each order.
        sizes: Cells of each order.
        places: The place of each n-gram, filled.
        fault: The n-gram that cannot be entered, and what is wrong with it; `(2,)`.

    Returns:
        Whether the n-gram without its first word is there for all of them.
    """
    n = words.shape[1] - 1
    closed = True
    for i in range(len(words)):
        context = _walk(words[i, :n], cells, bases, sizes)
        if context < 0:
            fault[0], fault[1] = i, NO_CONTEXT
            return closed
        key = _key(context, words[i, n])
        at = _find(cells, bases[n], sizes[n], key)
        if at >= 0:
            fault[0], fault[1] = i, TWICE
            return closed
        places[i] = -1 - at
        cells[2 * (bases[n] + places[i])] = key
        closed = closed and _walk(words[i, 1:], cells, bases, sizes) >= 0
    return closed


# -- judging -------------------------------------------------------------------------------------


@compiled
def _look_up(
    keys: UInt64s, n: int, cells: UInt64s, base: Any, size: Any, places: Int1D, met: UInt64s
) -> None:
    """The places of n keys, as `_find` finds them.

    What is met at the first place is read for all of them before any is looked at: reads that wait
    for memory then wait together.
    """
    for k in range(n):
        places[k] = _place(keys[k], size)
    for k in range(n):
        met[k] = cells[2 * (base + places[k])]
    for k in range(n):
        at, found = places[k], met[k]
        while found != keys[k] and found != _ZERO:
            at += 1
            if at == size:
                at = 0
            found = cells[2 * (base + at)]
        places[k] = at if found == keys[k] else -1 - at


@compiled
def _judge_tokens(  # noqa: C901 - one loop for each order
    keys: UInt64s,
    words: Int1D,
    n: int,
    cells: UInt64s,
    weights: Float32s,
    bases: Int1D,
    sizes: Int1D,
    closed: bool,  # noqa: FBT001 - a kernel's argument
    log: Float1D,
) -> None:
    """log₁₀ p of tokens of whole sentences, one order after the other for all of them.

    Args:
        keys: Keys of the words; changed.
        words: Places of the words, filled; <s> and </s> have theirs, the others -1.
        n: How many; each sentence begins with <s>.
        cells: All cells,
        weights: the same as float32.
        bases: The first cell of each order.
        sizes: Cells of each order that are searched.
        closed: As in `judge`.
        log: Filled; 0 for <s>.
    """
    begin = sizes[0] + BEGIN
    who, places, met = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint64)
    asked = 0
    for j in range(n):
        if words[j] < 0:
            who[asked], keys[asked] = j, keys[j]
            asked += 1
    _look_up(keys, asked, cells, 0, sizes[0], places, met)
    for k in range(asked):
        words[who[k]] = places[k] if places[k] >= 0 else sizes[0] + UNKNOWN
    for j in range(n):
        log[j] = np.float64(weights[4 * words[j] + 2])
    kept, longer = words.copy(), np.empty(n, np.int64)  # n-grams that end here, -1: there is none
    for order in range(1, len(bases)):
        asked = 0
        for j in range(n):
            longer[j] = -1
            if words[j] == begin:
                log[j] = 0.0
                continue
            context = kept[j - 1]
            if context < 0:
                continue
            log[j] += np.float64(weights[4 * (bases[order - 1] + context) + 3])
            if kept[j] >= 0 or not closed:
                who[asked], keys[asked] = j, _key(context, words[j])
                asked += 1
        _look_up(keys, asked, cells, bases[order], sizes[order], places, met)
        for k in range(asked):
            if places[k] >= 0:
                longer[who[k]] = places[k]
                log[who[k]] = np.float64(weights[4 * (bases[order] + places[k]) + 2])
        kept, longer = longer, kept


@compiled
def judge(
    hashes: UInt64s,
    ends: Int1D,
    texts: Int1D,
    cells: UInt64s,
    weights: Float32s,
    bases: Int1D,
    sizes: Int1D,
    closed: bool,  # noqa: FBT001 - a kernel's argument
    logs: Float1D,
    tokens: Int1D,
    sentences: Int1D,
    unknown: Int1D,
) -> None:
    """The probability of every text.

    A token has the probability of the longest n-gram that ends with it, times the back-off weights
    of the longer contexts. A sentence begins after <s>, and its end </s> is a token.

    Args:
        hashes: Tokens of all sentences.
        ends: Where each sentence ends in `hashes`, the first of them 0.
        texts: Where the sentences of each text end, the first of them 0.
        cells: All cells, the three special words after the other words.
        weights: The same as float32.
        bases: The first cell of each order.
        sizes: Cells of each order that are searched.
        closed: An n-gram is there only if it is also without its first word.
        logs: Filled: log₁₀ of the probability of each text.
        tokens: Filled: its tokens.
        sentences: Filled: its sentences, empty ones left out; each has an end to foretell.
        unknown: Filled: tokens that are no words of the model.
    """
    longest = 0
    for sentence in range(len(ends) - 1):
        longest = max(longest, ends[sentence + 1] - ends[sentence] + 2)
    room = max(longest, TOGETHER)
    keys, words = np.empty(room, np.uint64), np.empty(room, np.int64)
    log, text = np.empty(room, np.float64), np.empty(room, np.int64)
    filled = 0
    for t in range(len(texts) - 1):
        logs[t] = 0.0
        tokens[t] = sentences[t] = unknown[t] = 0
        for sentence in range(texts[t], texts[t + 1]):
            first, last = ends[sentence], ends[sentence + 1]
            if first == last:
                continue
            tokens[t] += last - first
            sentences[t] += 1
            if filled + last - first + 2 > room:
                _judge_tokens(keys, words, filled, cells, weights, bases, sizes, closed, log)
                _add(words, log, text, filled, sizes[0], logs, unknown)
                filled = 0
            text[filled : filled + last - first + 2] = t
            words[filled] = sizes[0] + BEGIN
            for i in range(first, last):
                filled += 1
                keys[filled], words[filled] = max(hashes[i], _ONE), -1
            words[filled + 1] = sizes[0] + END
            filled += 2
    _judge_tokens(keys, words, filled, cells, weights, bases, sizes, closed, log)
    _add(words, log, text, filled, sizes[0], logs, unknown)


@compiled
def _add(
    words: Int1D, log: Float1D, text: Int1D, n: int, special: Any, logs: Float1D, unknown: Int1D
) -> None:
    """Add tokens to their texts, one after the other: what is judged together changes no sum."""
    for j in range(n):
        if words[j] != special + BEGIN:
            logs[text[j]] += log[j]
            unknown[text[j]] += words[j] == special + UNKNOWN
