"""Compiled loops of `feature_based`: which grams are in two samples, and lazy greedy over them.

Imported only where numba is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from didact.selection.greedy.heap import pop, replace_top, second, sift_down
from didact.selection.greedy.leading import leading
from didact.text.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.selection.greedy.shares import Shares

    Array = npt.NDArray[Any]


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
def place(gram: np.uint64, slots: int) -> np.int64:
    """Where the search for a gram starts in a table of fewer than 2³¹ slots."""
    return np.int64(((gram >> np.uint64(32)) * np.uint64(slots)) >> np.uint64(32))


@compiled
def find(keys: Array, ids: Array, gram: np.uint64) -> np.int64:
    """The slot of a gram, or the free one where it belongs; an id of -1 is a free slot."""
    slot = place(gram, len(keys))
    while ids[slot] >= 0 and keys[slot] != gram:
        slot = slot + 1 if slot + 1 < len(keys) else np.int64(0)
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
            ) -> tuple[Array, Array, Array, Array, Array, Array]:  # fmt: skip
    """Ids of the grams that are in the table: those that occur once in their text, and the others.

    Returns:
        Ids of single ones int32, their offsets; ids of repeated ones int32, their counts int32,
        their offsets, each text's in order of first appearance; and the number of distinct words
        and of distinct pairs of each text, int32 `(n, 2)`.
    """
    n = len(offsets) - 1
    once = np.empty(len(grams), np.int32)
    more = np.empty(len(grams), np.int32)
    times = np.empty(len(grams), np.int32)
    once_at = np.zeros(n + 1, np.int64)
    more_at = np.zeros(n + 1, np.int64)
    totals = np.zeros((n, 2), np.int32)
    a = b = 0
    for i in range(n):
        for k in range(offsets[i], offsets[i + 1]):
            totals[i, np.int64(grams[k] & np.uint64(1))] += 1
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
    return once[:a].copy(), once_at, more[:b].copy(), times[:b].copy(), more_at, totals


@compiled
def pairs_of(keys: Array, ids: Array, known: int) -> Array:
    """Which ids are pairs: uint8 `(known,)`, 1 on pairs."""
    pair = np.empty(known, np.uint8)
    for slot in range(len(ids)):
        if ids[slot] >= 0:
            pair[ids[slot]] = keys[slot] & np.uint64(1)
    return pair


@compiled
def witness(features: Array, offsets: Array, counted: Array, frequency: Array) -> None:
    """Add one to the document frequency of every feature of the texts that are counted."""
    for i in range(len(offsets) - 1):
        if counted[i]:
            for k in range(offsets[i], offsets[i + 1]):
                frequency[features[k]] += 1


@compiled
def subtract_known(features: Array, offsets: Array, pair: Array, frequency: Array, least: int,
                   left: Array) -> None:  # fmt: skip
    """Take the words and the pairs of sufficient frequency off each text's numbers `(n, 2)`."""
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            feature = features[k]
            if frequency[feature] >= least:
                left[i, pair[feature]] -= 1


@compiled
def drop_rare(features: Array, times: Array, offsets: Array, frequency: Array, least: int) -> int:
    """Drop features of insufficient frequency in place, from `times` too unless it is empty.

    Returns:
        How many are left.
    """
    used = first = 0
    for i in range(len(offsets) - 1):
        last = offsets[i + 1]
        for k in range(first, last):
            if frequency[features[k]] >= least:
                features[used] = features[k]
                if len(times):
                    times[used] = times[k]
                used += 1
        first = last
        offsets[i + 1] = used
    return used


class Samples(NamedTuple):
    """Candidates 0..n-1 and their features.

    Attributes:
        once: Features that occur once in a sample int32, sample after sample.
        once_at: Where each sample begins in `once`, int64 `(n + 1,)`.
        more: Features that occur more often, int32.
        times: How often each of `more` occurs in its sample, int32.
        more_at: Where each sample begins in `more`, int64 `(n + 1,)`.
        last: One feature more of each sample, int32 `(n,)`,
        last_times: and how often it occurs, int64 `(n,)`.
        alone: What each sample adds whatever is chosen, float64 `(n,)`; ≥ 0.
        size: What its gain is divided by, float64 `(n,)`; > 0.
    """

    once: Array
    once_at: Array
    more: Array
    times: Array
    more_at: Array
    last: Array
    last_times: Array
    alone: Array
    size: Array


class State(NamedTuple):
    """What is chosen, by feature.

    Attributes:
        weight: float64 `(f,)`; ≥ 0.
        chosen: How often each occurs in what is chosen, int64 `(f,)`.
        step: What one more occurrence adds, `weight / (√(chosen + 1) + √chosen)`, float64 `(f,)`.
    """

    weight: Array
    chosen: Array
    step: Array


@compiled
def rise(feature: int, times: int, state: State) -> float:
    """What some occurrences of a feature add."""
    c = float(state.chosen[feature])
    n = float(times)
    return state.weight[feature] * (n / (np.sqrt(c + n) + np.sqrt(c)))


@compiled
def gain_of(row: int, samples: Samples, state: State) -> float:
    """What a row adds to f for a unit of its size.

    √(c + n) - √c is taken as n / (√(c + n) + √c). Rounded step by step, this never rises with c;
    neither does the sum, taken in one order. So an old gain bounds the new one in floating point
    too, not only on paper.
    """
    total = samples.alone[row]
    for k in range(samples.once_at[row], samples.once_at[row + 1]):
        total += state.step[samples.once[k]]
    for k in range(samples.more_at[row], samples.more_at[row + 1]):
        total += rise(samples.more[k], samples.times[k], state)
    total += rise(samples.last[row], samples.last_times[row], state)
    return total / samples.size[row]


