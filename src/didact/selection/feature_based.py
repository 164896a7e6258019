"""Feature-based selection: grams that few chosen samples have, each time worth a little less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from didact.core.binding import as_json
from didact.core.cost import Cost, Metered
from didact.core.errors import need
from didact.core.protocols import Progress, estimated_by
from didact.selection.budget import candidates, goal, take
from didact.selection.greedy import grow, journal_for
from didact.selection.near_duplicates import NearDuplicates, Refusal
from didact.selection.quotas import Quotas
from didact.text.grams import hash_grams

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context
    from didact.core.scores import Budget, Int1D, Scores, Selection
    from didact.text.buffers import UInt64s

    Int32s = npt.NDArray[np.int32]

Weight = Literal["none", "log", "sqrt"]
Per = Literal["auto", "byte", "token", "sample"]

_FULL: Final = 0.7  # a table of grams is enlarged when it is this full
_GROWTH: Final = 1.6


def estimate_feature_based(stats: PoolStats, budget: Budget | None, **_settings: Any) -> Cost:
    """Processor time: features, and lazy greedy."""
    if budget is None or not budget.amount(stats.n):
        return Cost()
    return Cost(cpu_seconds=7e-8 * stats.n_bytes)


@estimated_by(estimate_feature_based)
def feature_based(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    weight: Weight = "none",
    min_df: Annotated[int, Field(ge=1)] = 2,
    per: Per = "auto",
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """TODO."""
    need("feature_based", "fast")
    settings = as_json(
        feature_based,
        {
            "weight": weight, "min_df": min_df, "per": per,
            "quotas": quotas, "near_duplicates": near_duplicates,
        },
    )  # fmt: skip
    rows = candidates(pool, scores)
    sizes, wanted = goal(pool, rows, budget, quotas, method="feature_based", scores=scores)
    picks = np.empty(0, np.int64)
    if wanted and budget is not None:
        if per == "auto":
            per = "token" if budget.unit == "tokens" else "byte"
        growth = Features.of(pool, rows, weight, min_df, _sizes(pool, rows, per), ctx)
        refusal = Refusal(pool, rows, near_duplicates, ctx) if near_duplicates is not None else None
        journal = journal_for(ctx, pool, rows, "feature_based", {**settings, "per": per})
        picks = grow(
            growth, sizes, wanted, ctx, unit=budget.unit, refusal=refusal, journal=journal
        )
    return take(
        pool,
        rows[picks],
        budget,
        quotas,
        method="feature_based",
        settings=settings,
        scores=scores,
        reasons=("feature_based",),
    )


def _sizes(pool: Pool, rows: Int1D, per: Per) -> npt.NDArray[np.float64]:
    """What each row's gain is divided by."""
    if per == "sample":
        return np.ones(len(rows))
    of = pool.n_tokens if per == "token" else pool.n_bytes
    return np.maximum(of[rows], 1).astype(np.float64)


