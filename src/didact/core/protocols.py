"""What a method must offer: Scorer, Selector, Orderer; and what it is given: Executor, Context."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float2D
from didact.core.cost import Cost, Meter, Metered
from didact.core.pieces import Pieces, ignore
from didact.core.pool import Pool, PoolStats
from didact.core.scores import Budget, Scores, Selection, TrainingOrder

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


Device = Literal["auto", "cpu", "cuda"]
Open = Callable[[Any, str], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Scores of one batch.

    Attributes:
        values: float64 `(b, max(K, 1))`, natural unit; anything on missing rows.
        parts: Named columns beside the score, each float64 `(b,)`.
        missing: Index *within the batch* to the reason there is no score.
        facts: What shows only where a model is open, such as its dtype; equal for all batches.
    """

    values: Float2D
    parts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


BatchScorer = Callable[[pa.RecordBatch], Metered[BatchScores]]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A scorer that has seen what it needs: a frozen value, small and picklable, never a model.

    Attributes:
        open: `(pass, device)` → the function of a batch, entered once per worker and pass. A
            module-level function, or `functools.partial` of one with what was fitted.
        columns: What it reads of a batch.
        higher_is_better: Direction of preference.
        tasks: One score per task, or `()` for one per sample.
        reduce: How scores per task become one, after the passes are summed.
        passes: Outermost loop; results add in float64.
        device: Where its model runs, `auto` being every accelerator of the worker's machine, else
            its CPU; None for a scorer without a model.
        facts: What the result depends on beside the settings: library versions, statistics.
    """

    open: Callable[[int, str], AbstractContextManager[BatchScorer]]
    columns: tuple[str, ...]
    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()
    reduce: Literal["mean", "max"] = "mean"
    passes: int = 1
    device: Device | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """Gives every sample of a pool one number (or one per target task).

    What its scores depend on beside its settings, libraries and models, is said with
    `didact.core.identity.method`.
    """

    @property
    def needs_target(self) -> bool:
        """Whether `fit` needs a target set."""
        ...

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """What a run will cost, before it runs; loads no model."""
        ...

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
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
    """Applies a function to items, in order, on some workers; it has the devices."""

    @property
    def workers(self) -> int:
        """How many items run at a time."""
        ...

    @property
    def spent(self) -> Cost:
        """Cost of everything run for this executor's meter."""
        ...

    def charging(self, meter: Meter) -> Executor:
        """The same workers, for work that is charged to a meter."""
        ...

    def map(
        self,
        fn: Callable[[W, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: S,
        open: Callable[[S, str], AbstractContextManager[W]] | None = None,  # noqa: A002
        device: Device | None = None,
    ) -> Iterator[R]:
        """`fn(shared, item)` for every item; results in the order of the items, cost charged.

        Args:
            fn: A module-level function (process workers pickle it).
            items: Small descriptions of work, such as row ranges; never texts.
            shared: Sent once per worker.
            open: Turns `shared` and the worker's device ("cpu", "cuda:0", …) into what `fn` gets,
                entered once per worker.
            device: Where models run; None for work without a model. `auto` is every accelerator
                that the workers have, else their CPU: one worker for each, a process of its own
                when there are several.

        Raises:
            ExecutionError: An item failed; the message names it.
            ConfigError: `cuda`, and no worker has such a device.
        """
        ...

    def metered(
        self,
        fn: Callable[[W, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: S,
        open: Callable[[S, str], AbstractContextManager[W]] | None = None,  # noqa: A002
        device: Device | None = None,
    ) -> Iterator[Metered[R]]:
        """`map` for callers that keep what each result cost, and charge it themselves."""
        ...

    def call(self, fn: Callable[[str], Metered[R]], /, *, device: Device | None = None) -> R:
        """One piece of work that cannot be split, in the caller's thread; its cost is charged.

        Args:
            fn: The work, given its device; it may report progress, since it stays in this process.
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
        executor: Runs functions over items; bound to `meter`.
        seed: Root of every random number.
        cache_dir: Where kept values live; see `didact.core.keep`.
        progress: Called as work advances; drawn by the command line.
        meter: What the work is charged to.
        tell: Called with a sentence the user should know, such as damage that was mended.
        pieces: Where a value under way keeps what is finished of it.
    """

    executor: Executor
    seed: int
    cache_dir: Path
    progress: Callable[[Progress], None] = ignore_progress
    meter: Meter = field(default_factory=Meter)
    tell: Callable[[str], None] = ignore
    pieces: Pieces = field(default_factory=Pieces)

    def __post_init__(self) -> None:
        object.__setattr__(self, "executor", self.executor.charging(self.meter))

    def rng(self, *place: str | int) -> np.random.Generator:
        """A generator keyed by the place that asks, never by the worker."""
        keys = [
            p if isinstance(p, int) else int.from_bytes(hashlib.blake2b(p.encode()).digest()[:8])
            for p in place
        ]
        return np.random.default_rng([self.seed, *keys])
