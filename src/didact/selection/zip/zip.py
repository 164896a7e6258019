"""ZIP: a set that compresses badly says much in few bytes; grown in three stages per round.

A round refreshes what is known of the candidates that looked best, coarsely against everything
chosen so far, and then picks greedily among the best of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from didact.core.binding import as_json
from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.protocols import Progress, estimated_by
from didact.selection.around.budget import candidates, goal, take
from didact.selection.around.near_duplicates import (
    NearDuplicates,
    Refusal,
    compiled_and_compared_by,
    estimate_all,
)
from didact.selection.around.quotas import Quotas
from didact.selection.greedy.finished_picks import load_piece, save_piece
from didact.selection.greedy.growth import grow
from didact.text.buffers import utf8
from didact.text.deflate.sizes import DeflateSizes, Texts, classic_zlib, fast_backend

if TYPE_CHECKING:
    from didact.core.arrays import Float1D, Int1D
    from didact.core.pieces import Pieces
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context
    from didact.core.scores import Budget, Scores, Selection

Mode = Literal["exact", "released"]
Count = Annotated[int, Field(ge=1)]

_SHARD_BYTES: Final = 16 * 2**20  # about a second of compressing
# Two different quotients a/b and c/d that round to one float64 have a·d of at least 2^52.
_EXACT: Final = 2**52
# Seconds per evaluation and per byte of the candidate: compiled, and by copies of zlib's state.
_SECONDS: Final = {True: (5e-6, 30e-9), False: (40e-6, 110e-9)}


def estimate_zip(
    stats: PoolStats,
    budget: Budget | None,
    *,
    mode: Mode,
    k1: int,
    k2: int,
    k3: int,
    quotas: Quotas | None,
    near_duplicates: NearDuplicates | None,
) -> Cost:
    """Processor time: the candidates' evaluations times what one takes, and comparing them.

    Raises:
        ConfigError: What `zip_` would refuse, as far as it is known before the pool is looked at.
    """
    _check_order(k1, k2, k3)
    if budget is None or not stats.n:
        return Cost()
    if mode == "released":
        from didact.selection.zip.released import refuse

        given = {"quotas": quotas, "near_duplicates": near_duplicates, "k1": k1, "k2": k2, "k3": k3}
        refuse(given, budget, stats.n)
    n, wanted = stats.n, budget.amount(stats.n)
    if budget.unit == "tokens":
        wanted = round(n * min(wanted / max(stats.n_tokens, 1), 1))
    if mode == "released":
        wanted = -(-wanted // k3) * k3
    elif quotas and wanted:
        wanted = n
    wanted = min(wanted, n)
    if not wanted:
        return Cost()
    k1, k2, k3 = _clamped(n, k1, k2, k3)
    done = np.arange(0, wanted, k3)  # at the beginning of each round
    free, picks = n - done, np.minimum(k3, wanted - done)
    near = np.minimum(k2, free)
    stage_2 = np.minimum(k1, free)[1:]  # in the first round nothing is chosen
    stage_3 = picks * (2 * near - picks + 1) // 2 - near  # so before a round's first pick
    evaluations = n + stage_2.sum() + stage_3.sum()
    each, a_byte = _SECONDS[fast_backend()]
    seconds = float(evaluations * (each + a_byte * stats.n_bytes / n))
    compared = estimate_all(stats, budget, near_duplicates=near_duplicates)
    return Cost(cpu_seconds=seconds) + compared


@method("zip", libraries=compiled_and_compared_by)
@estimated_by(estimate_zip)
def zip_(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    mode: Mode = "exact",
    k1: Count = 10_000,
    k2: Count = 200,
    k3: Count = 100,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """The set that DEFLATE compresses least, grown greedily; ties go to the lowest row.

    Every candidate has a ratio, raw bytes over compressed bytes, at first its own. Each round takes
    the `k1` of lowest ratio and renews theirs as that of everything chosen followed by the
    candidate; takes the `k2` lowest of these; and from these picks `k3`, one at a time, each the
    one that with the *round's* picks before it has the lowest ratio. DEFLATE's window is 32 KiB:
    "everything chosen" is what fits in there, some thirty samples of a kilobyte.

    `exact` compresses each sample's text and a newline (of pairs: prompt, chosen, rejected), orders
    ratios as fractions, never picks twice, keeps the k2 - k3 not picked in the running, and meets
    the budget. `released` makes the released code's picks, in its order: text is Python's `str()`
    of the list of the user's own rows (Parquet's as their JSON), ratios are float32 whose many ties
    fall as torch's top-k leaves them, the k2 - k3 not picked are lost, whole rounds are kept beyond
    the budget, and exact duplicates count as samples. It is refused where that code picks samples
    twice.

    Args:
        pool: The samples.
        scores: Rows without one are never chosen; not looked at otherwise.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Workers, progress, pieces for finished rounds.
        mode: `exact` or `released`.
        k1: Candidates renewed per round; at most as many as there are.
        k2: Of these, candidates for picks; at most `k1`.
        k3: Picks per round; at most `k2`.
        quotas: Limits per source; with them all candidates are ranked.
        near_duplicates: Refuse near-duplicates of what is chosen.

    Raises:
        ConfigError: `k3` over `k2` over `k1`, a quota that names an unknown source, or a case that
            `released` refuses.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.

    **Source:** ZIP (Yin et al. 2024, "Entropy Law", arXiv:2407.06645), its released code for
    `released`.
    **Cost:** at most n + rounds·(k1 + k3·(2·k2 - k3 + 1) / 2) evaluations, rounds = picks / k3,
    each some 30 µs for a kilobyte with numba and five times that without. Memory: the candidates'
    text, 83 bytes a candidate, 5 MB a worker. Finished rounds are kept on disk while it works, at
    most 16·k1 bytes each; a killed selection goes on after the last.
    """
    _check_order(k1, k2, k3)
    settings = as_json(
        zip_,
        {
            "mode": mode, "k1": k1, "k2": k2, "k3": k3,
            "quotas": quotas, "near_duplicates": near_duplicates,
        },
    )  # fmt: skip
    if mode == "released":
        from didact.selection.zip.released import released

        return released(pool, scores, budget, ctx, settings=settings)
    rows = candidates(pool, scores)
    sizes, wanted = goal(pool, rows, budget, quotas, method="zip", scores=scores)
    picks = np.empty(0, np.int64)
    notes: tuple[str, ...] = ()
    refusal = None
    if wanted and budget is not None:
        stages = _clamped(len(rows), k1, k2, k3)
        notes = (*_clamping((k1, k2, k3), stages), *_zlib_note())
        texts = sample_texts(pool, rows)
        refusal = Refusal(pool, rows, near_duplicates, ctx) if near_duplicates else None
        workers = ctx.executor.workers
        with (
            DeflateSizes(texts, workers=workers) as whole,
            DeflateSizes(texts, workers=workers) as fresh,
        ):
            first = alone(texts, whole, ctx)
            growth = Rounds(texts, whole, fresh, first, stages, ctx.pieces)
            picks = grow(
                growth, sizes, wanted, ctx, unit=budget.unit, refusal=refusal, resumable=False
            )
    chosen = take(
        pool, rows[picks], budget, quotas,
        method="zip", settings=settings, scores=scores, reasons=("zip",),
        refused=refusal.refused if refusal else 0,
    )  # fmt: skip
    return replace(chosen, notes=(*notes, *chosen.notes))


def sample_texts(pool: Pool, rows: Int1D) -> Texts:
    """The text of ascending rows, each followed by a newline, in memory."""
    lengths = pool.n_bytes[rows] + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    data = np.empty(int(offsets[-1]), np.uint8)
    newline, between = (pa.scalar(x, pa.large_string()) for x in ("\n", ""))
    for batch in pool.batches():
        first, last = np.searchsorted(rows, (batch.start, batch.stop))
        if first == last:
            continue
        texts = pool.read(batch, ["text"]).column("text")
        if last - first < len(batch):
            texts = texts.take(pa.array(rows[first:last] - batch.start))
        lines, _ = utf8(pc.binary_join_element_wise(texts, newline, between))
        data[offsets[first] : offsets[last]] = lines
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


def _check_order(k1: int, k2: int, k3: int) -> None:
    if not k3 <= k2 <= k1:
        raise ConfigError(
            f"zip: k1={k1}, k2={k2}, k3={k3}; each stage chooses from the one before: expected "
            "k1 ≥ k2 ≥ k3 (the released code picks samples twice otherwise)"
        )


def _clamped(n: int, k1: int, k2: int, k3: int) -> tuple[int, int, int]:
    """The stages' sizes for `n` candidates."""
    return min(k1, n), min(k2, n), min(k3, n)


def _clamping(asked: tuple[int, int, int], stages: tuple[int, int, int]) -> tuple[str, ...]:
    changed = [
        f"k{i}={was:,} became {now:,}"
        for i, (was, now) in enumerate(zip(asked, stages, strict=True), 1)
        if was != now
    ]
    return (f"{', '.join(changed)}: there are no more candidates",) if changed else ()


def _zlib_note() -> tuple[str, ...]:
    if classic_zlib() or fast_backend():
        return ()
    note = (
        f"sizes are those of zlib {zlib.ZLIB_RUNTIME_VERSION}, not of the classic zlib, and so are "
        "the picks; pip install 'didact[fast]' for those of the classic one"
    )
    return (note,)
