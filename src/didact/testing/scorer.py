"""The contract of a scorer."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from didact.config import bound
from didact.core.arrays import Float1D
from didact.core.errors import ConfigError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import BatchScores, Context, Executor, Fitted, Scorer
from didact.core.scores import Scores
from didact.execution.executors import processes, serial, threads
from didact.scoring.around.score_pool import score_pool
from didact.testing.pools import Rows, chat, make_pool, sample_rows, target_rows
from didact.testing.promises import check_cost, check_description, digest, promise


def check_scorer(
    method: str | type,
    directory: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    rows: Rows | None = None,
    target: Rows | None = None,
    beside: Rows = (),
    rtol: float = 0.0,
) -> Scores:
    """The contract of a scorer: everything that didact promises of every method.

    Settings are JSON and have one fingerprint in two processes · the docstring has Source and Cost
    · the estimate is a cost · a missing target set is a clear error · scores are finite float64 but
    for missing rows · the fitted scorer survives pickling · batches, the order of rows, executors
    and the number of workers change nothing · the pool is not written to · an empty batch, one
    row and a row of a megabyte are fine.

    Args:
        method: A registered name, or the class.
        directory: An empty folder to work in.
        settings: The method's settings.
        rows: The pool; `sample_rows()` by default.
        target: The target set; `target_rows()` by default, unused when the scorer needs none.
        beside: Rows that stand beside the one row and the row of a megabyte, for a scorer that
            refuses so small a pool.
        rtol: Tolerance relative to the largest score: 0 for text scorers, which are equal to the
            bit; state a reason beside any other.

    Returns:
        The scores, for further checks.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    name, found, checked, as_json = bound("scorers", method, settings or {}, "score")
    rows = sample_rows() if rows is None else rows
    scorer: Scorer = found(**checked)
    pool = make_pool(rows, directory)
    target_pool = make_pool(target or target_rows(), directory, name="target")
    run = _Run(
        name=name,
        scorer=scorer,
        settings=as_json,
        target=target_pool if scorer.needs_target else None,
        rtol=rtol,
        directory=directory,
    )
    before = digest(pool)
    check_description(name, found, registered=isinstance(method, str))
    _check_description(type(scorer), run, pool)
    scores = run.score(pool)
    _check_values(run, pool, scores)
    _check_fitted(run, pool, scores)
    _check_invariance(run, rows, scores)
    _check_sizes(run, beside)
    promise(digest(pool) == before, f"{name} wrote to the pool's store")
    return scores


