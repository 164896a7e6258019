"""Compiled loops of `feature_based`: which grams are in two samples, and lazy greedy over them.

Imported only where numba is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from didact.selection.heap import pop, replace_top

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

compiled = njit(nogil=True, cache=True, error_model="numpy")


@compiled
def distinct(hashes: Array, offsets: Array) -> tuple[Array, Array, Array]:
    """The distinct grams of each text, in order of first appearance, and how often each occurs.

    Args:
        hashes: uint64 `(g,)`.
        offsets: int64 `(n + 1,)`.

    Returns:
        Hashes `(d,)`, counts int32 `(d,)`, offsets int64 `(n + 1,)`.

    **Cost:** some 5 ns a gram: a table per text that stays in the cache.
    """
    n = len(offsets) - 1
    longest = 1
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    slots = 2
    while slots < 2 * longest:
        slots *= 2
    table = np.full(slots, -1, np.int64)  # place in `out` of the gram that is there
    out = np.empty(len(hashes), np.uint64)
    counts = np.empty(len(hashes), np.int32)
    starts = np.zeros(n + 1, np.int64)
    used = 0
    for i in range(n):
        first, size = used, offsets[i + 1] - offsets[i]
        mask = 1
        while mask < 2 * size:
            mask *= 2
        mask -= 1
        for k in range(offsets[i], offsets[i + 1]):
            gram = hashes[k]
            slot = np.int64(gram >> np.uint64(32)) & mask
            while table[slot] >= first and out[table[slot]] != gram:
                slot = (slot + 1) & mask
            if table[slot] >= first:
                counts[table[slot]] += 1
            else:
                table[slot] = used
                out[used] = gram
                counts[used] = 1
                used += 1
        starts[i + 1] = used
    return out[:used].copy(), counts[:used].copy(), starts


@compiled
def place(gram: np.uint64, slots: int) -> int:
    """Where the search for a gram starts in a table of fewer than 2³¹ slots."""
    return np.int64(((gram >> np.uint64(32)) * np.uint64(slots)) >> np.uint64(32))


@compiled
def find(keys: Array, ids: Array, gram: np.uint64) -> int:
    """The slot of a gram, or the free one where it belongs; an id of -1 is a free slot."""
    slot = place(gram, len(keys))
    while ids[slot] >= 0 and keys[slot] != gram:
        slot += 1
        if slot == len(keys):
            slot = 0
    return slot


@compiled
def rehash(keys: Array, ids: Array, new_keys: Array, new_ids: Array) -> None:
    """Move a table to another size."""
    for slot in range(len(keys)):
        if ids[slot] >= 0:
            new = find(new_keys, new_ids, keys[slot])
            new_keys[new] = keys[slot]
            new_ids[new] = ids[slot]


@compiled
def meet(grams: Array, at: int, seen: Array, shift: int, keys: Array, ids: Array, known: int,
         most: int) -> tuple[int, int]:  # fmt: skip
    """Enter every gram that was met before, or whose bit another gram has set.

    Args:
        grams: uint64 `(d,)`, those of one text all different.
        at: Where to begin.
        seen: uint8 bitmap of `2^(64 - shift)` bits.
        shift: 64 - log2 of the bits.
        keys: The table's grams.
        ids: The table's ids, -1 on free slots; a new gram gets the next number.
        known: Grams in the table.
        most: Stop when the table has this many.

    Returns:
        Where it stopped, and the number of grams in the table.
    """
    while at < len(grams) and known < most:
        gram = grams[at]
        bit = gram >> np.uint64(shift)
        byte = np.int64(bit >> np.uint64(3))
        flag = np.uint8(1) << np.uint8(bit & np.uint64(7))
        if seen[byte] & flag:
            slot = find(keys, ids, gram)
            if ids[slot] < 0:
                keys[slot] = gram
                ids[slot] = known
                known += 1
        else:
            seen[byte] |= flag
        at += 1
    return at, known


@compiled
def look_up(grams: Array, counts: Array, offsets: Array, keys: Array, ids: Array
            ) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    """Ids of the grams that are in the table: those that occur once in their text, and the others.

    Returns:
        Ids of single ones int32, their offsets; ids of repeated ones int32, their counts int32,
        their offsets. Each text's are in order of first appearance.
    """
    n = len(offsets) - 1
    once = np.empty(len(grams), np.int32)
    more = np.empty(len(grams), np.int32)
    times = np.empty(len(grams), np.int32)
    once_at = np.zeros(n + 1, np.int64)
    more_at = np.zeros(n + 1, np.int64)
    a = b = 0
    for i in range(n):
        for k in range(offsets[i], offsets[i + 1]):
            found = ids[find(keys, ids, grams[k])]
            if found < 0:
                continue
            if counts[k] == 1:
                once[a] = found
                a += 1
            else:
                more[b] = found
                times[b] = counts[k]
                b += 1
        once_at[i + 1] = a
        more_at[i + 1] = b
    return once[:a].copy(), once_at, more[:b].copy(), times[:b].copy(), more_at


@compiled
def witness(features: Array, offsets: Array, counted: Array, frequency: Array) -> None:
    """Add one to the document frequency of every feature of the texts that are counted."""
    for i in range(len(offsets) - 1):
        if counted[i]:
            for k in range(offsets[i], offsets[i + 1]):
                frequency[features[k]] += 1


@compiled
def keep(features: Array, times: Array, offsets: Array, worth: Array) -> int:
    """Drop features without worth, in place; `times` may be empty. Returns how many are left."""
    used = first = 0
    for i in range(len(offsets) - 1):
        last = offsets[i + 1]
        for k in range(first, last):
            if worth[features[k]] > 0:
                features[used] = features[k]
                if len(times):
                    times[used] = times[k]
                used += 1
        first = last
        offsets[i + 1] = used
    return used


@compiled
def gain_of(row: int, once: Array, once_at: Array, more: Array, times: Array, more_at: Array,
            count: Array, weight: Array, step: Array, size: Array) -> float:  # fmt: skip
    """What a row adds to f for a unit of its size.

    √(c + n) - √c is taken as n / (√(c + n) + √c). Rounded step by step, this never rises with c;
    neither does the sum, taken in one order. So an old gain bounds the new one in floating point
    too, not only on paper.

    Args:
        row: Which.
        once: Features that occur once in a row, CSR with `once_at`.
        once_at: int64 `(n + 1,)`.
        more: Features that occur more often, CSR with `more_at`.
        times: How often, beside `more`.
        more_at: int64 `(n + 1,)`.
        count: How often each feature occurs in what is chosen.
        weight: Of each feature.
        step: `weight / (√(count + 1) + √count)` of each feature.
        size: What to divide by, of each row; > 0.
    """
    total = 0.0
    for k in range(once_at[row], once_at[row + 1]):
        total += step[once[k]]
    for k in range(more_at[row], more_at[row + 1]):
        feature = more[k]
        c = float(count[feature])
        n = float(times[k])
        total += weight[feature] * (n / (np.sqrt(c + n) + np.sqrt(c)))
    return total / size[row]


@compiled
def gains_of(gains: Array, once: Array, once_at: Array, more: Array, times: Array, more_at: Array,
             count: Array, weight: Array, step: Array, size: Array) -> None:  # fmt: skip
    """`gain_of` every row."""
    for row in range(len(gains)):
        gains[row] = gain_of(
            row, once, once_at, more, times, more_at, count, weight, step, size
        )


@compiled
def add(row: int, once: Array, once_at: Array, more: Array, times: Array, more_at: Array,
        count: Array, weight: Array, step: Array) -> None:  # fmt: skip
    """Count a row as chosen."""
    for k in range(once_at[row], once_at[row + 1]):
        feature = once[k]
        count[feature] += 1
        c = float(count[feature])
        step[feature] = weight[feature] * (1.0 / (np.sqrt(c + 1.0) + np.sqrt(c)))
    for k in range(more_at[row], more_at[row + 1]):
        feature = more[k]
        count[feature] += times[k]
        c = float(count[feature])
        step[feature] = weight[feature] * (1.0 / (np.sqrt(c + 1.0) + np.sqrt(c)))


@compiled
def pick(picks: Array, gains: Array, rows: Array, entries: int, fresh: Array, done: int,
         gone: Array, once: Array, once_at: Array, more: Array, times: Array, more_at: Array,
         count: Array, weight: Array, step: Array, size: Array) -> tuple[int, int]:  # fmt: skip
    """Lazy greedy: fill `picks` from the heap.

    The top's gain may be old; then it is an upper bound, so it is renewed and sinks. A top that
    was renewed since the last pick beats every other row.

    Args:
        picks: int64 `(most,)`, filled from the front.
        gains: The heap's gains.
        rows: The heap's rows.
        entries: Rows in the heap.
        fresh: Number of picks at each row's last evaluation, `(n,)`.
        done: Number of picks so far.
        gone: True on rows that may not be picked.
        once: See `gain_of`; so are the rest.

    Returns:
        How many were picked, and the rows left in the heap.
    """
    picked = 0
    while picked < len(picks) and entries:
        row = rows[0]
        if gone[row]:
            entries = pop(gains, rows, entries)
        elif fresh[row] == done + picked:
            picks[picked] = row
            picked += 1
            entries = pop(gains, rows, entries)
            add(row, once, once_at, more, times, more_at, count, weight, step)
        else:
            fresh[row] = done + picked
            replace_top(
                gains, rows, entries,
                gain_of(row, once, once_at, more, times, more_at, count, weight, step, size),
            )  # fmt: skip
    return picked, entries