@compiled
def gains_of_two(one: int, other: int, samples: Samples, state: State) -> tuple[float, float]:
    """`gain_of` two rows: what both wait for, memory above all, they wait for together."""
    a, a_end = samples.once_at[one], samples.once_at[one + 1]
    b, b_end = samples.once_at[other], samples.once_at[other + 1]
    total, other_total = samples.alone[one], samples.alone[other]
    for _ in range(min(a_end - a, b_end - b)):
        total += state.step[samples.once[a]]
        other_total += state.step[samples.once[b]]
        a += 1
        b += 1
    for k in range(a, a_end):
        total += state.step[samples.once[k]]
    for k in range(b, b_end):
        other_total += state.step[samples.once[k]]
    a, a_end = samples.more_at[one], samples.more_at[one + 1]
    b, b_end = samples.more_at[other], samples.more_at[other + 1]
    for _ in range(min(a_end - a, b_end - b)):
        total += rise(samples.more[a], samples.times[a], state)
        other_total += rise(samples.more[b], samples.times[b], state)
        a += 1
        b += 1
    for k in range(a, a_end):
        total += rise(samples.more[k], samples.times[k], state)
    for k in range(b, b_end):
        other_total += rise(samples.more[k], samples.times[k], state)
    total += rise(samples.last[one], samples.last_times[one], state)
    other_total += rise(samples.last[other], samples.last_times[other], state)
    return total / samples.size[one], other_total / samples.size[other]


@compiled
def gains_of(gains: Array, samples: Samples, state: State) -> None:
    """`gain_of` every row."""
    for row in range(len(gains)):
        gains[row] = gain_of(row, samples, state)


@compiled
def add(row: int, samples: Samples, state: State) -> None:
    """Count a row as chosen."""
    for k in range(samples.once_at[row], samples.once_at[row + 1]):
        count(samples.once[k], 1, state)
    for k in range(samples.more_at[row], samples.more_at[row + 1]):
        count(samples.more[k], samples.times[k], state)
    count(samples.last[row], samples.last_times[row], state)


@compiled
def count(feature: int, times: int, state: State) -> None:
    """Count some occurrences of a feature as chosen."""
    state.chosen[feature] += times
    state.step[feature] = rise(feature, 1, state)


@compiled
def occurrences(once: Array, more: Array, times: Array, features: int) -> Array:
    """How often each feature occurs in all samples, int64 `(features,)`."""
    out = np.zeros(features, np.int64)
    for feature in once:
        out[feature] += 1
    for k in range(len(more)):
        out[more[k]] += times[k]
    return out


@compiled
def pick(picks: Array, gains: Array, rows: Array, begins: Array, entries: Array, fresh: Array,
         done: int, gone: Array, samples: Samples, state: State, shares: Shares
         ) -> int:  # fmt: skip
    """Lazy greedy: fill `picks` from the heaps, one of each group of candidates.

    A top's gain may be old; then it is an upper bound, so it is renewed and sinks. A top that was
    renewed since the last pick beats every other row of its group.

    Args:
        picks: int64 `(most,)`, filled from the front.
        gains: The heaps' gains, float64, group after group.
        rows: The heaps' rows, int32.
        begins: Where each group's heap begins, `(g,)`.
        entries: Rows in each heap, `(g,)`.
        fresh: Number of picks at each row's last evaluation, int32 `(n,)`.
        done: Number of picks so far.
        gone: True on rows that may not be picked, `(n,)`.
        samples: The candidates.
        state: Is changed.
        shares: What is kept of the groups; is changed.

    Returns:
        How many were picked.
    """
    picked = 0
    top_gains, top_rows = np.empty(len(begins)), np.empty(len(begins), np.int64)
    for g in range(len(begins)):
        top_rows[g] = rows[begins[g]] if entries[g] else -1
        top_gains[g] = gains[begins[g]] if entries[g] else 0.0
    while picked < len(picks):
        g = leading(top_gains, top_rows, shares)
        if g < 0:
            break
        own_gains, own_rows = gains[begins[g] :], rows[begins[g] :]
        row = own_rows[0]
        if gone[row]:
            entries[g] = pop(own_gains, own_rows, entries[g])
        elif fresh[row] == done + picked:
            picks[picked] = row
            picked += 1
            entries[g] = pop(own_gains, own_rows, entries[g])
            add(row, samples, state)
            shares.picked[g] += shares.size[row]
        else:
            fresh[row] = done + picked
            at = second(own_gains, own_rows, entries[g])
            if at and fresh[own_rows[at]] < done + picked:  # it is next, unless this stays on top
                fresh[own_rows[at]] = done + picked
                gain, its = gains_of_two(row, own_rows[at], samples, state)
                own_gains[at] = its
                sift_down(own_gains, own_rows, entries[g], at)
            else:
                gain = gain_of(row, samples, state)
            replace_top(own_gains, own_rows, entries[g], gain)
        top_rows[g] = own_rows[0] if entries[g] else -1
        top_gains[g] = own_gains[0] if entries[g] else 0.0
    return picked
