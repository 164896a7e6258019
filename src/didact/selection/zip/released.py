"""ZIP as its authors released it: float32 ratios, torch's ties, whole rounds, Python's `str()`."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from didact.core.errors import ConfigError
from didact.core.protocols import Progress
from didact.core.scores import Selection
from didact.selection.around.budget import goal
from didact.selection.greedy.finished_picks import load_piece, save_piece
from didact.selection.zip.partial_sort import smallest
from didact.selection.zip.rounds import alone
from didact.text.deflate.sizes import DeflateSizes, Texts, classic_zlib, fast_backend

if TYPE_CHECKING:
    from didact.core.arrays import Int1D
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores

_TAKEN: Final = np.float32(1e6)  # above every ratio DEFLATE can reach
_OPEN, _BETWEEN, _CLOSE = b"[", b", ", b"]"


def released(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    *,
    stages: tuple[int, int, int],
) -> Selection:
    """The released code's selection; see `didact.selection.zip.zip.zip_`."""
    allowed = ~pool.in_validation
    if scores is not None:
        scores.check(pool)
        allowed &= scores.present
    rows = np.flatnonzero(allowed)
    if budget is not None and budget.unit == "flops":
        check_released(stages, budget, len(rows))
    _, wanted = goal(pool, rows, budget, method="zip", scores=scores)
    check_released(stages, budget, len(rows))
    rounds = -(-wanted // stages[2])
    picks = np.empty(0, np.int64)
    if rounds:
        texts = row_texts(pool, rows)
        threads = ctx.executor.local_threads
        with (
            DeflateSizes(texts, workers=threads) as whole,
            DeflateSizes(texts, workers=threads) as fresh,
        ):
            picks = _rounds(texts, whole, fresh, stages, rounds, ctx)
    return Selection.ranked(
        rows[picks],
        pool.fingerprint,
        "zip",
        reasons=("zip",),
        notes=_notes(pool, rows, rows[picks], wanted),
    )


def check_released(stages: tuple[int, int, int], budget: Budget | None, n: int) -> None:
    """Raise ConfigError for what the released code does not have, or cannot do.

    Args:
        stages: k1, k2 and k3 of `zip_`.
        budget: What is asked for.
        n: Candidates; before they are known, the samples of the pool.
    """
    if budget is not None and budget.unit != "samples":
        raise ConfigError(
            f"zip: budget {budget} with mode=released, which counts samples; give samples=N or "
            "ratio=R, or use mode=exact"
        )
    if not classic_zlib() and not fast_backend():
        raise ConfigError(
            f"zip: mode=released with zlib {zlib.ZLIB_RUNTIME_VERSION}, whose sizes are not those "
            "of the classic zlib that the released code was run with; pip install 'didact[fast]', "
            "or use mode=exact"
        )
    k1, k2, k3 = stages
    rounds = 0 if budget is None else -(-budget.amount(n) // k3)
    if rounds and n < k1:
        raise ConfigError(
            f"zip: k1={k1:,} with mode=released is more than the {n:,} candidates, where the "
            "released code stops with an error; lower k1, or use mode=exact"
        )
    needed = k1 + k2 * (rounds - 1)
    if rounds and n < needed:
        raise ConfigError(
            f"zip: {n:,} candidates for mode=released, k1={k1}, k2={k2}, k3={k3} and budget "
            f"{budget}: each of {rounds} rounds uses up k2 candidates, and once fewer than k1 are "
            "left the released code picks samples twice; expected at least "
            f"k1 + (rounds - 1)·k2 = {needed:,}; lower k1 or the budget, or use mode=exact"
        )


def row_texts(pool: Pool, rows: Int1D) -> Texts:
    """Python's `str()` of the user's own rows as the last of a list: a bracket follows each."""
    data, ends = bytearray(), [0]
    for record in pool.records(rows):
        data += str(json.loads(record)).encode() + _CLOSE
        ends.append(len(data))
    return Texts(np.frombuffer(data, np.uint8), np.array(ends, np.int64))


def _rounds(
    texts: Texts,
    whole: DeflateSizes,
    fresh: DeflateSizes,
    stages: tuple[int, int, int],
    rounds: int,
    ctx: Context,
) -> Int1D:
    """Positions in the order they are picked."""
    k1, k2, k3 = stages
    chosen = _List(texts, whole)
    first = alone(texts, whole, ctx)
    state = chosen.ratios(np.arange(len(texts)), first)
    out: list[int] = []
    for number in range(rounds):
        ctx.progress(Progress("select", len(out), rounds * k3, "samples"))
        found = load_piece(ctx.pieces, f"round-{number}")
        rows = smallest(state, k1)
        if found is not None:
            sizes = found["sizes"].astype(np.int64)
        else:
            sizes = whole.sizes(rows) if out else first[rows]
        state[rows] = chosen.ratios(rows, sizes)
        near = rows[smallest(state[rows], k2)]
        state[near] = _TAKEN
        if found is None:
            picks = _greedily(_List(texts, fresh), near, k3, first)
            save_piece(ctx.pieces, f"round-{number}", sizes=sizes, picks=np.array(picks))
        else:
            picks = found["picks"].tolist()
        for position in picks:
            chosen.append(position)
        out += picks
    ctx.progress(Progress("select", len(out), len(out), "samples"))
    return np.array(out, np.int64)


def _greedily(picked: _List, near: Int1D, k3: int, first: Int1D) -> list[int]:
    """A round's picks: the lowest ratio of the round's list with one more; first on ties."""
    out: list[int] = []
    for _ in range(k3):
        sizes = picked.counter.sizes(near) if out else first[near]
        at = int(np.argmin(picked.ratios(near, sizes)))
        out.append(int(near[at]))
        picked.append(out[-1])
        near = np.delete(near, at)
    return out


class _List:
    """Python's text of a growing list of rows, in a compressor."""

    def __init__(self, texts: Texts, counter: DeflateSizes) -> None:
        self._texts = texts
        self.counter = counter
        self._raw = 0
        counter.reset()
        self._feed(np.frombuffer(_OPEN, np.uint8))

    def append(self, position: int) -> None:
        self._feed(self._texts[position][: -len(_CLOSE)])
        self._feed(np.frombuffer(_BETWEEN, np.uint8))

    def ratios(self, rows: Int1D, sizes: Int1D) -> npt.NDArray[np.float32]:
        """Raw over compressed bytes with each row as the last."""
        return ((self._raw + self._texts.lengths[rows]) / sizes).astype(np.float32)

    def _feed(self, data: npt.NDArray[np.uint8]) -> None:
        self.counter.feed(data)
        self._raw += len(data)


def _notes(pool: Pool, rows: Int1D, chosen: Int1D, wanted: int) -> tuple[str, ...]:
    """Where the released code departs from what was asked."""
    notes = []
    if len(chosen) > wanted:
        notes.append(
            f"the released code keeps whole rounds: {len(chosen):,} samples for the "
            f"{wanted:,} asked for"
        )
    copies = len(rows) - len(np.unique(pool.content_hash[rows]))
    if copies:
        twins = len(chosen) - len(np.unique(pool.content_hash[chosen]))
        notes.append(
            f"the released code knows no exact duplicates: {copies:,} of {len(rows):,} candidates "
            f"are copies of others, and {twins:,} of {len(chosen):,} samples chosen"
        )
    return tuple(notes)
