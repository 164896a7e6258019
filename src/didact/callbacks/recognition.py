"""Which rows of an order are in the sequences that a model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from didact.callbacks.row_index import RowIndex
from didact.callbacks.windows import piece_windows, run_hashes
from didact.core.arrays import UInt32s


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that one sequence may be of.

    Attributes:
        rows: Rows of which it has text that no other row has, most of it first.
        among: Rows one of which it is, where nothing tells them apart. Of `rows` and `among` one is
            empty; both are where no row is recognized.
        place: Number of the sequence.
    """

    rows: tuple[int, ...] = ()
    among: frozenset[int] = frozenset()
    place: int = 0

    @property
    def recognized(self) -> bool:
        """Whether it is a row's."""
        return bool(self.rows or self.among)


@dataclass(frozen=True, slots=True)
class Sequences:
    """The sequences of a step, and what is recognized in them.

    Attributes:
        index: The rows of the order.
        ids: The units of each sequence.
        found: What is recognized in each.
    """

    index: RowIndex
    ids: Sequence[UInt32s]
    found: Sequence[Found] = field(default_factory=tuple)

    def closer(self, place: int, to: Iterable[int], than: Iterable[int]) -> list[int]:
        """Rows that explain a sequence as well as any of the others, the best one first.

        A sequence that was cut may have nothing left of what tells two rows apart.

        Args:
            place: Number of the sequence.
            to: Rows that it may be.
            than: Rows that it was taken for.
        """
        windows = np.unique(run_hashes(self.ids[place], self.index.texts.units.window))
        text = self.index.texts.units.decode(self.ids[place])
        best = max((self._covered(row, windows, text) for row in than), default=(0, 0))
        told = {row: self._covered(row, windows, text) for row in to}
        kept = [row for row, covered in told.items() if covered >= best and any(covered)]
        return sorted(kept, key=lambda row: told[row], reverse=True)

    def unexplained(self, place: int, row: int, by: Iterable[int]) -> bool:
        """Whether a sequence has text of a row that others do not have: a window at least."""
        texts = self.index.texts
        windows = np.unique(run_hashes(self.ids[place], texts.units.window))
        own = texts.windows(row)
        both = windows[np.isin(windows, own)]
        for other in by:
            both = both[~np.isin(both, texts.windows(other))]
        return len(both) >= max(1, min(texts.units.window, len(own) // 2))

    def holds(self, place: int, row: int) -> bool:
        """Whether a sequence has all text of a row, as packed ones have that of short rows."""
        texts = self.index.texts
        size = sum(len(texts.units.decode(ids).strip()) for ids in texts.turns(row))
        return 0 < size == _told(self.index, row, texts.units.decode(self.ids[place]))

    def _covered(self, row: int, windows: np.ndarray, text: str) -> tuple[int, int]:
        """Windows of a row in a sequence, and characters of its turns."""
        own = self.index.texts.windows(row)
        return int(np.isin(windows, own).sum()), _told(self.index, row, text)


def recognize(index: RowIndex, sequences: Sequence[UInt32s]) -> Sequences:
    """The rows in some sequences.

    Args:
        index: The rows of the order.
        sequences: The units of each, without padding; packed ones in their parts where these are
            known.

    **Cost:** some 50 ns a unit where rows have text of their own; sequences of others are decoded,
    and looked for in as many lengths as short rows have.
    """
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in sequences])]).astype(np.int64)
    flat = np.concatenate([np.empty(0, np.uint32), *sequences]).astype(np.uint32)
    hashes, piece = piece_windows(flat, offsets, index.texts.units.window)
    rows = _alone(index, hashes, piece, len(sequences))
    found = []
    for place, ids in enumerate(sequences):
        among: frozenset[int] = frozenset()
        if not rows[place]:
            start, end = np.searchsorted(piece, [place, place + 1])
            candidates = index.shared.find(hashes[start:end])
            for length, entries in index.whole.items():
                candidates |= entries.find(run_hashes(ids, length))
            among = _narrowed(index, candidates, ids)
        found.append(Found(rows[place], among, place))
    return Sequences(index, sequences, found)


def _alone(index: RowIndex, hashes: np.ndarray, piece: np.ndarray, n: int) -> list[tuple[int, ...]]:
    """For each sequence the rows of which it has windows that they alone have."""
    may = index.unique.may_contain(hashes)
    at = index.unique.find(hashes[may])
    pieces, rows = piece[may][at >= 0], index.owner[at[at >= 0]].astype(np.int64)
    pairs, counts = np.unique(pieces * len(index.first) + rows, return_counts=True)
    out: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        place, row = divmod(pair, len(index.first))
        out[place].append((-count, row))
    return [tuple(row for _, row in sorted(pairs_of)) for pairs_of in out]


def _narrowed(index: RowIndex, candidates: set[int], ids: UInt32s) -> frozenset[int]:
    """Of some rows those of whose turns most text is in a sequence."""
    if len(candidates) > 1:
        text = index.texts.units.decode(ids)
        told = {row: _told(index, row, text) for row in candidates}
        candidates = {row for row in candidates if told[row] == max(told.values())}
    return frozenset(candidates)


def _told(index: RowIndex, row: int, text: str) -> int:
    """Characters of a row's turns in a text, one turn behind the other; it may end in one."""
    at = told = 0
    for ids in index.texts.turns(row):
        turn = index.texts.units.decode(ids).strip()
        found = text.find(turn, at)
        if found >= 0:
            at, told = found + len(turn), told + len(turn)
            continue
        for size in range(min(len(turn), len(text) - at), 0, -1):
            if text.endswith(turn[:size]):
                at, told = len(text), told + size
                break
    return told
