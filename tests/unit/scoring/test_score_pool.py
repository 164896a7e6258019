"""The driver: passes add up, shards are kept, a killed run goes on to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from didact.core.cost import Cost, Meter, Metered
from didact.core.entries import open_entry
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScorer, BatchScores, Context, Executor, Fitted, Progress
from didact.core.scores import Scores
from didact.data import tables
from didact.execution.executors import serial, threads
from didact.scoring.around import score_pool as driver
from didact.scoring.around.score_pool import score_pool
from didact.testing import make_pool

SCORED: list[tuple[int, int]] = []  # (pass, rows) of every batch that was scored


@dataclass(frozen=True, kw_only=True)
class Way:
    """Row r of pass p has (p + 1) · n_bytes and 10 · that."""

    die_at: int | None = None
    skip: frozenset[int] = frozenset()
    width: int = 2

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


def fitted(reduce: Literal["mean", "max"] = "mean", **way: Any) -> Fitted:
    """Three passes over two tasks."""
    return Fitted(
        open=Way(**way).open, columns=("n_bytes",), tasks=("one", "ten"), reduce=reduce, passes=3
    )


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
    fitted: Fitted,
    cache: Path | None = None,
    executor: Executor | None = None,
    key: str = "same",
    **more: Any,
) -> Scores:
    """Scores, kept in a cache if there is one."""
    ctx = Context(executor=executor or serial(), seed=0, cache_dir=cache or pool.path, **more)
    return score_pool(
        pool, "method", Method(fitted=fitted), {"setting": 1}, None, ctx,
        key=None if cache is None else key,
    )  # fmt: skip


def test_passes_add_up_and_tasks_are_reduced(pool: Pool) -> None:
    found = go(pool, fitted())
    sizes = np.arange(1, 21)
    assert found.by_task is not None
    assert found.by_task.tolist() == np.stack([6 * sizes, 60 * sizes], axis=1).tolist()
    assert found.values.tolist() == (33 * sizes).tolist()
    assert found.parts["size"].tolist() == (3 * sizes).tolist()
    assert go(pool, fitted(reduce="max")).values.tolist() == (60 * sizes).tolist()
    assert (found.tasks, found.method, found.settings) == (("one", "ten"), "method", {"setting": 1})
    assert found.pool_fingerprint == pool.fingerprint


def test_missing_rows_are_numbered_in_the_pool(pool: Pool) -> None:
    found = go(pool, fitted(skip=frozenset({1, 14})))
    assert found.missing == {0: "skipped", 13: "skipped"}
    assert np.flatnonzero(~found.present).tolist() == [0, 13]
    assert found.by_task is not None
    assert np.isnan(found.by_task[13]).all()


def test_costs_reach_the_executor(pool: Pool) -> None:
    meter = Meter()
    go(pool, fitted(), executor=threads(2), meter=meter)
    spent = meter.bill.charged
    assert (spent.flops, spent.tokens) == (210, 30)


def test_flops_are_those_from_nothing_whether_found_or_made(pool: Pool, tmp_path: Path) -> None:
    made, found = (go(pool, fitted(), tmp_path / "cache") for _ in range(2))
    assert made.flops == found.flops == 210
    assert made.spent == found.spent
    meter = Meter()
    alone = go(pool, fitted(), meter=meter)  # nothing is kept
    assert alone.flops == meter.bill.value.flops == meter.bill.charged.flops == 210
    assert go(pool, fitted(), tmp_path / "cache", key="other").spent != made.spent


def test_a_table_of_scores_says_what_they_took(pool: Pool, tmp_path: Path) -> None:
    scores, path = go(pool, fitted(), tmp_path / "cache"), tmp_path / "scores.parquet"
    tables.write_scores(scores, pool, path)
    assert tables.read_scores(path).spent == scores.spent
    tables.write_scores(replace(scores, spent=None), pool, path)
    assert tables.read_scores(path).flops is None


def test_progress_is_told_in_rows(pool: Pool, tmp_path: Path) -> None:
    told: list[Progress] = []
    go(pool, fitted(), tmp_path / "cache", progress=told.append)
    shards = [0, 6, 12, 18, 20]  # rows, of a pass
    assert [p.done for p in told] == [0, *(20 * k + n for k in range(3) for n in shards[1:])]
    assert {p.total for p in told} == {60}


@pytest.mark.parametrize("die_at", [0, 1, 3, 4, 12, 29])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(
    pool: Pool, tmp_path: Path, die_at: int, workers: int
) -> None:
    skip = frozenset({5, 6})
    expected = go(pool, fitted(skip=skip))
    cache, meter = tmp_path / "cache" / "deep", Meter()
    SCORED.clear()
    with pytest.raises(ExecutionError, match="power failure"):
        go(pool, fitted(skip=skip, die_at=die_at), cache, threads(workers))
    kept = pieces(cache)
    assert list(cache.glob("scores/*")) == []
    for path in kept:
        open_entry(path).verify()  # nothing half-written
    SCORED.clear()
    found = go(pool, fitted(skip=skip), cache, threads(workers), meter=meter)
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.by_task is not None
    assert expected.by_task is not None
    assert found.by_task.tobytes() == expected.by_task.tobytes()
    assert found.parts["size"].tobytes() == expected.parts["size"].tobytes()
    assert found.missing == expected.missing
    batches_kept = sum(1 if path.name.endswith("3") else 3 for path in kept)
    assert len(SCORED) == 30 - batches_kept
    assert meter.bill.charged.tokens == len(SCORED)
    assert (meter.bill.value.flops, meter.bill.value.tokens) == (210, 30)
    assert pieces(cache) == []
    if workers == 1:
        assert batches_kept == die_at // 10 * 10 + die_at % 10 // 3 * 3
    SCORED.clear()
    go(pool, fitted(skip=skip), cache)
    assert SCORED == []


def pieces(cache: Path) -> list[Path]:
    """Finished shards that an interrupted run left."""
    return sorted(p for p in cache.glob("unfinished/scores-*/*") if not p.name.startswith("."))


@pytest.mark.parametrize("damage", ["nothing", "other", "short", "gone"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_shard_is_scored_again(
    pool: Pool, tmp_path: Path, damage: str, *, finished: bool
) -> None:
    expected = go(pool, fitted())
    SCORED.clear()
    if finished:
        go(pool, fitted(), tmp_path)
        (kept,) = tmp_path.glob("scores/*/arrays.npz")
    else:
        with pytest.raises(ExecutionError):
            go(pool, fitted(die_at=29), tmp_path)
        (kept,) = tmp_path.glob("unfinished/scores-*/pass-1-000002/arrays.npz")
    data = kept.read_bytes()
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes({"nothing": b"", "other": b"no zip file", "short": data[:-40]}[damage])
    SCORED.clear()
    told: list[str] = []
    meter = Meter()
    found = go(pool, fitted(), tmp_path, tell=told.append, meter=meter)
    assert found.values.tobytes() == expected.values.tobytes()
    assert len(SCORED) == 30 if finished else SCORED == [(1, 2)] * 3 + [(2, 2)]
    assert (meter.bill.value.flops, meter.bill.value.tokens) == (210, 30)
    (sentence,) = told
    assert "is damaged" in sentence
    assert "made again" in sentence


def test_shards_of_other_work_are_not_used(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ExecutionError):
        go(pool, fitted(die_at=29), tmp_path, key="library 1.0")
    assert len(pieces(tmp_path)) == 11
    for key, scored in (("library 1.1", 30), ("library 1.0", 1), ("library 1.2", 30)):
        SCORED.clear()
        go(pool, fitted(), tmp_path, key=key)
        assert len(SCORED) == scored


def test_no_sample_with_a_score_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"none of the 20 samples has a score; row 0: skipped"):
        go(pool, fitted(skip=frozenset(range(30))))


def test_a_score_that_is_not_finite_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match="score of row 3 is inf"):
        go(pool, one_pass(partial(infinite, at=4), ("n_bytes",)))


def infinite(batch: pa.RecordBatch, *, at: int) -> np.ndarray:
    sizes = batch.column("n_bytes").to_numpy()
    return np.where(sizes == at, np.inf, 1.0)


def test_a_wrong_number_of_columns_is_an_error(pool: Pool) -> None:
    with pytest.raises(DataError, match=r"values of shape \(2, 1\) for a batch, expected \(2, 2\)"):
        go(pool, fitted(width=1))


def test_a_needed_target_is_asked_for(pool: Pool) -> None:
    method = Method(fitted=fitted(), needs_target=True)
    ctx = Context(executor=serial(), seed=0, cache_dir=pool.path)
    with pytest.raises(ConfigError, match=r"score\.mine: needs a target set"):
        score_pool(pool, "mine", method, {}, None, ctx)
