"""Applies a scorer to a pool: fit, every pass over every batch, finished shards kept."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from didact._version import __version__
from didact.core.atomic import replacing
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, FittedScorer, Progress, Scorer
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
        raise ConfigError(
            f"score.{name}: needs a target set, the samples to select for; pass --target FILE, "
            "target: FILE, or target=didact.read(FILE)"
        )
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
    scored = 0

    def advance(rows: int) -> None:
        nonlocal scored
        scored += rows
        ctx.progress(Progress("score", scored, n * fitted.passes))

    advance(0)
    for index in range(fitted.passes):
        for start, shard in _pass(_Work(name, pool, fitted, index), key, ctx, advance):
            total.add(start, shard)
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
        values = other.values
        if other.missing:  # whatever stands there must not reach the sum
            values = values.copy()
            values[list(other.missing)] = 0
        self.values[rows] += values
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
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                if file["key"].tobytes() != key.encode():
                    return None
                reasons = orjson.loads(file["missing"].tobytes())
                parts = {k.removeprefix("part "): file[k] for k in file.files if k[:5] == "part "}
                return cls(file["values"], parts, {int(k): v for k, v in reasons.items()})
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # a damaged shard is scored again, which gives the same numbers


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker of one pass needs."""

    name: str
    pool: Pool
    fitted: FittedScorer
    index: int

    @property
    def width(self) -> int:
        """Columns of the scores."""
        return max(len(self.fitted.tasks), 1)


def _pass(
    work: _Work, key: str, ctx: Context, advance: Callable[[int], None]
) -> Iterator[tuple[int, _Shard]]:
    """First row and scores of every shard of one pass: those on disk first, then the others."""
    size = 1 if work.fitted.devices else BATCHES_PER_SHARD
    batches = list(work.pool.batches())
    if work.fitted.devices:
        batches = [
            rows[i : i + MODEL_ROWS] for rows in batches for i in range(0, len(rows), MODEL_ROWS)
        ]
    todo: list[tuple[Path | None, list[range]]] = []
    for at in range(0, len(batches), size):
        shard = batches[at : at + size]
        path = None
        if ctx.scratch is not None:
            path = ctx.scratch / f"score-{work.index}-{at // size:06d}.npz"
        found = _Shard.load(path, key) if path is not None else None
        if found is None:
            todo.append((path, shard))
        else:
            advance(len(found.values))
            yield shard[0].start, found
    if not todo:
        return
    items = [rows for _, shard in todo for rows in shard]
    results = ctx.executor.map(
        score_rows, items, shared=work, open=opened, devices=work.fitted.devices
    )
    pairs = zip(items, results, strict=True)
    for path, shard in todo:
        first, last = shard[0].start, shard[-1].stop
        whole = _Shard(np.zeros((last - first, work.width)))
        for rows, found_rows in islice(pairs, len(shard)):
            whole.add(rows.start - first, found_rows)
            advance(len(rows))
        if path is not None:
            whole.save(path, key)
        yield first, whole
    next(pairs, None)  # runs the executor to its end, where it closes its workers


@contextmanager
def opened(work: _Work, device: str) -> Iterator[RowScorer]:
    """Open the scorer once in a worker."""
    with work.fitted.open(work.index, device) as score:
        yield partial(_score, work, score)


def score_rows(score: RowScorer, rows: range) -> Metered[BatchScores]:
    """One batch in a worker: read by row range, scored."""
    return score(rows)


def _score(work: _Work, score: BatchScorer, rows: range) -> Metered[BatchScores]:
    found = score(work.pool.read(rows, work.fitted.columns))
    if found.value.values.shape != (len(rows), work.width):
        raise DataError(
            f"score.{work.name}: the scorer gave values of shape {found.value.values.shape} for a "
            f"batch, expected {(len(rows), work.width)}"
        )
    return found
