"""The rounds of ZIP, exactly: ratios as fractions, in three stages over candidates 0..n-1."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.protocols import Progress
from didact.selection.greedy.finished_picks import load_piece, save_piece
from didact.text.buffers import utf8
from didact.text.deflate.sizes import DeflateSizes, Texts

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pieces import Pieces
    from didact.core.pool import Pool
    from didact.core.protocols import Context

_SHARD_BYTES: Final = 16 * 2**20  # about a second of compressing
# Two different quotients a/b and c/d that round to one float64 have a·d of at least 2^52.
_EXACT: Final = 2**52


def sample_texts(pool: Pool, rows: Int1D) -> Texts:
    """The text of ascending rows, each followed by a newline, in memory."""
    lengths = pool.n_bytes[rows] + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    data = np.empty(int(offsets[-1]), np.uint8)
    newline, between = (pa.scalar(x, pa.large_string()) for x in ("\n", ""))
    for place, texts in pool.texts(rows):
        lines, _ = utf8(pc.binary_join_element_wise(texts, newline, between))
        data[offsets[place.start] : offsets[place.stop]] = lines
    return Texts(data, offsets)


def smallest(raw: Int1D, compressed: Int1D, quotient: Float1D, k: int) -> Int1D:
    """Positions of the `k` smallest of raw / compressed, exactly; ties go to the lowest.

    Args:
        raw: int64 `(n,)`.
        compressed: int64 `(n,)`, above 0.
        quotient: raw / compressed as float64, or infinity for positions out of the running.
        k: At most `n`.

    Returns:
        Ascending positions.

    **Cost:** O(n), no sort: quotients are rounded but never reordered, so that only equal ones at
    the border are looked at again.
    """
    last = np.partition(quotient, k - 1)[k - 1]
    sure, tied = np.flatnonzero(quotient < last), np.flatnonzero(quotient == last)
    lacking = k - len(sure)
    if len(tied) > lacking and int(raw[tied].max()) * int(compressed[tied].max()) >= _EXACT:
        ratios = [Fraction(int(raw[at]), int(compressed[at])) for at in tied]
        tied = tied[sorted(range(len(tied)), key=ratios.__getitem__)]
    return np.sort(np.concatenate([sure, tied[:lacking]]))


class Rounds:
    """ZIP's rounds over candidates 0..n-1, as a `Growth`.

    Args:
        texts: The candidates' texts.
        whole: Sizes after everything chosen; nothing fed yet.
        fresh: Sizes after the round's own picks.
        first: Compressed bytes of each candidate alone, `(n,)`.
        stages: How many are renewed, kept and picked per round.
        pieces: Where finished rounds are kept.
    """

    def __init__(
        self,
        texts: Texts,
        whole: DeflateSizes,
        fresh: DeflateSizes,
        first: Int1D,
        stages: tuple[int, int, int],
        pieces: Pieces,
    ) -> None:
        self.chunk = stages[2]
        self._texts, self._whole, self._fresh = texts, whole, fresh
        self._pieces, self._stages = pieces, stages
        self._lengths, self._first = texts.lengths, first
        self._raw = self._lengths.copy()
        self._compressed = first.copy()
        self._quotient = self._raw / self._compressed
        self._near = np.empty(0, np.int64)
        self._picks = self._sequence()

    def pick(self, most: int) -> Int1D:
        """The next picks; see `Growth`."""
        return np.fromiter(islice(self._picks, most), np.int64)

    def block(self, positions: Int1D) -> None:
        """Out of the running, the round's included; see `Growth`."""
        self._quotient[positions] = np.inf
        self._near = self._near[np.isfinite(self._quotient[self._near])]

    def replay(self, positions: Int1D) -> None:
        """Done again: what is known of the candidates follows from the rounds; see `Growth`."""
        self.pick(len(positions))

    def _sequence(self) -> Iterator[int]:
        """All picks in order; candidates may be blocked between them."""
        done = 0  # raw bytes of everything chosen
        for number in count():
            free = int(np.isfinite(self._quotient).sum())
            if not free:
                return
            found = load_piece(self._pieces, f"round-{number}")
            if found is not None:
                rows, sizes = found["rows"].astype(np.int64), found["sizes"].astype(np.int64)
            else:
                rows = self._smallest(min(self._stages[0], free))
                sizes = self._whole.sizes(rows) if done else self._first[rows]
            self._raw[rows] = done + self._lengths[rows]
            self._compressed[rows] = sizes
            self._quotient[rows] = self._raw[rows] / sizes
            self._near = rows[self._smallest_of(rows, min(self._stages[1], len(rows)))]
            picks = []
            given = None if found is None else found["picks"].tolist()
            for position in self._greedily() if given is None else given:
                self._quotient[position] = np.inf
                picks.append(position)
                yield position
            if given is None:
                save_piece(
                    self._pieces, f"round-{number}", rows=rows, sizes=sizes, picks=np.array(picks)
                )
            for position in picks:
                self._whole.feed(self._texts[position])
                done += int(self._lengths[position])

    def _greedily(self) -> Iterator[int]:
        """A round's picks among the near ones, one by one."""
        self._fresh.reset()
        done = 0
        for _ in range(self._stages[2]):
            near = self._near
            if not len(near):
                return
            raw = done + self._lengths[near]
            sizes = self._fresh.sizes(near) if done else self._first[near]
            at = smallest(raw, sizes, raw / sizes, 1)
            (position,) = near[at].tolist()
            self._near = np.delete(near, at)
            yield position
            self._fresh.feed(self._texts[position])
            done += int(self._lengths[position])

    def _smallest(self, k: int) -> Int1D:
        return smallest(self._raw, self._compressed, self._quotient, k)

    def _smallest_of(self, rows: Int1D, k: int) -> Int1D:
        return smallest(self._raw[rows], self._compressed[rows], self._quotient[rows], k)


def alone(texts: Texts, counter: DeflateSizes, ctx: Context) -> Int1D:
    """Compressed bytes of each candidate after what `counter` was fed so far, `(n,)`."""
    n = len(texts)
    steps = np.arange(0, int(texts.offsets[-1]), _SHARD_BYTES)
    bounds = np.searchsorted(texts.offsets, steps).tolist()
    out = np.empty(n, np.int64)
    for number, (first, last) in enumerate(pairwise([*bounds, n])):
        ctx.progress(Progress("compress alone", first, n))
        found = load_piece(ctx.pieces, f"alone-{number}")
        if found is None:
            out[first:last] = counter.sizes(np.arange(first, last))
            save_piece(ctx.pieces, f"alone-{number}", sizes=out[first:last])
        else:
            out[first:last] = found["sizes"]
    ctx.progress(Progress("compress alone", n, n))
    return out
