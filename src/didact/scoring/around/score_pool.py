"""Applies a scorer to a pool: fit, every pass over every batch, finished shards kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from didact.core.array_folders import (
    by_row,
    load_scores,
    read_arrays,
    save_scores,
    scores_identity,
    write_arrays,
)
from didact.core.cost import Bill, Meter, Metered
from didact.core.entries import open_entry
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.keep import Piece, keep, kept_pieces
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress, Scorer
from didact.core.scores import Scores, Settings

BATCHES_PER_SHARD = 64
MODEL_ROWS = 512  # a model works on as many rows as long as text scorers on a shard

RowScorer = Callable[[range], Metered[BatchScores]]


def score_pool(
    pool: Pool,
    name: str,
    scorer: Scorer,
    settings: Settings,
    target: Pool | None,
    ctx: Context,
    *,
    key: Any = None,
) -> Scores:
    """Scores of every sample of a pool.

    The result is the same for any executor and number of workers.

    Args:
        pool: What to score.
        name: The scorer's name, for the result and for messages.
        scorer: The scorer.
        settings: Its settings as JSON values, for the result.
        target: The target set, for scorers that need one.
        ctx: Executor, seed, progress, cache.
        key: Everything the scores depend on. Then they are kept, and so are finished shards while
            they are made; None keeps neither.

    Raises:
        ConfigError: The scorer needs a target set and there is none.
        DataError: No sample has a score.
    """
    if scorer.needs_target and target is None:
        raise ConfigError(
            f"score.{name}: needs a target set, the samples to select for; pass --target FILE, "
            "target: FILE, or target=didact.read(FILE)"
        )

    def make(work: Context) -> Scores:
        return _score_pool(pool, name, scorer, settings, target, work)

    def load(folder: Path) -> Scores:
        bill = open_entry(folder).bill
        return replace(load_scores(folder), spent=_spent(bill, f"scores/{folder.name}"))

    if key is not None:
        return keep(ctx, "scores", key, make, save=save_scores, load=load)
    meter = Meter()
    with meter.running():
        scores = make(replace(ctx, meter=meter))
    bill = meter.bill
    ctx.meter.take_over(bill)
    return replace(scores, spent=_spent(bill, f"scores/{scores_identity(scores)}"))


def _spent(bill: Bill, name: str) -> dict[str, float]:
    """FLOPs of what scores stand on, by name, their own among them."""
    whole = {**bill.uses, name: bill.own}
    return {of: cost.flops for of, cost in sorted(whole.items()) if cost.flops}


def _score_pool(
    pool: Pool, name: str, scorer: Scorer, settings: Settings, target: Pool | None, ctx: Context
) -> Scores:
    fitted = scorer.fit(pool, target, ctx)
    n, tasks = len(pool), tuple(fitted.tasks)
    total = _Shard(np.zeros((n, max(len(tasks), 1))))
    scored = 0

    def advance(rows: int) -> None:
        nonlocal scored
        scored += rows
        ctx.progress(Progress("score", scored, n * fitted.passes))

    advance(0)
    for index in range(fitted.passes):
        for start, shard in _scored_shards(_Pass(name, pool, fitted, index), ctx):
            total.add(start, shard)
            advance(len(shard.values))
    if n and len(total.missing) == n:
        raise DataError(
            f"score.{name}: none of the {n} samples has a score; row 0: {total.missing[0]}"
        )
    total.values[sorted(total.missing)] = np.nan
    reduced = total.values.max(axis=1) if fitted.reduce == "max" else total.values.mean(axis=1)
    return Scores(
        values=reduced,
        higher_is_better=fitted.higher_is_better,
        method=name,
        pool_fingerprint=pool.fingerprint,
        settings=settings,
        tasks=tasks,
        by_task=total.values if tasks else None,
        parts=total.parts,
        missing=total.missing,
        facts=merged_facts(fitted.facts, total.facts),
    )


def merged_facts(facts: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of two places, such as shards of two workers, as one mapping.

    Raises:
        ExecutionError: They contradict each other, so that scores would mix two computations.
    """
    for fact, value in more.items():
        if facts.get(fact, value) != value:
            raise ExecutionError(
                f"{fact} is {facts[fact]!r} in one place and {value!r} in another: machines "
                f"differ; set {fact} of the scorer to one of them and run the same command again"
            )
    return {**facts, **more}


