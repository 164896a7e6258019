"""The rows of an order by what tells them apart: hashed windows of their own text.

A window is distinguishing when one row alone has it; copies, rows of equal content, are one row.
Of each row a few distinguishing windows are kept; rows without any are kept apart, with windows
that few rows share, as those are that differ late, and short ones by their whole turns.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from didact.callbacks.units import Units
from didact.callbacks.windows import piece_windows, run_hashes
from didact.core.arrays import Bool1D, Int1D, Int32s, UInt8s, UInt32s, UInt64s
from didact.data.rows.turns import Turn
from didact.text.hash_set import HashSet

KEPT: Final = 16  # windows of a row: half of them its first ones, which no cut takes away
SHARED_BY: Final = 64  # rows that may share a window that is kept
EARLY: Final = 48  # units within which a row should have a window of its own
_ROWS: Final = 1024  # read at a time
_UNITS: Final = 2**20  # of windows, looked at at a time
_FEWEST_BITS, _MOST_BITS = 16, 32  # of a bitmap of windows: 8 KiB to 512 MiB
_AROUND: Final = (("", ""), (" ", ""), ("\n", ""), ("", "\n"), (" ", "\n"), ("\n", "\n"))


@dataclass(frozen=True, slots=True)
class RowTexts:
    """Units of the turns of distinct rows, mapped from a temporary file that goes with this value.

    Attributes:
        ids: The units of all turns, one behind the other.
        turn_ends: Where the turns begin there, and the end of the last, `(turns + 1,)`.
        row_ends: First turn of each row, and the number of turns, `(rows + 1,)`.
        units: What they are.
    """

    ids: UInt32s
    turn_ends: Int1D
    row_ends: Int1D
    units: Units

    def __len__(self) -> int:
        return len(self.row_ends) - 1

    def read(self, first: int, last: int) -> UInt32s:
        """The units of turns `first` to `last`, the last one excluded."""
        return self.ids[self.turn_ends[first] : self.turn_ends[last]]

    def turns(self, row: int) -> list[UInt32s]:
        """The units of each turn of a row."""
        return [self.read(turn, turn + 1) for turn in self.numbers(row)]

    def numbers(self, row: int) -> range:
        """The numbers of a row's turns."""
        return range(int(self.row_ends[row]), int(self.row_ends[row + 1]))

    def windows(self, row: int) -> UInt64s:
        """Every window of a row, ascending."""
        first, last = int(self.row_ends[row]), int(self.row_ends[row + 1])
        offsets = self.turn_ends[first : last + 1] - self.turn_ends[first]
        return np.unique(piece_windows(self.read(first, last), offsets, self.units.window)[0])

    def excerpt(self, row: int, most: int = 60) -> str:
        """The beginning of a row's first turn that has text."""
        for turn in self.numbers(row):
            ids = self.read(turn, turn + 1)
            if len(ids):
                text = " ".join(self.units.decode(ids[: most + 1]).split())
                whole = len(text) <= most and len(ids) <= most + 1
                return text if whole else text[: most - 1] + "…"
        return ""


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows by hashes, several of which may have one.

    Attributes:
        hashes: The hashes.
        starts: Where the rows of each begin, and their number, `(hashes + 1,)`.
        rows: The rows.
    """

    hashes: HashSet
    starts: Int1D
    rows: Int32s

    def find(self, hashes: UInt64s) -> set[int]:
        """The rows that have one of these."""
        at = self.hashes.find(hashes[self.hashes.may_contain(hashes)])
        found = np.unique(at[at >= 0]).tolist()
        return {
            row for i in found for row in self.rows[self.starts[i] : self.starts[i + 1]].tolist()
        }


def _entries(hashes: UInt64s, rows: Int32s, most: int) -> Entries:
    """Of sorted pairs those whose hash at most so many rows have."""
    starts = _starts(hashes)
    counts = np.diff(np.append(starts, len(hashes)))
    few = np.repeat(counts <= most, counts)
    kept = counts[counts <= most]
    ends = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return Entries(HashSet(hashes[few][ends[:-1]]), ends, rows[few])


@dataclass(frozen=True, slots=True)
class RowIndex:
    """What the rows of an order are recognized by.

    Attributes:
        row: The distinct row at each position of the order, numbered by first appearance, `(n,)`.
        first: First position of each distinct row, `(rows,)`.
        texts: Their units.
        unique: Windows that one row alone has.
        owner: The row that each is of.
        shared: Windows of rows that have none alone, or none early.
        whole: Short turns of rows that have no window alone, by their length.
    """

    row: Int1D
    first: Int1D
    texts: RowTexts
    unique: HashSet
    owner: Int32s
    shared: Entries
    whole: dict[int, Entries]


def build_index(
    rows: Iterable[Sequence[Turn]],
    units: Units,
    *,
    everywhere: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> RowIndex:
    """Index the rows of an order.

    Args:
        rows: Turns of the rows, in order.
        units: What their texts are cut into.
        everywhere: Texts that stand in every sequence, as a template's default system prompt does:
            their windows tell nothing.
        progress: Called with the number of rows read so far.

    **Cost:** tokenizes every distinct row once. In memory some 240 bytes a distinct row and 16 a
    position of the order; while it is built also two bitmaps of 2 bytes a unit each, at most 1 GiB
    together. On disk 4 bytes a unit, in a temporary file.
    """
    texts, hashes = _read(rows, units, progress)
    _, first, row = np.unique(hashes, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    number = np.empty(len(first), np.int64)
    number[by_appearance] = np.arange(len(first))
    marks = _Marks(int(texts.turn_ends[-1]))
    for found, owner in _blocks(texts):
        marks.add(found, owner)
    for ids in units.encode(list(everywhere)) if everywhere else ():
        marks.ban(run_hashes(ids, units.window))
    kept, common = [], []
    alone = np.zeros(len(texts), np.bool_)
    for found, owner in _blocks(texts):
        lonely = ~marks.has(found)
        kept.append(_spread(found[lonely], owner[lonely]))
        alone[kept[-1][1]] = True
        late = _late(lonely, owner)
        common.append(_spread(found[late], owner[late]))
    unique, owners = _merged(kept)
    return RowIndex(
        row=number[row].astype(np.int64),
        first=first[by_appearance].astype(np.int64),
        texts=texts,
        unique=HashSet(unique),
        owner=owners,
        shared=_entries(*_merged(common), most=SHARED_BY),
        whole=_whole_turns(texts, np.flatnonzero(~alone)),
    )


# -- reading ---------------------------------------------------------------------------------------


class _Seen:
    """Hashes seen so far: a sorted array, and the latest ones beside it."""

    def __init__(self) -> None:
        self._old, self._new = np.empty(0, np.uint64), set[int]()

    def fresh(self, hashes: UInt64s) -> Bool1D:
        """Whether each is seen for the first time."""
        at = np.searchsorted(self._old, hashes)
        inside = at < len(self._old)
        known = np.zeros(len(hashes), np.bool_)
        known[inside] = self._old[at[inside]] == hashes[inside]
        out = ~known
        for i in np.flatnonzero(out).tolist():
            value = int(hashes[i])
            out[i] = value not in self._new
            self._new.add(value)
        if len(self._new) > max(_ROWS, len(self._old) // 8):
            new = np.fromiter(self._new, np.uint64, len(self._new))
            self._old, self._new = np.sort(np.concatenate([self._old, new])), set()
        return out


def content_hash(turns: Sequence[Turn]) -> int:
    """64-bit hash of a row's content, by which copies are one; roles and weights do not count."""
    told = "\0".join(f"{branch}{content.strip()}" for branch, _, content, _ in turns)
    data = told.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _read(
    rows: Iterable[Sequence[Turn]], units: Units, progress: Callable[[int], None]
) -> tuple[RowTexts, UInt64s]:
    """The units of distinct rows, and the content hash at each position."""
    sizes, per_row, hashes = ([np.zeros(0, np.int64)] for _ in range(3))
    seen, done, source = _Seen(), 0, iter(rows)
    with tempfile.TemporaryFile(prefix="didact-order-") as file:
        while block := list(islice(source, _ROWS)):
            found = np.fromiter(map(content_hash, block), np.uint64, len(block))
            hashes.append(found.view(np.int64))
            new = [block[i] for i in np.flatnonzero(seen.fresh(found)).tolist()]
            turns = [turn for row in new for turn in row]
            encoded = units.encode([turn[2].strip() for turn in turns]) if turns else []
            file.write(b"".join(ids.tobytes() for ids in encoded))
            sizes.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            per_row.append(np.fromiter(map(len, new), np.int64, len(new)))
            done += len(block)
            progress(done)
        file.flush()
        mapped = file.tell() > 0  # an empty file cannot be
        ids = np.memmap(file, np.uint32, "r") if mapped else np.empty(0, np.uint32)
    ends = [np.concatenate([[0], np.cumsum(np.concatenate(part))]) for part in (sizes, per_row)]
    texts = RowTexts(
        ids=ids,
        turn_ends=ends[0].astype(np.int64),
        row_ends=ends[1].astype(np.int64),
        units=units,
    )
    return texts, np.concatenate(hashes).view(np.uint64)