def check_executors(
    method: str | type,
    directory: Path,
    executors: Mapping[str, Executor],
    *,
    settings: Mapping[str, Any] | None = None,
    rows: Rows | None = None,
    target: Rows | None = None,
    rtol: float = 0.0,
) -> None:
    """A part of `check_scorer` for other executors: what they work on changes no score.

    Args:
        method: A registered name, or the class.
        directory: An empty folder to work in, which all workers see.
        executors: Such as that of `didact.context(executor="ray")`, by what messages call them.
        settings: The method's settings.
        rows: The pool; `sample_rows()` by default.
        target: The target set; `target_rows()` by default, unused when the scorer needs none.
        rtol: As in `check_scorer`.

    Raises:
        AssertionError: Scores differ; the message says where.
    """
    name, found, checked, as_json = bound("scorers", method, settings or {}, "score")
    rows = sample_rows() if rows is None else rows
    scorer: Scorer = found(**checked)
    aim = make_pool(target or target_rows(), directory, name="target")
    run = _Run(
        name=name, scorer=scorer, settings=as_json, target=aim if scorer.needs_target else None,
        rtol=rtol, directory=directory,
    )  # fmt: skip
    pool = make_pool(rows, directory, batch_rows=5)
    scores = run.score(pool)
    for what, executor in executors.items():
        cache = directory / what  # of its own: what was kept while scoring would be found again
        run_there = _Run(**{**vars(run), "directory": cache})
        run.same(run_there.score(pool, executor), scores, range(len(rows)), what)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A scorer with what it takes to run it."""

    name: str
    scorer: Scorer
    settings: dict[str, Any]
    target: Pool | None
    rtol: float
    directory: Path

    def context(self, executor: Executor | None = None) -> Context:
        return Context(executor=executor or serial(), seed=17, cache_dir=self.directory / "cache")

    def score(self, pool: Pool, executor: Executor | None = None) -> Scores:
        ctx = self.context(executor)
        return score_pool(pool, self.name, self.scorer, self.settings, self.target, ctx)

    def same(self, found: Scores, expected: Scores, rows: Sequence[int], what: str) -> None:
        """Row i of `found` must be row `rows[i]` of `expected`."""
        at = np.asarray(rows, dtype=np.int64)
        where = f"{self.name}: scores change with {what}"
        self.close(found.values, expected.values[at], where)
        missing = {i: expected.missing[r] for i, r in enumerate(rows) if r in expected.missing}
        promise(dict(found.missing) == missing, f"{where} (missing rows)")
        promise(found.tasks == expected.tasks, f"{where} (tasks)")
        if found.by_task is not None and expected.by_task is not None:
            self.close(found.by_task, expected.by_task[at], f"{where} (by task)")
        for part, values in expected.parts.items():
            self.close(found.parts[part], values[at], f"{where} ({part})")

    def close(self, found: Float1D, expected: Float1D, message: str) -> None:
        if self.rtol == 0:
            kinds = [(a.shape, a.dtype) for a in (found, expected)]
            promise(kinds[0] == kinds[1], f"{message}: {kinds[0]}, not {kinds[1]}")
            # Bit for bit, but for rows without a score: NaN has many bit patterns.
            bits = f"i{found.itemsize}"
            other = (found.view(bits) != expected.view(bits)) & ~(
                np.isnan(found) & np.isnan(expected)
            )
            at = np.unravel_index(int(other.argmax()), other.shape) if other.any() else ()
            promise(
                not other.any(),
                f"{message}, if only in the last bit: {found[at]!r}, not {expected[at]!r}, "
                f"at {tuple(map(int, at))}",
            )
            return
        scale = float(np.nanmax(np.abs(expected), initial=0.0))
        near = np.isclose(found, expected, rtol=0, atol=self.rtol * scale, equal_nan=True)
        promise(bool(near.all()), f"{message} by more than {self.rtol} of the largest")


def _check_description(method: type, run: _Run, pool: Pool) -> None:
    promise(method(**run.settings) == run.scorer, f"{run.name}: settings do not survive JSON")
    program = (
        "import sys, json, importlib\n"
        "from didact.core import binding\n"
        "from didact.core.manifest import fingerprint\n"
        "module, name, settings = sys.argv[1:]\n"
        "method = getattr(importlib.import_module(module), name)\n"
        "print(fingerprint(binding.as_json(method, json.loads(settings))))"
    )
    words = [method.__module__, method.__qualname__, orjson.dumps(run.settings).decode()]
    other = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", program, *words],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    same = other.stdout.strip() == fingerprint(run.settings)
    promise(same, f"{run.name}: another process has another fingerprint of the settings")
    stats = run.target.stats if run.target is not None else None
    cost = run.scorer.estimate(pool.stats, stats)
    check_cost(run.name, cost)
    if run.target is not None:
        nothing = _Run(**{**vars(run), "target": None})
        try:
            nothing.score(pool)
        except ConfigError as error:
            promise("target" in str(error), f"{run.name}: {error} does not name the target set")
        else:
            raise AssertionError(f"{run.name} runs without the target set that it needs")


def _check_values(run: _Run, pool: Pool, scores: Scores) -> None:
    scores.check(pool)
    promise(scores.values.dtype == np.float64, f"{run.name}: scores are {scores.values.dtype}")
    promise(scores.values.shape == (len(pool),), f"{run.name}: shape {scores.values.shape}")
    promise(bool(scores.present.any()), f"{run.name}: no sample has a score")
    # Finite but for missing rows: Scores itself refuses anything else.
    fingerprint(dict(scores.facts))  # facts are JSON


def _check_fitted(run: _Run, pool: Pool, scores: Scores) -> None:
    fitted = run.scorer.fit(pool, run.target, run.context())
    promise(isinstance(fitted, Fitted), f"{run.name}: fit gave no `Fitted`")
    data = pickle.dumps(fitted)
    again: Fitted = pickle.loads(data)  # noqa: S301 - our own bytes
    batch = pool.read(range(len(pool)), list(fitted.columns))
    expected, found = _score(fitted, batch), _score(again, batch)
    run.close(found.values, expected.values, f"{run.name}: scores change with pickling")
    run.close(_score(fitted, batch).values, expected.values, f"{run.name}: scoring is not pure")
    width = max(len(fitted.tasks), 1)
    promise(expected.values.dtype == np.float64, f"{run.name}: a batch is not float64")
    promise(expected.values.shape == (len(pool), width), f"{run.name}: shape of a batch")
    promise(fitted.higher_is_better == scores.higher_is_better, f"{run.name}: direction changes")
    empty = _score(fitted, pool.read(range(0), list(fitted.columns)))
    promise(empty.values.shape == (0, width), f"{run.name}: shape of an empty batch")


def _score(fitted: Fitted, batch: Any) -> BatchScores:
    with ExitStack() as stack:
        return stack.enter_context(fitted.open(0, "cpu"))(batch).value


def _check_invariance(run: _Run, rows: Rows, scores: Scores) -> None:
    everything = range(len(rows))
    for size in (1, 3, 7):
        small = make_pool(rows, run.directory, batch_rows=size)
        run.same(run.score(small), scores, everything, f"batches of {size}")
    mixed = [int(i) for i in np.random.default_rng(5).permutation(len(rows))]
    moved = make_pool([rows[i] for i in mixed], run.directory, name="mixed")
    run.same(run.score(moved), scores, mixed, "the order of the rows")
    small = make_pool(rows, run.directory, batch_rows=5)
    workers: dict[str, Callable[[], Executor]] = {
        "two threads": lambda: threads(2),
        "five threads": lambda: threads(5),
        "two processes": lambda: processes(2),
    }
    if (
        run.scorer.fit(small, run.target, run.context()).device is not None
    ):  # threads are for text alone
        workers = {"two processes": workers["two processes"]}
    for what, executor in workers.items():
        run.same(run.score(small, executor()), scores, everything, what)


def _check_sizes(run: _Run, beside: Rows) -> None:
    meta = {"score": 1.5, "grade": 2}
    long = "The same sentence over and over. " * 16_000 + "猫" * 160_000
    for what, rows in {
        "one row": [chat("a", "How many legs?", "four", meta=meta)],
        "a row of a megabyte": [
            chat("a", "How many legs?", long, meta=meta),
            chat("b", "And the cat?", "x" * (1 << 20), meta=meta),
        ],
    }.items():
        pool = make_pool([*rows, *beside], run.directory, name=what.replace(" ", "-"))
        present = run.score(pool).present[: len(rows)]
        promise(bool(present.all()), f"{run.name}: {what} has no score")
