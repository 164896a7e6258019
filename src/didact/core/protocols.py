"""What a method must offer: Scorer, Selector, Orderer; and what it is given: Executor, Context."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.cost import Cost, Metered
from didact.core.pool import Pool, PoolStats
from didact.core.scores import Budget, Float2D, Scores, Selection, TrainingOrder

S_contra = TypeVar("S_contra", contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Scores of one batch.

    Attributes:
        values: float64 `(b, max(K, 1))`, natural unit; anything on missing rows.
        parts: Named columns beside the score, each float64 `(b,)`.
        missing: Index *within the batch* to the reason there is no score.
    """

    values: Float2D
    parts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)


BatchScorer = Callable[[pa.RecordBatch], Metered[BatchScores]]


@runtime_checkable
class FittedScorer(Protocol):
    """A scorer that has seen what it needs; small and picklable, never a model."""

    @property
    def higher_is_better(self) -> bool:
        """Direction of preference."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads of a batch."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """One score per task, or `()` for one per sample."""
        ...

    @property
    def reduce(self) -> Literal["mean", "max"]:
        """How scores per task become one, after the passes are summed."""
        ...

    @property
    def passes(self) -> int:
        """Outermost loop; results add in float64."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """Where its model runs, one worker for each; `()` for a scorer without a model."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the result depends on beside the settings: library versions, statistics."""
        ...

    def open(self, index: int, device: str) -> AbstractContextManager[BatchScorer]:
        """The function of a batch; entered once per worker and pass `index`."""
        ...


class Scorer(Protocol):
    """Gives every sample of a pool one number (or one per target task).

    A class whose settings name model folders lists these settings in `model_settings`, so that a
    run is done again when what is in the folders changes.
    """

    @property
    def needs_target(self) -> bool:
        """Whether `fit` needs a target set."""
        ...

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What a run will cost, before it runs; loads no model."""
        ...

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> FittedScorer:
        """Statistics of pool and target that scoring a batch needs."""
        ...


class Selector(Protocol):
    """Chooses a set of rows; a plain function with keyword-only settings satisfies it."""

    def __call__(
        self, pool: Pool, scores: Scores | None, budget: Budget | None, ctx: Context, /
    ) -> Selection:
        """The rows chosen."""
        ...


F = TypeVar("F", bound=Callable[..., Selection])


def estimated_by(estimate: Callable[..., Cost]) -> Callable[[F], F]:
    """Decorate a selector with what it will cost, before it runs.

    Args:
        estimate: `(stats: PoolStats, budget: Budget | None, **settings) -> Cost`. Selectors without
            one are taken to cost next to nothing.
    """

    def attach(selector: F) -> F:
        vars(selector)["estimate"] = estimate
        return selector

    return attach


class Orderer(Protocol):
    """Puts a selection in sequence; a plain function with keyword-only settings satisfies it."""

    def __call__(
        self, pool: Pool, chosen: Selection, scores: Scores | None, ctx: Context, /
    ) -> TrainingOrder:
        """The rows in sequence."""
        ...


class Executor(Protocol):
    """Applies a function to items, in order, on some workers."""

    @property
    def workers(self) -> int:
        """How many items run at a time."""
        ...

    @property
    def spent(self) -> Cost:
        """Cost of everything this executor has run."""
        ...

    def map(
        self,
        fn: Callable[[W, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: S,
        open: Callable[[S, str], AbstractContextManager[W]] | None = None,  # noqa: A002
        devices: Sequence[str] = (),
    ) -> Iterator[R]:
        """`fn(shared, item)` for every item; results in the order of the items.

        Args:
            fn: A module-level function (process workers pickle it).
            items: Small descriptions of work, such as row ranges; never texts.
            shared: Sent once per worker.
            open: Turns `shared` and the worker's device into what `fn` gets, entered once per
                worker.
            devices: Where models run, e.g. `("cuda:0", "cuda:1")`: one worker for each, a process
                of its own when there are several. Empty for work without a model.

        Raises:
            ExecutionError: An item failed; the message names it.
        """
        ...

    def call(self, fn: Callable[[], Metered[R]], /, *, device: str | None = None) -> R:
        """One piece of work that cannot be split, in the caller's thread; its cost is counted.

        Args:
            fn: The work; it may report progress, since it stays in this process.
            device: Where its model runs; None for work without a model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long stage: `done` of `total` in `unit`."""

    stage: str
    done: int
    total: int
    unit: str = "rows"


def ignore_progress(_: Progress, /) -> None:
    """The default: nobody is watching."""


@dataclass(frozen=True)
class Context:
    """What a stage is given beside its values.

    Attributes:
        executor: Runs functions over items.
        seed: Root of every random number.
        cache_dir: Where canonical stores live.
        progress: Called as work advances; drawn by the command line.
        scratch: Where a long stage may keep finished shards, or None.
    """

    executor: Executor
    seed: int
    cache_dir: Path
    progress: Callable[[Progress], None] = ignore_progress
    scratch: Path | None = None

    def rng(self, *place: str | int) -> np.random.Generator:
        """A generator keyed by the place that asks, never by the worker."""
        keys = [
            p if isinstance(p, int) else int.from_bytes(hashlib.blake2b(p.encode()).digest()[:8])
            for p in place
        ]
        return np.random.default_rng([self.seed, *keys])
