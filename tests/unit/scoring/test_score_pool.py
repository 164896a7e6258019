"""The driver: passes add up, shards are kept, a killed run goes on to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScorer, BatchScores, Context, Executor, Progress
from didact.core.scores import Scores
from didact.execution.executors import serial, threads
from didact.scoring import run as driver
from didact.scoring.one_pass import one_pass
from didact.scoring.run import score_pool
from didact.testing import make_pool

SCORED: list[tuple[int, int]] = []  # (pass, rows) of every batch that was scored


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Three passes over two tasks; row r of pass p has (p + 1) · n_bytes and 10 · that."""

    die_at: int | None = None
    skip: frozenset[int] = frozenset()
    width: int = 2
    higher_is_better: bool = True
    columns: tuple[str, ...] = ("n_bytes",)
    tasks: tuple[str, ...] = ("one", "ten")
    reduce: Literal["mean", "max"] = "mean"
    passes: int = 3
    devices: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        assert device == "cpu"
        yield partial(self.score, index)

    def score(self, index: int, batch: pa.RecordBatch) -> Metered[BatchScores]:
        if self.die_at is not None and len(SCORED) >= self.die_at:
            raise OSError("power failure")
        SCORED.append((index, batch.num_rows))
        sizes = batch.column("n_bytes").to_numpy().astype(float)
        values = np.stack([sizes, 10 * sizes], axis=1)[:, : self.width] * (index + 1)
        missing = {i: "skipped" for i, s in enumerate(sizes) if int(s) in self.skip}
        values[list(missing)] = np.inf
        parts = {"size": sizes}
        return Metered(BatchScores(values, parts, missing), Cost(flops=7.0, tokens=1))


@dataclass(frozen=True, kw_only=True)
class Method:
    fitted: Any
    needs_target: bool = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:  # noqa: ARG002
        return Cost()

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Any:  # noqa: ARG002
        return self.fitted


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    SCORED.clear()
    rows = [{"id": str(i), "text": "x" * (i + 1)} for i in range(20)]
    return make_pool(rows, tmp_path, batch_rows=2)  # ten batches


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "BATCHES_PER_SHARD", 3)  # four shards: 3, 3, 3 and 1 batches


def go(
    pool: Pool,
    fitted: Any,
    scratch: Path | None = None,
    executor: Executor | None = None,
    **more: Any,
) -> Scores:
    ctx = Context(
        executor=executor or serial(), seed=0, cache_dir=pool.path.parent, scratch=scratch, **more
    )
    return score_pool(pool, "method", Method(fitted=fitted), {"setting": 1}, None, ctx)


def test_passes_add_up_and_tasks_are_reduced(pool: Pool) -> None:
    found = go(pool, Fitted())
    sizes = np.arange(1, 21)
    assert found.by_task is not None
    assert found.by_task.tolist() == np.stack([6 * sizes, 60 * sizes], axis=1).tolist()
    assert found.values.tolist() == (33 * sizes).tolist()
    assert found.parts["size"].tolist() == (3 * sizes).tolist()
    assert go(pool, Fitted(reduce="max")).values.tolist() == (60 * sizes).tolist()
    assert (found.tasks, found.method, found.settings) == (("one", "ten"), "method", {"setting": 1})
    assert found.pool_fingerprint == pool.fingerprint


def test_missing_rows_are_numbered_in_the_pool(pool: Pool) -> None:
    found = go(pool, Fitted(skip=frozenset({1, 14})))
    assert found.missing == {0: "skipped", 13: "skipped"}
    assert np.flatnonzero(~found.present).tolist() == [0, 13]
    assert found.by_task is not None
    assert np.isnan(found.by_task[13]).all()


def test_costs_reach_the_executor(pool: Pool) -> None:
    executor = serial()
    go(pool, Fitted(), executor=executor)
    assert (executor.spent.flops, executor.spent.tokens) == (210, 30)


def test_progress_is_told_in_rows(pool: Pool, tmp_path: Path) -> None:
    told: list[Progress] = []
    go(pool, Fitted(), tmp_path / "scratch", progress=told.append)
    assert [p.done for p in told] == list(range(0, 61, 2))
    assert {p.total for p in told} == {60}
    told.clear()
    go(pool, Fitted(), tmp_path / "scratch", progress=told.append)
    assert told[-1].done == 60


@pytest.mark.parametrize("die_at", [0, 1, 3, 4, 12, 29])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(
    pool: Pool, tmp_path: Path, die_at: int, workers: int
) -> None:
    skip = frozenset({5, 6})
    expected = go(pool, Fitted(skip=skip))
    scratch = tmp_path / "scratch" / "deep"
    SCORED.clear()
    with pytest.raises(ExecutionError, match="power failure"):
        go(pool, Fitted(skip=skip, die_at=die_at), scratch, threads(workers))
    kept = sorted(scratch.glob("*")) if scratch.exists() else []
    assert all(path.name.endswith(".npz") for path in kept)  # no half-written file
    SCORED.clear()
    found = go(pool, Fitted(skip=skip), scratch, threads(workers))
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.by_task is not None
    assert expected.by_task is not None
    assert found.by_task.tobytes() == expected.by_task.tobytes()
    assert found.parts["size"].tobytes() == expected.parts["size"].tobytes()
    assert found.missing == expected.missing
    batches_kept = sum(1 if path.stem.endswith("3") else 3 for path in kept)
    assert len(SCORED) == 30 - batches_kept
    if workers == 1:
        assert batches_kept == die_at // 10 * 10 + die_at % 10 // 3 * 3
    SCORED.clear()
    go(pool, Fitted(skip=skip), scratch)
    assert SCORED == []


def test_a_damaged_shard_is_scored_again(pool: Pool, tmp_path: Path) -> None:
    expected = go(pool, Fitted(), tmp_path)
    shard = tmp_path / "score-1-000002.npz"
    for damage in (b"", b"no zip file", shard.read_bytes()[:-40]):
        shard.write_bytes(damage)
        SCORED.clear()
        assert go(pool, Fitted(), tmp_path).values.tobytes() == expected.values.tobytes()
        assert SCORED == [(1, 2)] * 3


def test_shards_of_other_work_are_not_used(pool: Pool, tmp_path: Path) -> None:
    go(pool, Fitted(facts={"library": "1.0"}), tmp_path)
    SCORED.clear()
    go(pool, Fitted(facts={"library": "1.1"}), tmp_path)
    assert len(SCORED) == 30


def test_no_sample_with_a_score_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"none of the 20 samples has a score; row 0: skipped"):
        go(pool, Fitted(skip=frozenset(range(30))))


def test_a_score_that_is_not_finite_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match="score of row 3 is inf"):
        go(pool, one_pass(partial(infinite, at=4), ("n_bytes",)))


def infinite(batch: pa.RecordBatch, *, at: int) -> np.ndarray:
    sizes = batch.column("n_bytes").to_numpy()
    return np.where(sizes == at, np.inf, 1.0)


def test_a_wrong_number_of_columns_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"values of shape \(2, 1\) for a batch, expected \(2, 2\)"):
        go(pool, Fitted(width=1))


def test_a_needed_target_is_asked_for(pool: Pool) -> None:
    method = Method(fitted=Fitted(), needs_target=True)
    ctx = Context(executor=serial(), seed=0, cache_dir=pool.path)
    with pytest.raises(ConfigError, match=r"score\.mine: needs a target set"):
        score_pool(pool, "mine", method, {}, None, ctx)
