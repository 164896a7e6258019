"""From a function of a batch to a `Fitted` scorer, so that one method stays one small file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.cost import Metered
from didact.core.protocols import BatchScorer, BatchScores, Fitted

BatchFunction = Callable[..., BatchScores | npt.NDArray[np.float64]]


def one_pass(
    function: BatchFunction,
    columns: tuple[str, ...] = ("text",),
    *,
    higher_is_better: bool = True,
    tasks: tuple[str, ...] = (),
    reduce: Literal["mean", "max"] = "mean",
    facts: Mapping[str, Any] | None = None,
    open: Callable[[], AbstractContextManager[Any]] | None = None,  # noqa: A002 - as in Fitted
) -> Fitted:
    """A fitted scorer that looks at every batch once and holds no model.

    Args:
        function: Scores a batch of `b` rows: float64 `(b,)`, or `(b, K)` with K tasks, or a
            `BatchScores` when rows may be missing. Picklable: a module-level function, or
            `functools.partial` of one with what was fitted.
        columns: What it reads of a batch.
        higher_is_better: Direction of preference.
        tasks: Names of the K tasks.
        reduce: How scores per task become one.
        facts: What the result depends on beside the settings, JSON values.
        open: What a worker keeps between batches, such as a table it looks things up in: entered
            once per worker, and then `function` is given it before the batch.
    """
    return Fitted(
        open=partial(_open, function, open),
        columns=columns,
        higher_is_better=higher_is_better,
        tasks=tasks,
        reduce=reduce,
        facts=facts or {},
    )


@contextmanager
def _open(
    function: BatchFunction,
    open_kept: Callable[[], AbstractContextManager[Any]] | None,
    index: int,
    device: str,
) -> Iterator[BatchScorer]:
    del index, device
    if open_kept is None:
        yield partial(_score, function)
    else:
        with open_kept() as kept:
            yield partial(_score, partial(function, kept))


def _score(function: BatchFunction, batch: pa.RecordBatch) -> Metered[BatchScores]:
    found = function(batch)
    if isinstance(found, BatchScores):
        return Metered(found)
    return Metered(BatchScores(found[:, np.newaxis] if found.ndim == 1 else found))