@dataclass
class Features:
    """Lazy greedy over the grams of candidates 0..n-1."""

    once: Int32s
    once_at: Int1D
    more: Int32s
    times: Int32s
    more_at: Int1D
    weight: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    chunk: int = 1000

    def __post_init__(self) -> None:
        from didact.selection import feature_kernel as kernel
        from didact.selection.heap import heapify

        n = len(self.size)
        self.count = np.zeros(len(self.weight), np.int32)
        self.step = self.weight.copy()
        self.gone = np.zeros(n, np.bool_)
        self.fresh = np.zeros(n, np.int32)
        self.done = 0
        self.gains = np.empty(n)
        self.rows = np.arange(n, dtype=np.int32)
        self.entries = n
        kernel.gains_of(self.gains, *self._samples, *self._state, self.size)
        heapify(self.gains, self.rows, n)

    @property
    def _samples(self) -> tuple[Any, ...]:
        return self.once, self.once_at, self.more, self.times, self.more_at

    @property
    def _state(self) -> tuple[Any, ...]:
        return self.count, self.weight, self.step

    def pick(self, most: int) -> Int1D:
        from didact.selection import feature_kernel as kernel

        picks = np.empty(most, np.int64)
        picked, self.entries = kernel.pick(
            picks, self.gains, self.rows, self.entries, self.fresh, self.done, self.gone,
            *self._samples, *self._state, self.size,
        )  # fmt: skip
        self.done += picked
        return picks[:picked]

    def block(self, positions: Int1D) -> None:
        self.gone[positions] = True

    def replay(self, positions: Int1D) -> None:
        from didact.selection import feature_kernel as kernel

        for position in positions.tolist():
            kernel.add(position, *self._samples, *self._state)
        self.gone[positions] = True
        self.done += len(positions)

    @classmethod
    def of(
        cls,
        pool: Pool,
        rows: Int1D,
        weight: Weight,
        min_df: int,
        size: npt.NDArray[np.float64],
        ctx: Context,
    ) -> Features:
        """Two passes over the candidates' text."""
        from didact.selection import feature_kernel as kernel

        cuts = np.searchsorted(rows, [batch.start for batch in pool.batches()])
        items = [part for part in np.split(rows, cuts) if len(part)]
        vocabulary = Vocabulary(int(pool.n_bytes[rows].sum()), everything=min_df == 1)
        ctx.progress(Progress("grams", 0, len(rows)))
        done = n_once = n_more = 0
        for item, (grams, repeated) in zip(
            items, ctx.executor.map(_meet, items, shared=pool), strict=True
        ):
            vocabulary.add(grams)
            n_more += repeated
            n_once += len(grams) - repeated
            done += len(item)
            ctx.progress(Progress("grams", done, len(rows)))
        once, more = np.empty(n_once, np.int32), np.empty(n_more, np.int32)
        times = np.empty(n_more, np.int32)
        once_at, more_at = np.zeros(len(rows) + 1, np.int64), np.zeros(len(rows) + 1, np.int64)
        frequency = np.zeros(vocabulary.known, np.int32)
        counted = np.zeros(len(rows), np.bool_)
        counted[np.unique(pool.group[rows], return_index=True)[1]] = True
        done = a = b = 0
        ctx.progress(Progress("features", 0, len(rows)))
        shared = (pool, vocabulary.keys, vocabulary.ids)
        for item, found in zip(items, ctx.executor.map(_features, items, shared=shared), strict=True):
            its_once, its_once_at, its_more, its_times, its_more_at = found
            here = counted[done : done + len(item)]
            kernel.witness(its_once, its_once_at, here, frequency)
            kernel.witness(its_more, its_more_at, here, frequency)
            once[a : a + len(its_once)] = its_once
            more[b : b + len(its_more)] = its_more
            times[b : b + len(its_more)] = its_times
            once_at[done : done + len(item) + 1] = its_once_at + a
            more_at[done : done + len(item) + 1] = its_more_at + b
            a, b, done = a + len(its_once), b + len(its_more), done + len(item)
            ctx.progress(Progress("features", done, len(rows)))
        del vocabulary, shared
        worth = {"none": np.ones_like, "log": np.log1p, "sqrt": np.sqrt}[weight](
            frequency.astype(np.float64)
        )
        worth[frequency < min_df] = 0
        a = kernel.keep(once, np.empty(0, np.int32), once_at, worth)
        b = kernel.keep(more, times, more_at, worth)
        return cls(once[:a], once_at, more[:b], times[:b], more_at, worth, size)


class Vocabulary:
    """Grams that were met twice, and few others; numbered in the order they were found."""

    def __init__(self, n_bytes: int, *, everything: bool) -> None:
        bits = max(16, n_bytes.bit_length())
        self._seen = np.full(1 << (bits - 3), 255 if everything else 0, np.uint8)
        self._shift = 64 - bits
        self.known = 0
        self._resize(1 << 16)

    def _resize(self, slots: int) -> None:
        from didact.selection import feature_kernel as kernel

        keys, ids = np.empty(slots, np.uint64), np.full(slots, -1, np.int32)
        if self.known:
            kernel.rehash(self.keys, self.ids, keys, ids)
        self.keys, self.ids = keys, ids

    def add(self, grams: UInt64s) -> None:
        """Meet the distinct grams of some texts."""
        from didact.selection import feature_kernel as kernel

        at = 0
        while True:
            at, self.known = kernel.meet(
                grams, at, self._seen, self._shift, self.keys, self.ids, self.known,
                int(_FULL * len(self.ids)),
            )  # fmt: skip
            if at == len(grams):
                return
            self._resize(int(_GROWTH * len(self.ids)))


def _distinct(pool: Pool, rows: Int1D) -> tuple[UInt64s, Int32s, Int1D]:
    from didact.selection import feature_kernel as kernel

    texts = pool.read(range(int(rows[0]), int(rows[-1]) + 1), ["text"]).column("text")
    if len(texts) > len(rows):
        texts = texts.take(rows - rows[0])
    grams = hash_grams(texts)
    return kernel.distinct(grams.hashes, grams.offsets)


def _meet(pool: Pool, rows: Int1D) -> Metered[tuple[UInt64s, int]]:
    grams, counts, _ = _distinct(pool, rows)
    return Metered((grams, int((counts > 1).sum())))


def _features(shared: tuple[Pool, UInt64s, Int32s], rows: Int1D) -> Metered[tuple[Any, ...]]:
    from didact.selection import feature_kernel as kernel

    pool, keys, ids = shared
    return Metered(kernel.look_up(*_distinct(pool, rows), keys, ids))
