"""Compiled parts of `shingle_novelty`: fingerprints of shingles, and the lazy greedy choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from didact.selection.greedy.heap import pop, replace_top
from didact.selection.greedy.leading import leading
from didact.text.compiling import compiled

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Float2D, Int1D, UInt8s, UInt32s
    from didact.selection.greedy.shares import Shares


WIDTH: Final = 12
CLOSED: Final = 1  # a row that was picked or blocked

_EIGHT, _BYTE, _LOW = np.uint64(8), np.uint64(0xFF), np.uint64(0xFFFFFFFF)
_FOUR_BYTES, _SEVEN_BYTES = np.uint64(24), np.uint64(56)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_THIRTY_ONE, _THIRTY_TWO = np.uint64(31), np.uint64(32)
_ZERO, _ONE, _MOST = np.uint64(0), np.uint64(1), np.uint64(2**64 - 1)


@compiled
def _hash(early: Any, late: Any) -> Any:
    """64 well-mixed bits of twelve bytes: the first four, and the last eight."""
    h = (late ^ (late >> _THIRTY_ONE)) * _FIRST + early
    h = (h ^ (h >> _THIRTY_ONE)) * _SECOND
    h = (h ^ (h >> _THIRTY_TWO)) * _FIRST
    return h ^ (h >> _THIRTY_TWO)


@compiled
def fingerprints(data: UInt8s, offsets: Int1D, most: int, out: UInt32s, ends: Int1D) -> int:
    """Fingerprints of the distinct shingles of each text that are in the sample.

    A shingle is in the sample when the high half of its hash is at most `most`; its fingerprint is
    the low half, never 0. A text with no such shingle is given the one of its shingles with the
    smallest hash, and a text of fewer bytes than a shingle all its bytes as one.

    Args:
        data: Bytes of the texts.
        offsets: `(n + 1,)`, where each text begins.
        most: Largest high half of a hash in the sample, below 2³².
        out: Filled: text after text, ascending in a text. Room for a number per byte and text.
        ends: `(n,)`, filled: where each text's fingerprints end in `out`.

    Returns:
        How many there are.

    **Cost:** 3 ns a byte.
    """
    filled = 0
    limit = np.uint64(most)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        begin = filled
        early, late, lowest = _ZERO, _ZERO, _MOST
        for at in range(start, end):
            early = (early >> _EIGHT) | ((late & _BYTE) << _FOUR_BYTES)
            late = (late >> _EIGHT) | (np.uint64(data[at]) << _SEVEN_BYTES)
            if at - start >= WIDTH - 1:
                h = _hash(early, late)
                lowest = min(lowest, h)
                if h >> _THIRTY_TWO <= limit:
                    out[filled] = max(h & _LOW, _ONE)
                    filled += 1
        if end - start < WIDTH:
            lowest = _hash(early | np.uint64(end - start + 1) << _THIRTY_TWO, late)
        if filled == begin:
            out[filled] = max(lowest & _LOW, _ONE)
            filled += 1
        out[begin:filled].sort()
        last = begin
        for at in range(begin + 1, filled):
            if out[at] != out[last]:
                last += 1
                out[last] = out[at]
        filled = last + 1
        ends[row] = filled
    return filled


@compiled
def _place(table: UInt32s, fingerprint: Any) -> int:
    """Where a fingerprint is in the table, or the empty place where it belongs."""
    mask = len(table) - 1
    at = int(fingerprint) & mask
    while table[at] != 0 and table[at] != fingerprint:
        at = (at + 1) & mask
    return at


@compiled
def room(table: UInt32s) -> int:
    """How many fingerprints a table may hold: seven tenths of its places."""
    return len(table) * 7 // 10


@compiled
def cover(table: UInt32s, fingerprints: UInt32s) -> int:
    """Put fingerprints into the table; returns how many were not there.

    Args:
        table: A power of two of places, 0 where empty, with room for all.
        fingerprints: None 0.
    """
    added = 0
    for fingerprint in fingerprints:
        at = _place(table, fingerprint)
        if table[at] == 0:
            table[at] = fingerprint
            added += 1
    return added


@compiled
def novelty(table: UInt32s, fingerprints: UInt32s) -> float:
    """Share of the fingerprints that are not in the table, 0 to 1."""
    new = 0
    for fingerprint in fingerprints:
        new += table[_place(table, fingerprint)] == 0
    return new / len(fingerprints)


@compiled
def take(source: int, length: int, amounts: Float2D, balance: float) -> None:
    """Count bytes of a source as picked, and give it its new factor; see `pick`."""
    amounts[1, source] += length
    amounts[2, source] = (amounts[0, source] / amounts[1, source]) ** balance


@compiled
def bound(gain: float, factor: float) -> float:
    """A row's gain among all sources; a negative one is the same in every source."""
    return gain * factor if gain > 0 else gain


