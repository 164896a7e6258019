"""Protocols of methods (Scorer, Selector, Orderer), and what they get (Context, Executor)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float2D, Int1D
from didact.core.budget import Budget
from didact.core.cost import Cost, Meter, Metered
from didact.core.paths import Place
from didact.core.pieces import Pieces, ignore
from didact.core.pool import Pool, PoolStats
from didact.core.scores import Scores, Selection, TrainingOrder

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float64"]
# `(shared, device)` → what a worker keeps between items; see `Executor.map`.
OpenShared = Callable[[Any, str], AbstractContextManager[Any]]


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
        """True if `fit` needs a target set; without one it is not called."""
        ...

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """The cost of scoring a pool, foreseen from its statistics; loads no model."""
        ...

    def fit(self, pool: Pool, target: Any, ctx: Context) -> Fitted:
        """The scorer with what scoring a batch needs to know of pool and target.

        Args:
            pool: The pool.
            target: The target set, a `Pool`; it may be None unless `needs_target` says otherwise,
                which is checked before this is called.
            ctx: Executor, seed, cache, progress.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What a selector that ranks gives back: rows, best first.

    Attributes:
        rows: int64 `(m,)`, unique; who may not be chosen is passed over by whoever cuts it.
        reasons: Short words for why a row was chosen; the method's name when empty.
        why: Index into `reasons` per entry of `rows`; all 0 when None.
        partial: It leaves out rows on purpose: a budget is only a ceiling, and may be absent.
        notes: Sentences for the user.
        remarks: Sentences that depend on the rows chosen in the end, `(k,)`.
    """

    rows: Int1D
    reasons: tuple[str, ...] = ()
    why: Int1D | None = None
    partial: bool = False
    notes: tuple[str, ...] = ()
    remarks: Callable[[Int1D], tuple[str, ...]] | None = None


class Growth(Protocol):
    """A greedy rule over candidates 0..n-1, as it is applied.

    Attributes:
        chunk: How many picks are worth asking for at a time.
    """

    chunk: int

    def pick(self, most: int) -> Int1D:
        """The next picks in order: `most` of them, or fewer when the candidates run out.

        Asking for one at a time gives the same sequence as asking for many.
        """
        ...

    def block(self, positions: Int1D) -> None:
        """Candidates that may no longer be picked; some may have been picked already."""
        ...

    def replay(self, positions: Int1D) -> None:
        """Take these as picked, in this order, before the first `pick`."""
        ...


Grown = tuple[Growth, Callable[[Int1D], Ranking]]


@dataclass(frozen=True, kw_only=True)
class Growing:
    """What a selector that grows a set gives back: the candidates, and the rule to pick by.

    Attributes:
        rows: Candidates, int64 `(n,)`, ascending; exact copies may be among them.
        open: The rule, ready to pick, and what makes a ranking of its picks, given by position in
            the order they were picked. Entered once budget and quotas are known to be possible:
            what is costly belongs in here.
        resumable: Whether a choice that was killed goes on after its last picks; False for a rule
            that keeps pieces of its own, or is quickly done again.
    """

    rows: Int1D
    open: Callable[[], AbstractContextManager[Grown]]
    resumable: bool = True


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What a selector gives back that grows a set of fewer candidates than it is given.

    A smaller budget is no prefix, since it leaves other candidates: quotas, for which all of them
    are ranked, are refused.

    Attributes:
        rows: Candidates, as in `Growing`.
        narrow: From the share of them that is asked for, as the budget counts, 0 to 1, to the
            growth over some of them, whose ranking is partial. Called once the budget is known to
            be possible, and before near-duplicates are looked for.
    """

    rows: Int1D
    narrow: Callable[[float], Growing]


class Selector(Protocol):
    """Chooses a set of rows; a plain function with keyword-only settings satisfies it.

    It says who is better than whom. Budget, quotas, exact and near-duplicates, the validation split
    and rows without a score are dealt with around it, by `didact.selection.around.choose`; a
    finished `Selection` is taken as it is and composes with none of them.
    """

    def __call__(
        self, pool: Pool, scores: Scores | None, budget: Budget | None, ctx: Context, /
    ) -> Ranking | Growing | Narrowing | Selection:
        """The rows in order of preference, or the rule that finds them."""
        ...


F = TypeVar("F", bound=Callable[..., Ranking | Growing | Narrowing | Selection])


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What a selector says of itself to what stands around it; decorates the selector.

    Attributes:
        needs_scores: It cannot do without scores, and is not called without; otherwise it is given
            None where there are none.
        grows: It gives back a `Growing`, so that with `near_duplicates` every text is compared.
        estimate: `(stats: PoolStats, budget: Budget | None, **settings) -> Cost`, the settings
            being all of the selector's own; None: next to nothing.
        why_alone: Its settings, by name → why neither quotas nor `near_duplicates` go with them, as
            the end of a sentence; "" if they do.
        why_no_quotas: The same of quotas alone.
    """

    needs_scores: bool = False
    grows: bool = False
    estimate: Callable[..., Cost] | None = None
    why_alone: Callable[[Mapping[str, Any]], str] | None = None
    why_no_quotas: Callable[[Mapping[str, Any]], str] | None = None

    def __call__(self, selector: F) -> F:
        """Say it of a selector."""
        vars(selector)["composition"] = self
        return selector


class Orderer(Protocol):
    """Puts a selection in sequence; a plain function with keyword-only settings satisfies it."""

    def __call__(
        self, pool: Pool, chosen: Selection, scores: Scores | None, ctx: Context, /
    ) -> TrainingOrder:
        """The order, with every selected row once an epoch."""
        ...


class Executor(Protocol):
    """Applies a function to items, in order, on some workers; it has the devices."""

    @property
    def workers(self) -> int:
        """Number of items that run at a time."""
        ...

    @property
    def local_threads(self) -> int:
        """Threads of a kernel that runs in the caller's process, on its machine."""
        ...

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines than the caller."""
        ...

    def charging(self, meter: Meter) -> Executor:
        """The same workers, for work that is charged to a meter."""
        ...

    def apart(self) -> Executor:
        """As many workers, each a process: for work of ours that holds the interpreter's lock.

        What they are given is found by name in installed packages: their processes do not import
        the caller's own script.
        """
        ...

    def sees(self, folder: Place) -> bool:
        """Whether all workers see a folder, which is there: what one writes, others can read."""
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
        """One piece of work that cannot be split; its cost is charged.

        It runs in the caller's thread; on a cluster, work with a model runs in a worker's process.

        Args:
            fn: The work, given its device. It reads and writes files, and reports progress, through
                what a `Context` holds; that goes with it to another process, and what it notes
                there comes back. Nothing else that it changes in memory does.
            device: Where its model runs; None for work without a model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long stage: `done` of `total` in `unit`; `note` is shown beside it."""

    stage: str
    done: int
    total: int
    unit: str = "rows"
    note: str = ""


ProgressCallback = Callable[[Progress], None]


def ignore_progress(_: Progress, /) -> None:
    """The default `ProgressCallback`: nobody is told."""


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
    cache_dir: Place
    progress: ProgressCallback = ignore_progress
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
