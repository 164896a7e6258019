"""From a function of a batch to a FittedScorer, so that one method stays one small file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.cost import Metered
from didact.core.protocols import BatchScorer, BatchScores, FittedScorer

Function = Callable[[pa.RecordBatch], BatchScores | npt.NDArray[np.float64]]


def one_pass(
    function: Function,
    columns: tuple[str, ...] = ("text",),
    *,
    higher_is_better: bool = True,
    tasks: tuple[str, ...] = (),
    reduce: Literal["mean", "max"] = "mean",
    facts: Mapping[str, Any] | None = None,
) -> FittedScorer:
    """A fitted scorer that looks at every batch once.

    Args:
        function: Scores a batch of `b` rows: float64 `(b,)`, or `(b, K)` with K tasks, or a
            `BatchScores` when rows may be missing. Picklable: a module-level function, or
            `functools.partial` of one with what was fitted.
        columns: What it reads of a batch.
        higher_is_better: Direction of preference.
        tasks: Names of the K tasks.
        reduce: How scores per task become one.
        facts: What the result depends on beside the settings, JSON values.
    """
    return _OnePass(
        function=function,
        columns=columns,
        higher_is_better=higher_is_better,
        tasks=tasks,
        reduce=reduce,
        facts=facts or {},
    )


@dataclass(frozen=True, kw_only=True)
class _OnePass:
    function: Function
    columns: tuple[str, ...]
    higher_is_better: bool
    tasks: tuple[str, ...]
    reduce: Literal["mean", "max"]
    facts: Mapping[str, Any]
    passes: int = field(default=1, init=False)
    devices: tuple[str, ...] = field(default=(), init=False)

    def open(self, index: int, device: str) -> AbstractContextManager[BatchScorer]:
        """There is nothing to open: text scorers hold no model."""
        del index, device
        return nullcontext(self._score)

    def _score(self, batch: pa.RecordBatch) -> Metered[BatchScores]:
        found = self.function(batch)
        if isinstance(found, BatchScores):
            return Metered(found)
        return Metered(BatchScores(found[:, np.newaxis] if found.ndim == 1 else found))
