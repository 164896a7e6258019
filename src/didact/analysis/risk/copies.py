"""Near copies: which rows of some texts say nearly what an earlier row says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt64s
from didact.text.minhash import shingles

RUN: Final = 5  # words
COVERED: Final = 0.8  # of a row's runs, that earlier rows have
BY_ONE: Final = 0.5  # of them, that one earlier row brought


@dataclass(frozen=True, slots=True)
class Copies:
    """Rows that nearly repeat others.

    Attributes:
        group: Label of each row, int64 `(n,)`: rows with one label nearly repeat each other; a
            row that repeats none has a label of its own.
        of: The earlier row that each repeats, int64 `(n,)`; -1 where it repeats none.
    """

    group: Int1D
    of: Int1D


def near_copies(texts: Sequence[pa.LargeStringArray], content: UInt64s) -> Copies:
    """Which rows say nearly what an earlier one says.

    A row repeats an earlier one when their content is equal, or when 80 % of its runs of five
    words stand in earlier rows and 50 % of them in one: so a copy that was cut, or to which
    a word was changed here and there, is one too. Words are those of `didact.text.words`.

    Args:
        texts: Batches of texts, `n` in all.
        content: Hash of the content of each, `(n,)`; equal on exact copies.

    **Source:** containment as in Broder 1997, "On the resemblance and containment of documents",
    here exact and not estimated.
    **Cost:** about 60 ns a byte on one core, most of it a sort of the runs; memory 100 bytes a
    word.
    """
    n = len(content)
    of = np.full(n, -1, np.int64)
    _, first, back = np.unique(content, return_index=True, return_inverse=True)
    original = first[back]
    exact = original < np.arange(n)
    of[exact] = original[exact]
    hashes, rows = _runs(texts, exact)
    if len(hashes):
        at = np.lexsort((rows, hashes))
        hashes, rows = hashes[at], rows[at]
        begins = np.concatenate([[True], hashes[1:] != hashes[:-1]])
        distinct = begins | np.concatenate([[True], rows[1:] != rows[:-1]])
        begins, rows = begins[distinct], rows[distinct]  # a run counts once in a row
        bringer = rows[begins][np.cumsum(begins) - 1]
        _cover(rows, bringer, of)
    return Copies(_labels(of), of)


def _runs(texts: Sequence[pa.LargeStringArray], skipped: np.ndarray) -> tuple[UInt64s, Int1D]:
    """Runs of every row that is not skipped, and the row of each."""
    found, rows, row = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for batch in texts:
        hashes, offsets = shingles(batch, RUN)
        found.append(hashes)
        rows.append(np.repeat(np.arange(row, row + len(batch)), np.diff(offsets)))
        row += len(batch)
    hashes, owner = np.concatenate(found), np.concatenate(rows)
    keep = ~skipped[owner]
    return hashes[keep], owner[keep]


def _cover(rows: Int1D, bringer: Int1D, of: Int1D) -> None:
    """Note the rows whose runs earlier rows have; `bringer` is the first row with a run."""
    total = np.bincount(rows, minlength=len(of))
    from_earlier = bringer < rows
    rows, bringer = rows[from_earlier], bringer[from_earlier]
    earlier = np.bincount(rows, minlength=len(of))
    pairs, counts = np.unique(rows * np.int64(len(of)) + bringer, return_counts=True)
    row, brought_by = np.divmod(pairs, len(of))
    at = np.lexsort((-brought_by, counts, row))  # of a row the largest comes last
    last = np.flatnonzero(np.concatenate([row[at][1:] != row[at][:-1], [True]])[: len(at)])
    best, by, most = row[at][last], brought_by[at][last], counts[at][last]
    near = (earlier[best] >= COVERED * total[best]) & (most >= BY_ONE * total[best])
    of[best[near]] = by[near]


def _labels(of: Int1D) -> Int1D:
    """The first row of every chain of copies; a copy comes behind what it repeats."""
    label = np.arange(len(of))
    for row in np.flatnonzero(of >= 0).tolist():
        label[row] = label[of[row]]
    return label