@compiled
def pick(
    heads: Float1D,
    tops: Int1D,
    firsts: Int1D,
    open_cells: Int1D,
    gains: Float1D,
    rows: Int1D,
    begins: Int1D,
    sizes: Int1D,
    closed: UInt8s,
    weights: Float1D,
    lengths: Int1D,
    cell_of: Int1D,
    source_of: Int1D,
    amounts: Float2D,
    balance: float,
    shares: Shares,
    held: Int1D,
    offsets: Int1D,
    prints: UInt32s,
    table: UInt32s,
    out: Int1D,
) -> int:
    """The rows of largest gain, one after another, ties to the lowest row.

    A gain is weight × novelty × its source's factor. All it depends on only falls, so a gain from
    before is an upper bound: a row whose bound, brought up to date, stays on top is the best of
    all. A cell is what one source has in one group of `shares`. Every cell has a heap of its rows
    by weight × novelty, which its source's factor does not disturb; every group has one more heap
    that holds its cells by their best.

    Args:
        heads: Heaps of the cells, group after group: bounds.
        tops: Heaps of the cells: the best row of each.
        firsts: Where each group's heap of cells begins, `(g,)`.
        open_cells: How many cells of each group have rows left, `(g,)`.
        gains: Heaps of the rows, cell after cell: bounds.
        rows: Heaps of the rows: which.
        begins: Where each cell's heap begins.
        sizes: Entries of each cell's heap.
        closed: `(n,)`, nonzero on rows that may not be picked; picked rows are closed.
        weights: `(n,)`; a negative weight is its row's gain, whatever is picked.
        lengths: `(n,)`, bytes.
        cell_of: `(n,)`, each row's cell.
        source_of: `(n,)`, each row's source.
        amounts: By source: its bytes; those picked and an average row's; the first over the second
            to the power of `balance`, the factor. `(3, sources)`.
        balance: ≥ 0.
        shares: What is kept of the groups; is changed.
        held: Fingerprints in the table, `(1,)`.
        offsets: `(n + 1,)` into `prints`.
        prints: Fingerprints, row after row.
        table: Those covered.
        out: Filled with the picks.

    Returns:
        How many were picked. Fewer than `out` has room for when no row is left, or when the table
        has to grow before the next one. Everything that changes is brought up to date.
    """
    picked = 0
    groups = len(firsts)
    fresh = np.full(groups, -1, np.int64)  # the rows whose novelty is up to date
    best_gains, best_rows = np.zeros(groups), np.full(groups, -1, np.int64)
    for g in range(groups):
        if open_cells[g]:
            best_gains[g], best_rows[g] = heads[firsts[g]], tops[firsts[g]]
    while picked < len(out):
        g = leading(best_gains, best_rows, shares)
        if g < 0:
            break
        row = best_rows[g]
        cell, source = cell_of[row], source_of[row]
        begin, size = begins[cell], sizes[cell]
        own_heads, own_tops = heads[firsts[g] :], tops[firsts[g] :]
        own_gains, own_rows = gains[begin : begin + size], rows[begin : begin + size]
        own = prints[offsets[row] : offsets[row + 1]]
        if closed[row]:
            size = pop(own_gains, own_rows, size)
        elif row != fresh[g] and weights[row] >= 0:
            replace_top(own_gains, own_rows, size, weights[row] * novelty(table, own))
            fresh[g] = row if own_rows[0] == row else np.int64(-1)
        elif held[0] + len(own) > room(table):
            break
        else:
            size = pop(own_gains, own_rows, size)
            closed[row] = CLOSED
            held[0] += cover(table, own)
            take(source, lengths[row], amounts, balance)
            shares.picked[g] += shares.size[row]
            out[picked] = row
            picked += 1
            fresh[:] = -1
        sizes[cell] = size
        if size:
            own_tops[0] = own_rows[0]
            replace_top(own_heads, own_tops, open_cells[g], bound(own_gains[0], amounts[2, source]))
        else:
            open_cells[g] = pop(own_heads, own_tops, open_cells[g])
        best_rows[g] = own_tops[0] if open_cells[g] else -1
        best_gains[g] = own_heads[0] if open_cells[g] else 0.0
    return picked
