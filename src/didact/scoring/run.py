"""Applies a scorer to a pool: fit, every pass over every batch, finished shards kept for a restart."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from didact._version import __version__
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import BatchScores, Context, FittedScorer, Progress, Scorer
from didact.core.scores import Scores, Settings
from didact.data.atomic import replacing

BATCHES_PER_SHARD = 64

RowScorer = Callable[[range], Metered[BatchScores]]


def score_pool(
    pool: Pool,
    name: str,
    scorer: Scorer,
    settings: Settings,
    target: Pool | None,
    ctx: Context,
) -> Scores:
    """Scores of every sample of a pool.

    The result is the same for any executor and number of workers. With `ctx.scratch`, finished
    shards are kept there, and a run that is started again goes on after them.

    Args:
        pool: What to score.
        name: The scorer's name, for the result and for messages.
        scorer: The scorer.
        settings: Its settings as JSON values, for the result.
        target: The target set, for scorers that need one.
        ctx: Executor, seed, progress, scratch.

    Raises:
        ConfigError: The scorer needs a target set and there is none.
        DataError: No sample has a score.
    """
    if scorer.needs_target and target is None:
        raise ConfigError(f"score.{name}: needs a target set, the samples to select for")
    fitted = scorer.fit(pool, target, ctx)
    n, tasks = len(pool), tuple(fitted.tasks)
    total = _Shard(np.zeros((n, max(len(tasks), 1))))
    key = fingerprint(
        {
            "didact": __version__,
            "pool": pool.fingerprint,
            "target": target.fingerprint if target is not None else None,
            "scorer": [name, dict(settings), ctx.seed],
            "facts": dict(fitted.facts),
        }
    )
    done, all_rows = 0, n * fitted.passes
    ctx.progress(Progress("score", 0, all_rows))
    for index in range(fitted.passes):
        for start, shard in _pass(name, pool, fitted, index, key, ctx):
            total.add(start, shard)
            done += len(shard.values)
            ctx.progress(Progress("score", done, all_rows))
    _check_some(name, total, n)
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
        facts=fitted.facts,
    )


@dataclass
class _Shard:
    """Scores of some rows while they are collected; rows count from the shard's first."""

    values: npt.NDArray[np.float64]
    parts: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)

    def add(self, start: int, other: _Shard | BatchScores) -> None:
        """Add scores of rows from `start` on; over the passes they sum up."""
        rows = slice(start, start + len(other.values))
        self.values[rows] += other.values
        for part, values in other.parts.items():
            self.parts.setdefault(part, np.zeros(len(self.values)))[rows] += values
        self.missing.update({start + row: reason for row, reason in other.missing.items()})

    def save(self, path: Path, key: str) -> None:
        """Write to a file that appears whole or not at all."""
        reasons = orjson.dumps(self.missing, option=orjson.OPT_NON_STR_KEYS)
        arrays: dict[str, Any] = {f"part {k}": v for k, v in self.parts.items()}
        arrays["values"] = self.values
        arrays["missing"] = np.frombuffer(reasons, np.uint8)
        arrays["key"] = np.frombuffer(key.encode(), np.uint8)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, key: str) -> _Shard | None:
        """What an earlier run of the same work left, or None."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if file["key"].tobytes() != key.encode():
                    return None
                reasons = orjson.loads(file["missing"].tobytes())
                parts = {k.removeprefix("part "): file[k] for k in file.files if k[:5] == "part "}
                return cls(file["values"], parts, {int(k): v for k, v in reasons.items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # a damaged shard is scored again, which gives the same numbers


def _pass(
    name: str, pool: Pool, fitted: FittedScorer, index: int, key: str, ctx: Context
) -> Iterator[tuple[int, _Shard]]:
    """First row and scores of every shard of one pass: those on disk first, then the others."""
    batches = list(pool.batches())
    shards = [
        batches[at : at + BATCHES_PER_SHARD] for at in range(0, len(batches), BATCHES_PER_SHARD)
    ]
    todo: list[tuple[int, Sequence[range]]] = []
    for number, shard in enumerate(shards):
        path = _shard_path(ctx, index, number)
        found = _Shard.load(path, key) if path is not None else None
        if found is None:
            todo.append((number, shard))
        else:
            yield shard[0].start, found
    work = [rows for _, shard in todo for rows in shard]
    shared = _Work(name, pool, fitted, index)
    results = ctx.executor.map(score_rows, work, shared=shared, open=opened)
    for number, shard in todo:
        start = shard[0].start
        ...


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker of one pass needs."""

    name: str
    pool: Pool
    fitted: FittedScorer
    index: int
