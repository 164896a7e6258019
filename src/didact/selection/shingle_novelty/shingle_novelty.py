"""Shingle novelty: what the chosen samples do not say yet, by runs of twelve bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from didact.core.cost import Cost, Metered
from didact.core.errors import need
from didact.core.identity import method
from didact.core.protocols import Composition, Growing, Progress
from didact.selection.around.budget import candidates
from didact.selection.greedy.noise_last import estimate_noise, noise_last
from didact.selection.greedy.shares import kept_shares, scripts_of
from didact.text.buffers import utf8
from didact.text.deflate.sizes import DeflateSizes, Texts

if TYPE_CHECKING:
    from didact.core.arrays import Bool1D, Float1D, Int1D, UInt8s, UInt32s
    from didact.core.budget import Budget
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context, Grown
    from didact.core.scores import Scores
    from didact.selection.greedy.shares import Shares

_WINDOW: Final = 32_768  # bytes that DEFLATE looks back
_SEPARATOR: Final = b"\n"
_SMALLEST_TABLE: Final = 2**10


def estimate_shingle_novelty(
    stats: PoolStats,
    budget: Budget | None,
    *,
    sample: int,
    noise: float,
    **_settings: Any,
) -> Cost:
    """Processor time: reference cost, noise and shingles of every byte, then the picks."""
    need("shingle_novelty", "fast")
    if budget is None or not budget.amount(stats.n):
        return Cost()
    a_byte = 74e-9 + 30e-9 / sample
    return Cost(cpu_seconds=stats.n_bytes * a_byte + estimate_noise(stats, noise))


@method("shingle_novelty", libraries=("numba",))
@Composition(grows=True, estimate=estimate_shingle_novelty)
def shingle_novelty(
    pool: Pool,
    scores: Scores | None,
    _budget: Budget | None,
    ctx: Context,
    /,
    *,
    sample: Annotated[int, Field(ge=1, le=1024)] = 8,
    noise: Annotated[float, Field(ge=0, le=1)] = 0.3,
    balance: Annotated[float, Field(ge=0, le=16)] = 1.0,
    script_factor: Annotated[float, Field(ge=1.1, le=100)] | None = 1.5,
) -> Growing:
    """The set that repeats itself least, grown greedily; ties go to the lowest row.

    A sample's gain is the share of its distinct 12-byte shingles that no chosen sample has, times
    what it costs to write: the bytes that DEFLATE needs for it after a fixed 32 KiB of the pool,
    per byte of its own. The cost is measured beside other text, so that a tiny sample does not win
    by being tiny. Left at that, the sources with the least formulaic text would crowd out the
    others; so the gain is also multiplied by (a source's bytes / those chosen of it) ^ `balance`.
    All three only fall as the set grows, so the lazy greedy choice is *the* greedy choice. There is
    no (1 - 1/e) guarantee: cost and source belong to the sample, not to its shingles.

    Twelve bytes are two words of English and one and a half of Thai. So a pick that would take a
    script beyond 1.5 times its share of the candidates' tokens waits, and a script that would fall
    below its share by 1.5 is picked from first (`script_factor`). A source that shrinks by more is
    named in a note.

    The choice is one machine's, which holds the fingerprints; workers read the text. For pools past
    one, `feature_based` has partitions.

    Least redundant is most random, so noise comes last, after everything else: see
    `didact.text.noise.noise` for what is noise and what is not found.

    Args:
        pool: The samples.
        scores: Rows without one are never chosen; not looked at otherwise.
        ctx: Seed of the 32 KiB, workers, progress, pieces for the picks so far.
        sample: One in so many shingles is looked at, the same ones in every sample; 1 is all.
            Fingerprints have 32 bits: when 16 million are covered, 0.4 % of new ones are taken for
            covered, and more as more are; so look at fewer in large pools.
        noise: Samples of which less than this share holds together are noise, see
            `didact.text.noise.noise`; 0 lets everything pass, misdecoded text included.
        balance: How firmly the pool's mix of sources is kept. 0 looks at no source and repeats
            itself least; at 1 a source of twice the gains is chosen from some √2 to 2 times as
            much. `quotas` with `proportional` keep the mix exactly.
        script_factor: By what factor a script's share of the tokens may rise or fall, for every
            script that has at least 2 % of them and something left to gain, from some dozens of
            samples on; null lets scripts go where the gains are.

    Raises:
        MissingDependencyError: numba is not installed.

    **Source:** didact; shingles after Broder 1997, lazy greedy after Minoux 1978.
    **Cost:** some 150 ns a byte on one core of 2021, more than half of them the filter's: four to
    five times what `compression` takes. Workers share two thirds of it.
    Memory, beside four batches of text a worker: 4 bytes per distinct shingle in the sample, at
    `sample` 8 half a byte a byte of text, twice that for a moment; 70 bytes a candidate; 6 to 12
    bytes per shingle covered; and while noise is looked for 4 to 8 bytes a byte of text, at most
    530 MiB. 1.5 million samples of 620 bytes: about 1.2 GB.
    """
    need("shingle_novelty", "fast")
    rows = candidates(pool, scores)

    @contextmanager
    def growth() -> Iterator[Grown]:
        scripts = scripts_of(pool, rows, ctx)
        suspects, ranking = noise_last(
            "shingle_novelty", pool, rows, scripts, ctx, strictness=noise,
            script_factor=script_factor,
        )  # fmt: skip
        weights, offsets, prints = measured(pool, rows, ctx, sample=sample, suspects=suspects)
        shares = kept_shares(pool.n_tokens[rows], scripts, suspects, script_factor)
        shingles = Shingles(
            weights, offsets, prints, pool.n_bytes[rows], pool.source_codes[rows], balance, shares
        )
        yield shingles, ranking

    return Growing(rows=rows, open=growth)


def measured(
    pool: Pool, rows: Int1D, ctx: Context, *, sample: int, suspects: Bool1D
) -> tuple[Float1D, Int1D, UInt32s]:
    """What the greedy choice needs to know of every candidate.

    Returns:
        Weights: the reference cost per byte, negative on suspects; offsets `(n + 1,)` into the
        fingerprints; fingerprints, row after row.
    """
    most = 2**32 // sample - 1
    prefixes, apart = reference(pool, rows, ctx)
    weights, ends = np.zeros(len(rows)), np.zeros(len(rows) + 1, np.int64)
    prints: list[UInt32s] = []
    parts = pool.parts(rows)
    items = [(rows[part], apart[part]) for part in parts]
    found = ctx.executor.map(_measure, items, shared=(pool, prefixes, most))
    for part, (its_prints, its_ends, its_weights) in zip(parts, found, strict=True):
        ends[1:][part] = its_ends + ends[part.start]
        prints.append(its_prints)
        weights[part] = its_weights
        ctx.progress(Progress("measure", part.stop, len(rows)))
    weights[suspects] = -1.0
    return weights, ends, np.concatenate([np.empty(0, np.uint32), *prints])


def _measure(
    shared: tuple[Pool, tuple[UInt8s, UInt8s], int], item: tuple[Int1D, Bool1D]
) -> Metered[tuple[UInt32s, Int1D, Float1D]]:
    """Fingerprints of some rows of a batch, where each row's end among them, and weights."""
    from didact.selection.shingle_novelty import kernel

    (pool, prefixes, most), (rows, apart) = shared, item
    texts = pool.texts_of(rows)
    data, offsets = utf8(texts)
    out, ends = np.empty(len(data) + len(texts), np.uint32), np.empty(len(texts), np.int64)
    count = kernel.fingerprints(data, offsets, most, out, ends)
    cost = np.empty(len(texts))
    for prefix, ours in zip(prefixes, (~apart, apart), strict=True):
        mine = np.flatnonzero(ours)
        cost[mine] = added_bytes(data, offsets, mine, prefix)
    weights = np.maximum(cost, 0) / np.maximum(np.diff(offsets), 1)
    return Metered((out[:count].copy(), ends, weights))


def added_bytes(data: UInt8s, offsets: Int1D, which: Int1D, prefix: UInt8s) -> Int1D:
    """Compressed bytes that texts add after a prefix: zlib's size of both less the prefix's alone.

    Args:
        data: Bytes of all texts.
        offsets: Where each text begins, `(n + 1,)`.
        which: Texts to measure.
        prefix: What the compressor has seen.
    """
    if not len(which):
        return np.empty(0, np.int64)
    texts = Texts(data, np.append(offsets, offsets[-1]))  # the last one is empty
    with DeflateSizes(texts) as deflate:
        deflate.feed(prefix)
        alone = deflate.sizes(np.array([len(offsets) - 1]))
        return np.asarray(deflate.sizes(which) - alone)


def reference(pool: Pool, rows: Int1D, ctx: Context) -> tuple[tuple[UInt8s, UInt8s], Bool1D]:
    """Two prefixes of random candidates, 32 KiB each, and which candidates are in the first.

    Those are measured after the second, or they would be found in their own prefix. Of less than
    32 KiB all are in the first, and are measured alone.
    """
    drawn = ctx.rng("select", "shingle_novelty").permutation(len(rows))
    apart = np.zeros(len(rows), np.bool_)
    prefixes, at = [], 0
    for _ in range(2):
        reach = np.cumsum(pool.n_bytes[rows[drawn[at:]]] + len(_SEPARATOR))
        stop = at + int(np.searchsorted(reach, _WINDOW)) + 1
        texts = pool.read(rows[drawn[at:stop]], ["text"]).column("text").to_pylist()
        prefix = b"".join(text.encode() + _SEPARATOR for text in texts)
        prefixes.append(np.frombuffer(prefix, np.uint8))
        if not at:
            apart[drawn[:stop]] = True
        at = stop
    return (prefixes[0], prefixes[1]), apart


class Shingles:
    """The greedy choice by weight × share of shingles not covered × source's factor; a `Growth`.

    A source's factor is its bytes over those picked of it and one average sample's, to the power
    of `balance`: with equal gains and `balance` 1, sources are picked from as seats are given to
    parties (d'Hondt).

    Args:
        weights: `(n,)`; rows of negative weight come after all others, the lowest row first.
        offsets: `(n + 1,)` into `prints`.
        prints: uint32, none 0: each row's distinct fingerprints, at least one a row.
        lengths: `(n,)`, bytes.
        sources: `(n,)`, each row's source, from 0.
        balance: 0 and above.
        shares: Groups of rows whose shares are kept.

    **Cost:** O(E·s + E·log n) for E bounds brought up to date and s shingles a row; E has been 3
    to 7 times the picks. Memory 40 bytes a row, and 6 to 12 bytes per fingerprint covered.
    """

    chunk = 1024

    def __init__(
        self,
        weights: Float1D,
        offsets: Int1D,
        prints: UInt32s,
        lengths: Int1D,
        sources: npt.NDArray[np.int32],
        balance: float,
        shares: Shares,
    ) -> None:
        from didact.selection.greedy import heap
        from didact.selection.shingle_novelty import kernel

        self._kernel = kernel
        self._lengths, self._sources = lengths.astype(np.int64), sources.astype(np.int64)
        self._weights, self._offsets, self._prints = weights, offsets, prints
        self._balance, self._shares = float(balance), shares
        self._closed = np.zeros(len(weights), np.uint8)
        self._table, self._held = np.zeros(_SMALLEST_TABLE, np.uint32), np.zeros(1, np.int64)
        whole = np.maximum(np.bincount(self._sources, self._lengths), 1)
        mean = whole / np.maximum(np.bincount(self._sources), 1)
        self._amounts = np.stack([whole, mean, (whole / mean) ** balance])
        cells, self._cells = np.unique(
            shares.group * len(whole) + self._sources, return_inverse=True
        )
        groups, of_cell = np.divmod(cells, len(whole))
        self._rows = np.argsort(self._cells, kind="stable")
        self._gains = weights[self._rows]
        self._sizes = np.bincount(self._cells, minlength=len(cells))
        self._begins = np.cumsum(self._sizes) - self._sizes
        for begin, size in zip(self._begins, self._sizes, strict=True):
            ours = slice(begin, begin + size)
            heap.heapify(self._gains[ours], self._rows[ours], size)
        best = self._gains[self._begins]
        self._heads = np.where(best > 0, best * self._amounts[2, of_cell], best)
        self._tops = self._rows[self._begins]
        self._open = np.bincount(groups, minlength=len(shares.share))
        self._firsts = np.cumsum(self._open) - self._open
        for first, size in zip(self._firsts, self._open, strict=True):
            ours = slice(first, first + size)
            heap.heapify(self._heads[ours], self._tops[ours], size)

    def pick(self, most: int) -> Int1D:
        """The next picks in order: `most` of them, or fewer when the candidates run out."""
        out = np.empty(most, np.int64)
        done = 0
        while True:
            done += self._kernel.pick(
                self._heads, self._tops, self._firsts, self._open, self._gains, self._rows,
                self._begins, self._sizes, self._closed, self._weights, self._lengths, self._cells,
                self._sources, self._amounts, self._balance, self._shares, self._held,
                self._offsets, self._prints, self._table, out[done:],
            )  # fmt: skip
            if done == most or not self._open.any():
                return out[:done]
            self._enlarge()

    def block(self, positions: Int1D) -> None:
        """Candidates that may no longer be picked."""
        self._closed[positions] = self._kernel.CLOSED

    def replay(self, positions: Int1D) -> None:
        """Take these as picked."""
        self.block(positions)
        for row in positions.tolist():
            own = self._prints[self._offsets[row] : self._offsets[row + 1]]
            while self._held[0] + len(own) > self._kernel.room(self._table):
                self._enlarge()
            self._held[0] += self._kernel.cover(self._table, own)
            source = self._sources[row]
            self._kernel.take(source, self._lengths[row], self._amounts, self._balance)
            self._shares.picked[self._shares.group[row]] += self._shares.size[row]

    def _enlarge(self) -> None:
        """A table of twice the size with what the old one holds."""
        old = self._table
        self._table = np.zeros(2 * len(old), np.uint32)
        self._kernel.cover(self._table, old[old != 0])
