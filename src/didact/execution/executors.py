"""Serial, threads, processes: a function over items, results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, TypeVar

from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DidactError, ExecutionError

S = TypeVar("S")
W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")
Open = Callable[[Any], AbstractContextManager[Any]]

_AHEAD = 4  # items in flight per worker: enough to stay busy, few enough to hold little


class Workers:
    """Runs items on a pool of workers, or in the caller's thread when there is no pool.

    Attributes:
        workers: How many items run at a time.
        spent: Cost of everything run so far; CPU seconds are those of the workers.
    """

    def __init__(self, workers: int, pool: Callable[..., Pool] | None) -> None:
        self.workers = workers
        self.spent = Cost()
        self._pool = pool

    def map(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: Open | None = None,  # noqa: A002 - the protocol's name
    ) -> Iterator[R]:
        """See `didact.core.protocols.Executor`."""
        if self._pool is None:
            worker = _Worker(shared, open)
            with worker.stack:
                for item in items:
                    yield self._take(partial(_timed, fn, worker, item), item)
            return
        started: list[_Worker] = []  # filled by threads only: a process closes with its interpreter
        arguments = (shared, open, started)
        with (
            self._pool(self.workers, initializer=_start, initargs=arguments) as pool,
            ExitStack() as stack,
        ):
            stack.callback(_close, started)
            flying: deque[tuple[T, Future[Metered[R]]]] = deque()
            todo = iter(items)
            try:
                while True:
                    while len(flying) < _AHEAD * self.workers:
                        try:
                            item = next(todo)
                        except StopIteration:
                            break
                        flying.append((item, pool.submit(_in_worker, fn, item)))
                    if not flying:
                        return
                    item, future = flying.popleft()
                    yield self._take(future.result, item)
            finally:
                for _, future in flying:
                    future.cancel()

    def _take(self, result: Callable[[], Metered[R]], item: object) -> R:
        try:
            metered = result()
        except DidactError:
            raise
        except Exception as error:  # whatever a method raises, the item is named
            raise ExecutionError(f"{item!r} failed: {type(error).__name__}: {error}") from error
        self.spent += metered.cost
        return metered.value


class _Worker:
    """What one worker keeps between items: the shared value, opened once."""

    def __init__(self, shared: Any, open_shared: Open | None) -> None:
        self.stack = ExitStack()
        self._shared, self._open = shared, open_shared

    def value(self) -> Any:
        if self._open is not None:
            self._shared = self.stack.enter_context(self._open(self._shared))
            self._open = None
        return self._shared


_here = threading.local()


def _close(started: list[_Worker]) -> None:
    for worker in started:
        worker.stack.close()


def _start(shared: Any, open_shared: Open | None, started: list[_Worker]) -> None:
    _here.worker = _Worker(shared, open_shared)
    started.append(_here.worker)


def _in_worker(fn: Callable[[Any, T], Metered[R]], item: T) -> Metered[R]:
    return _timed(fn, _here.worker, item)


def _timed(fn: Callable[[Any, T], Metered[R]], worker: _Worker, item: T) -> Metered[R]:
    began = time.thread_time()
    metered = fn(worker.value(), item)
    spent = time.thread_time() - began
    return Metered(metered.value, metered.cost + Cost(cpu_seconds=spent))


def serial() -> Workers:
    """One item at a time, in the caller's thread."""
    return Workers(1, None)


def threads(workers: int | None = None) -> Workers:
    """Threads: zlib, zstd, Arrow and numpy release the interpreter's lock. The default for text."""
    count = _count(workers)
    return Workers(count, ThreadPoolExecutor) if count > 1 else serial()


def processes(workers: int | None = None) -> Workers:
    """Processes: for work that holds the interpreter's lock. Started fresh, never forked."""
    context = multiprocessing.get_context("spawn")
    return Workers(_count(workers), partial(ProcessPoolExecutor, mp_context=context))


def _count(workers: int | None) -> int:
    if workers is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else (os.cpu_count() or 1)
        )
    if workers < 1:
        raise ConfigError(f"workers={workers}; expected 1 or more")
    return workers