# -- windows ---------------------------------------------------------------------------------------


def _blocks(texts: RowTexts) -> Iterator[tuple[UInt64s, Int1D]]:
    """Windows of distinct rows and the rows they are of, some rows at a time."""
    ends = texts.turn_ends[texts.row_ends]
    first = 0
    while first < len(texts):
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + _UNITS, "right")) - 1)
        turns = texts.row_ends[first], texts.row_ends[last]
        offsets = texts.turn_ends[turns[0] : turns[1] + 1]
        ids = texts.read(int(turns[0]), int(turns[1]))
        hashes, turn = piece_windows(ids, offsets - offsets[0], texts.units.window)
        row_of = np.repeat(np.arange(first, last), np.diff(texts.row_ends[first : last + 1]))
        yield hashes, row_of[turn]
        first = last


class _Marks:
    """Which windows several rows have: bitmaps, so that a few more seem to be shared than are."""

    def __init__(self, n_units: int) -> None:
        bits = min(max(_FEWEST_BITS, (16 * n_units).bit_length()), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        self._once, self._twice = (np.zeros(1 << (bits - 3), np.uint8) for _ in range(2))

    def add(self, hashes: UInt64s, owner: Int1D) -> None:
        """Windows of whole rows, rows ascending; what one row has twice counts once."""
        if not len(hashes):
            return
        order = np.argsort(hashes, kind="stable")
        hashes, owner = hashes[order], owner[order]
        starts = _starts(hashes)
        other = np.concatenate([[False], owner[1:] != owner[:-1]])
        other[starts] = False
        places = hashes[starts] >> self._shift
        again = np.logical_or.reduceat(other, starts) | _test(self._once, places)
        _set(self._twice, places[again])
        _set(self._once, places)

    def ban(self, hashes: UInt64s) -> None:
        """Windows that tell nothing."""
        _set(self._twice, np.sort(hashes) >> self._shift)

    def has(self, hashes: UInt64s) -> Bool1D:
        """Whether several rows have each window."""
        return _test(self._twice, hashes >> self._shift)


def _starts(values: UInt64s) -> Int1D:
    """Where runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[len(values) > 0], values[1:] != values[:-1]]))


def _test(bitmap: UInt8s, places: UInt64s) -> Bool1D:
    bits = bitmap[(places >> np.uint64(3)).view(np.int64)] >> (places & np.uint64(7)).astype(
        np.uint8
    )
    return (bits & 1).view(np.bool_)


def _set(bitmap: UInt8s, places: UInt64s) -> None:
    """Set the bits at ascending places."""
    if len(places):
        byte = places >> np.uint64(3)
        bit = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        first = _starts(byte)
        bitmap[byte[first].view(np.int64)] |= np.bitwise_or.reduceat(bit, first)


def _spread(hashes: UInt64s, owner: Int1D) -> tuple[UInt64s, Int1D]:
    """At most `KEPT` windows of each row: half of them the first, the others over all of it.

    Args:
        hashes: Windows in the sequence of the text.
        owner: The row of each, ascending.
    """
    starts = np.searchsorted(owner, owner)
    count = np.searchsorted(owner, owner, "right") - starts
    half = KEPT // 2
    place = np.arange(len(owner)) - starts - half  # behind the first half
    rest = np.maximum(count - half, 1)
    chosen = (count <= KEPT) | (place < 0) | ((place + 1) * half // rest > place * half // rest)
    return hashes[chosen], owner[chosen]


def _late(lonely: Bool1D, owner: Int1D) -> Bool1D:
    """Windows before the first that a row alone has, where that stands so late that a cut takes it.

    Args:
        lonely: Whether one row alone has a window, in the sequence of the text.
        owner: The row of each, ascending.
    """
    if not len(owner):
        return lonely
    row = owner - owner[0]
    before: Int1D = np.cumsum(lonely) - lonely  # lonely windows of all rows before each
    first = ~lonely & (before == before[np.searchsorted(owner, owner)])
    late = np.bincount(row, first) > EARLY
    late |= np.bincount(row, lonely) == 0
    kept: Bool1D = first & late[row]
    return kept


def _merged(parts: Sequence[tuple[UInt64s, Int1D]]) -> tuple[UInt64s, Int32s]:
    """Pairs of hash and row, each once, by hash and then by row."""
    hashes = np.concatenate([np.empty(0, np.uint64), *(h for h, _ in parts)])
    owner = np.concatenate([np.empty(0, np.int64), *(o for _, o in parts)]).astype(np.int32)
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    new = np.ones(len(hashes), np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return hashes[new], owner[new]


# -- short rows ------------------------------------------------------------------------------------


def _whole_turns(texts: RowTexts, rows: Int1D) -> dict[int, Entries]:
    """The short turns of some rows, as they may stand in a template, by their length in units."""
    units = texts.units
    around = {c: ids.tolist() for c, ids in zip(" \n", units.encode([" ", "\n"]), strict=True)}
    found: dict[int, tuple[list[UInt32s], list[int]]] = {}
    for row in rows.tolist():
        for ids in texts.turns(row):
            if not 0 < len(ids) < units.window:
                continue
            text = units.decode(ids).strip()
            written = units.encode([before + text + after for before, after in _AROUND])
            forms = {tuple(ids.tolist())}
            for (before, after), form in zip(_AROUND, written, strict=True):
                forms.add(_without(form.tolist(), around.get(before, []), around.get(after, [])))
            for bare in forms - {()}:
                ids_of, row_of = found.setdefault(len(bare), ([], []))
                ids_of.append(np.asarray(bare, np.uint32))
                row_of.append(row)
    out = {}
    for length, (ids_of, row_of) in sorted(found.items()):
        flat, offsets = np.concatenate(ids_of), np.arange(len(ids_of) + 1) * length
        hashes, _ = piece_windows(flat, offsets, length)
        out[length] = _entries(*_merged([(hashes, np.asarray(row_of))]), most=SHARED_BY)
    return out


def _without(ids: list[int], before: list[int], after: list[int]) -> tuple[int, ...]:
    """Units without those of what stands around, where they did not merge."""
    if before and ids[: len(before)] == before:
        ids = ids[len(before) :]
    if after and ids[-len(after) :] == after:
        ids = ids[: -len(after)]
    return tuple(ids)