@dataclass
class _Shard:
    """Scores of some rows while they are collected; rows count from the shard's first."""

    values: npt.NDArray[np.float64]
    parts: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, start: int, other: _Shard | BatchScores) -> None:
        """Add scores of rows from `start` on; over the passes they sum up."""
        rows = slice(start, start + len(other.values))
        values = other.values
        if other.missing:  # whatever stands there must not reach the sum
            values = values.copy()
            values[list(other.missing)] = 0
        self.values[rows] += values
        for part, values in other.parts.items():
            self.parts.setdefault(part, np.zeros(len(self.values)))[rows] += values
        self.missing.update({start + row: reason for row, reason in other.missing.items()})
        self.facts = merged_facts(self.facts, other.facts)

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        arrays = {f"part {k}": v for k, v in self.parts.items()}
        about = {"missing": self.missing, "facts": self.facts, "parts": list(self.parts)}
        write_arrays(folder, {"values": self.values, **arrays}, about)

    @classmethod
    def load(cls, folder: Path) -> _Shard:
        """What `save` wrote."""
        arrays, about = read_arrays(folder)
        parts = {k: arrays[f"part {k}"] for k in about["parts"]}
        return cls(arrays["values"], parts, by_row(about["missing"]), about["facts"])


@dataclass(frozen=True, slots=True)
class _Pass:
    """What a worker of one pass over the pool needs."""

    name: str
    pool: Pool
    fitted: Fitted
    index: int

    @property
    def width(self) -> int:
        """Columns of the scores."""
        return max(len(self.fitted.tasks), 1)

    def joined(self, found: list[BatchScores]) -> _Shard:
        """Neighboring batches as one shard."""
        firsts = [0, *accumulate(len(scores.values) for scores in found)]
        whole = _Shard(np.zeros((firsts[-1], self.width)))
        for first, scores in zip(firsts, found, strict=False):
            whole.add(first, scores)
        return whole


def _scored_shards(work: _Pass, ctx: Context) -> Iterator[tuple[int, _Shard]]:
    """First row and scores of every shard of one pass."""
    batches, size = list(work.pool.batches()), BATCHES_PER_SHARD
    if work.fitted.device is not None:
        batches, size = list(model_batches(work.pool)), 1
    parts = [
        Piece(f"pass-{work.index}-{at // size:06d}", batches[at : at + size])
        for at in range(0, len(batches), size)
    ]
    found = kept_pieces(
        ctx, parts, shared=work, open=open_scorer, device=work.fitted.device,
        join=work.joined, save=_Shard.save, load=_Shard.load,
    )  # fmt: skip
    for part, shard in zip(parts, found, strict=True):
        yield part.items[0].start, shard


def model_batches(pool: Pool) -> Iterator[range]:
    """The rows that a model works on at a time: at most `MODEL_ROWS`, never of two batches."""
    for rows in pool.batches():
        yield from (rows[i : i + MODEL_ROWS] for i in range(0, len(rows), MODEL_ROWS))


@contextmanager
def open_scorer(work: _Pass, device: str) -> Iterator[RowScorer]:
    """Open the scorer once in a worker."""
    with work.fitted.open(work.index, device) as score:
        yield partial(_score, work, score)


def _score(work: _Pass, score: BatchScorer, rows: range) -> Metered[BatchScores]:
    found = score(work.pool.read(rows, work.fitted.columns))
    if found.value.values.shape != (len(rows), work.width):
        raise DataError(
            f"score.{work.name}: the scorer gave values of shape {found.value.values.shape} for a "
            f"batch, expected {(len(rows), work.width)}"
        )
    return found
