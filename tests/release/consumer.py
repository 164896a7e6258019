"""A project of somebody who uses didact and checks types strictly; checked, never run.

Beside the public functions and what they return, it shows that a name that is not there is seen:
with `warn_unused_ignores`, which strict has, an ignored error that does not occur is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import didact
import didact.callbacks
import didact.plugins
import didact.testing
from didact import Budget, DidactError, Pool, Scores, Selection, TrainingOrder


def the_main_job(folder: Path) -> list[Path]:
    pool = assert_type(didact.read(folder / "pool.jsonl"), Pool)
    target = didact.read([folder / "target.jsonl"], seed=1)
    scores = assert_type(didact.score(pool, "bm25", target=target, k1=1.2), Scores)
    both = assert_type(didact.combine([scores, scores], "rank_mean"), Scores)
    chosen = assert_type(didact.select(pool, both, "top_k", budget=Budget(ratio=0.2)), Selection)
    order = assert_type(didact.order(pool, chosen, both, "fold", layers=3), TrainingOrder)
    return assert_type(didact.export(pool, order, folder / "out", trainer="trl"), list[Path])


def what_the_values_say(pool: Pool, scores: Scores, chosen: Selection) -> tuple[int, float, str]:
    return len(pool) + len(chosen), float(scores.values.sum()), didact.__version__


def what_goes_wrong(work: Callable[[], None]) -> int:
    try:
        work()
    except DidactError as error:
        return assert_type(error.exit_code, int)
    return 0


def a_run(folder: Path) -> int:
    run = didact.run({"data": {"path": str(folder)}}, folder / "OUT", workers=2)
    return assert_type(run.manifest.seed, int)


def what_is_not_there() -> None:
    _ = didact.no_such_name  # type: ignore[attr-defined]
    _ = didact.callbacks.NoSuchCallback  # type: ignore[attr-defined]
    didact.read()  # type: ignore[call-arg]
    Budget(ratio="a fifth")  # type: ignore[arg-type]
    didact.combine([], "no such way")  # type: ignore[arg-type]


def of_ones_own(folder: Path) -> Scores:
    return assert_type(didact.testing.check_scorer("length", folder), Scores)
