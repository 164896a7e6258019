"""Refusing near-duplicates of what is already chosen, around every selector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import Field

from didact.core.cost import Cost, Metered
from didact.core.errors import need
from didact.core.protocols import Progress
from didact.selection.around.opposites import agrees, keyed_by_label, sides_of, sides_shape
from didact.selection.around.quotas import fitting
from didact.text.minhash import band_keys, banding, signatures

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Float1D, Int1D
    from didact.core.budget import Budget
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context

_OPEN, _MET, _CLOSED = 0, 1, 2
_NONE: Final = np.empty(0, np.int64), np.empty(0)
_CHANCE: Final = 1 / 256  # of places that differ, so many agree in the 8 bits that are kept
_TOGETHER: Final = 4096  # candidates compared at a time: half a megabyte of signatures
_FACTOR: Final = 4  # how a walk that comes up short grows; at most a third is done twice
_PER_SAMPLE: Final = 4e-5  # seconds
_PER_BYTE: Final = 1.5e-8
_OF_PAIRS: Final = 2  # times as much: both answers are signed beside the text; measured 2.0 to 2.3


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicates:
    """Choose no sample that is nearly one already chosen, and teaches the same.

    Attributes:
        similarity: Jaccard similarity of the word n-gram sets at which a sample is refused. Below
            0.5 samples are hardly near, and finding them all would compare most of the pool.
        ngram: Words of a run, at most 64. A text of fewer words is one run; in scripts without
            spaces a word is a character.
        permutations: MinHash permutations; the estimate's error is at most 0.5 / √permutations.
    """

    __pydantic_config__ = {  # noqa: RUF012 - read by pydantic when bound
        "extra": "forbid",
        "revalidate_instances": "always",
    }

    similarity: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    ngram: Annotated[int, Field(ge=1, le=64)] = 5
    permutations: Annotated[int, Field(ge=16, le=512)] = 128


class Refusal:
    """Near-duplicates among candidates 0..n-1, found by MinHash and banding.

    Candidates that agree in a whole band are compared place by place: a pair at `similarity` is
    compared with probability 0.99 or more, a closer pair with more. Whether a pair is near does not
    depend on who else is a candidate. Texts without words are near to none. Answers of other labels
    are not near, nor preference pairs of which one prefers what the other rejects.

    Attributes:
        refused: Candidates named so far.
        looked_at: Members of bands looked at so far; of these, at most as many were compared.

    **Source:** Broder 1997; bands as in Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets",
    ch. 3; signatures kept at 8 bits a place with the estimate corrected for chance, as in Li &
    König 2010 (arXiv:0910.3349).
    **Cost:** about 20 µs and 15 ns a byte of text per candidate to build. Memory 8 bits a
    permutation and at most 8 bytes a band and candidate, by default (16 bands) 256 bytes; a third
    more while it is built. Of preference pairs twice the time and the memory.
    """

    def __init__(self, pool: Pool, rows: Int1D, how: NearDuplicates, ctx: Context) -> None:
        need("near_duplicates", "dedup")
        self.refused = 0
        self.looked_at = 0
        enough = how.similarity + (1 - how.similarity) * _CHANCE
        self._enough = int(np.ceil(how.permutations * enough - 1e-9))
        self._signed, keys, worded, self._sides = _sketches(pool, rows, how, ctx)
        self._state = np.full(len(rows), _OPEN, np.uint8)
        self._bands = [_Band.of(key, worded) for key in keys]
        # Most rows agree with nobody: known beforehand, they cost a look instead of one per band.
        self._alone = np.logical_and.reduce([band.bucket < 0 for band in self._bands])

    def after(self, position: int) -> Int1D:
        """Candidates refused because this one is chosen; each is named at most once.

        Returns:
            Ascending positions: open candidates, neither chosen nor refused before, that are near.

        **Cost:** as `near`.
        """
        return self.near(position)[0]

    def near(self, position: int) -> tuple[Int1D, Float1D]:
        """Candidates refused because this one is chosen, and how near each is to it.

        Returns:
            As `after`; and the estimated Jaccard similarity of each to this one, 0 to 1.

        **Cost:** the open candidates that share a band with this one, about 0.1 µs each; those that
        are not open any more leave their bands when they are met.
        """
        state = self._state
        state[position] = _CLOSED
        if self._alone[position]:
            return _NONE
        found = [np.empty(0, np.int32)]
        for band in self._bands:
            inside = band.members(position)
            if not len(inside):
                continue
            self.looked_at += len(inside)
            of = state[inside]
            found.append(inside[of == _OPEN])
            state[found[-1]] = _MET
            if _CLOSED in of:
                band.keep(position, inside[of != _CLOSED])
        met = np.concatenate(found)
        if not len(met):
            return _NONE
        state[met] = _OPEN
        agree = self._agreement(position, met)
        which = np.flatnonzero(agree >= self._enough)
        which = which[np.argsort(met[which])]
        which = which[agrees(self._sides[position], self._sides[met[which]])]
        near, share = met[which].astype(np.int64), agree[which] / self._signed.shape[1]
        state[near] = _CLOSED
        self.refused += len(near)
        return near, (share - _CHANCE) / (1 - _CHANCE)

    def _agreement(self, position: int, others: npt.NDArray[np.int32]) -> Int1D:
        """In how many places the others' signatures agree with this one's."""
        agree = np.empty(len(others), np.int64)
        for at in range(0, len(others), _TOGETHER):
            part = self._signed.take(others[at : at + _TOGETHER], axis=0)
            equal = part == self._signed[position]
            agree[at : at + _TOGETHER] = equal.sum(axis=1, dtype=np.uint16)
        return agree


@dataclass(slots=True)
class _Band:
    """Who agrees with whom in one band.

    Attributes:
        bucket: Each candidate's bucket, `(n,)`; -1 for those that agree with nobody.
        start: Where each bucket begins in `rows`.
        size: How many of its members are left.
        rows: Members, bucket after bucket.
    """

    bucket: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(cls, keys: npt.NDArray[np.uint32], worded: npt.NDArray[np.bool_]) -> _Band:
        """Buckets of the candidates with words; overwrites the keys."""
        rows = np.flatnonzero(worded).astype(np.int32)
        rows = rows[np.argsort(keys[rows], kind="stable")]
        ranked = keys[rows]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(rows)])
        sizes = np.diff(np.append(starts, len(rows)))
        shared = sizes > 1
        rows = rows[np.repeat(shared, sizes)]
        size = sizes[shared].astype(np.int32)
        bucket = keys.view(np.int32)
        bucket[:] = -1
        bucket[rows] = np.repeat(np.arange(len(size), dtype=np.int32), size)
        return cls(bucket, (np.cumsum(size) - size).astype(np.int32), size, rows)

    def members(self, position: int) -> npt.NDArray[np.int32]:
        """The bucket that holds a candidate."""
        bucket = self.bucket[position]
        if bucket < 0:
            return self.rows[:0]
        start = self.start[bucket]
        return self.rows[start : start + self.size[bucket]]

    def keep(self, position: int, left: npt.NDArray[np.int32]) -> None:
        """Leave only these in the bucket that holds a candidate."""
        bucket = self.bucket[position]
        start = self.start[bucket]
        self.rows[start : start + len(left)] = left
        self.size[bucket] = len(left)


def drop_near_duplicates(
    pool: Pool,
    rows: Int1D,
    how: NearDuplicates,
    ctx: Context,
    *,
    sizes: Int1D,
    enough: int | None = None,
) -> tuple[Int1D, int]:
    """Go down a ranking and leave out every row that is near one kept above it.

    Args:
        pool: The pool the rows belong to.
        rows: Row indices, best first, unique, `(n,)`.
        how: What is near.
        ctx: Its executor reads the texts.
        sizes: Each row's size, `(n,)`.
        enough: Stop when the sizes kept add up to more than this; None goes all the way. Texts far
            below the stop are not read.

    Returns:
        Ascending positions kept, and how many rows were refused on the way.
    """
    total = len(rows)
    reach = total if enough is None else _reach(fitting(sizes, enough), total)
    while True:
        refusal = Refusal(pool, rows[:reach], how, ctx)
        kept, full = _walk(refusal, sizes[:reach], enough)
        if full:
            return kept, int(kept[-1]) + 1 - len(kept)
        if reach == total:
            return kept, total - len(kept)
        reach = _reach(_FACTOR * reach, total)


def _reach(least: int, total: int) -> int:
    """How far down a ranking to look when at least so many rows are needed."""
    some_more = least + least // 4 + 1000
    return total if 2 * some_more > total else some_more


def _walk(refusal: Refusal, sizes: Int1D, enough: int | None) -> tuple[Int1D, bool]:
    """Positions kept, and whether they are more than enough."""
    refused = np.zeros(len(sizes), np.bool_)
    kept, spent = [], 0
    for position, size in enumerate(sizes.tolist()):
        if refused[position]:
            continue
        kept.append(position)
        spent += size
        if enough is not None and spent > enough:
            return np.array(kept, np.int64), True
        refused[refusal.after(position)] = True
    return np.array(kept, np.int64), False


_Sketched = tuple[
    "npt.NDArray[np.uint8]", "npt.NDArray[np.uint32]", "npt.NDArray[np.bool_]",
    "npt.NDArray[np.uint8]",
]  # fmt: skip


def _sketches(pool: Pool, rows: Int1D, how: NearDuplicates, ctx: Context) -> _Sketched:
    """What is kept of each candidate: signature, band keys, has it words; the sides of a pair."""
    bands, _ = banding(how.similarity, how.permutations)
    signed = np.empty((len(rows), how.permutations), np.uint8)
    keys = np.empty((bands, len(rows)), np.uint32)
    worded = np.empty(len(rows), np.bool_)
    sides = np.empty((len(rows), *sides_shape(pool.kind, how.permutations)), np.uint8)
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    items = [ascending[part] for part in pool.parts(ascending)]
    done = 0
    ctx.progress(Progress("near-duplicates", 0, len(rows)))
    for item, part in zip(items, ctx.executor.map(_sketch, items, shared=(pool, how)), strict=True):
        at = order[done : done + len(item)]
        signed[at], keys[:, at], worded[at], sides[at] = part
        done += len(item)
        ctx.progress(Progress("near-duplicates", done, len(rows)))
    return signed, keys, worded, sides


def _sketch(shared: tuple[Pool, NearDuplicates], rows: Int1D) -> Metered[_Sketched]:
    pool, how = shared
    texts = pool.read(rows, ["text"]).column("text")
    signed = signatures(texts, how.ngram, how.permutations)
    keys = band_keys(signed, *banding(how.similarity, how.permutations))
    worded = (signed != np.iinfo(np.uint32).max).any(axis=1)
    if pool.kind == "labelled":
        keys = keyed_by_label(keys, pool, rows)
    sides = sides_of(pool, rows, how.ngram, how.permutations)
    return Metered((signed.astype(np.uint8), keys, worded, sides))  # the low 8 bits


def estimate_all(stats: PoolStats) -> Cost:
    """What it costs to compare every sample of a pool.

    Raises:
        MissingDependencyError: rensa is not installed.
    """
    return _comparing(stats, 1.0)


def estimate_walk(stats: PoolStats, budget: Budget | None) -> Cost:
    """What it costs to go down a ranking until the budget is met; all the way without one.

    Raises:
        MissingDependencyError: rensa is not installed.
    """
    if budget is None:
        return _comparing(stats, 1.0)
    whole = stats.n_tokens if budget.unit == "tokens" else stats.n
    share = budget.amount(stats.n) / max(whole, 1)
    reach = _reach(int(share * stats.n), stats.n) if share else 0
    return _comparing(stats, reach / max(stats.n, 1))


def _comparing(stats: PoolStats, share: float) -> Cost:
    need("near_duplicates", "dedup")
    seconds = share * (_PER_SAMPLE * stats.n + _PER_BYTE * stats.n_bytes)
    return Cost(cpu_seconds=_OF_PAIRS * seconds if stats.kind == "pair" else seconds)
