"""Serial, threads, processes: a function over items, results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DidactError, ExecutionError

S = TypeVar("S")
W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")
Open = Callable[[Any, str], AbstractContextManager[Any]]

_AHEAD = 4  # items in flight per worker: enough to stay busy, few enough to hold little


class Workers:
    """Runs items on a pool of workers, or in the caller's thread when there is no pool.

    Attributes:
        workers: How many items run at a time.
        spent: Cost of everything run so far; CPU seconds are those of the workers.
    """

    def __init__(
        self, workers: int, pool: Callable[..., Pool] | None, *, processes: bool = False
    ) -> None:
        self.workers = workers
        self.spent = Cost()
        self._pool = pool
        self._processes = processes

    def map(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: Open | None = None,  # noqa: A002 - the protocol's name
        devices: Sequence[str] = (),
    ) -> Iterator[R]:
        """See `didact.core.protocols.Executor`."""
        make, count = self._pool, self.workers
        if devices:
            make, count, devices = self._for_devices(devices)
        if make is None:
            worker = _Worker(shared, open, *devices)
            with worker.stack:
                for item in items:
                    yield self._take(partial(_timed, fn, worker, item), item)
            return
        started: list[_Worker] = []  # filled by threads only: a process closes with its interpreter
        arguments = (shared, open, started, _queue(devices), count)
        with (
            make(count, initializer=_start, initargs=arguments) as pool,
            ExitStack() as stack,
        ):
            stack.callback(_close, started)
            for item, future in _ahead(pool, fn, iter(items), _AHEAD * count):
                yield self._take(future.result, item)

    def call(self, fn: Callable[[], Metered[R]], /, *, device: str | None = None) -> R:
        """See `didact.core.protocols.Executor`."""
        worker = _Worker(None, None, device)
        name = getattr(getattr(fn, "func", fn), "__name__", "a call")
        return self._take(partial(_timed, _called, worker, fn), name)

    def _for_devices(
        self, devices: Sequence[str]
    ) -> tuple[Callable[..., Pool] | None, int, Sequence[str]]:
        """Who runs models: a process for each accelerator; on the CPU, our own processes or none.

        A model on the CPU uses all cores by itself, so threads would only compete for them.
        """
        if tuple(devices) == ("cpu",) and self._processes:
            return self._pool, self.workers, ("cpu",) * self.workers
        if len(devices) == 1:
            return None, 1, devices
        return _spawned, len(devices), devices

    def _take(self, result: Callable[[], Metered[R]], item: object) -> R:
        try:
            metered = result()
        except DidactError:
            raise
        except Exception as error:  # whatever a method raises, the item is named
            what = item if isinstance(item, str) else repr(item)
            raise ExecutionError(f"{what} failed: {type(error).__name__}: {error}") from error
        self.spent += metered.cost
        return metered.value


def _ahead(
    pool: Pool, fn: Callable[[Any, T], Metered[R]], items: Iterator[T], most: int
) -> Iterator[tuple[T, Future[Metered[R]]]]:
    """Items with their results to come, in order; at most `most` are in flight."""
    flying: deque[tuple[T, Future[Metered[R]]]] = deque()
    try:
        while True:
            for item in islice(items, most - len(flying)):
                flying.append((item, pool.submit(_in_worker, fn, item)))
            if not flying:
                return
            yield flying.popleft()
    finally:
        for _, future in flying:
            future.cancel()


def _queue(devices: Sequence[str]) -> Any:
    """What hands each worker process its device; None when the workers need none."""
    if not devices:
        return None
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    for device in devices:
        queue.put(device)
    return queue


class _Worker:
    """What one worker keeps between items: the shared value, opened once."""

    def __init__(self, shared: Any, open_shared: Open | None, device: str | None = None) -> None:
        self.stack = ExitStack()
        self.device = device
        self._shared, self._open = shared, open_shared

    def value(self) -> Any:
        if self._open is not None:
            self._shared = self.stack.enter_context(self._open(self._shared, self.device or "cpu"))
            self._open = None
        return self._shared


_here = threading.local()


def _close(started: list[_Worker]) -> None:
    for worker in started:
        worker.stack.close()


def _start(
    shared: Any, open_shared: Open | None, started: list[_Worker], devices: Any, workers: int
) -> None:
    device = None
    if devices is not None:  # a process of its own: share the cores before a model library starts
        device = devices.get()
        os.environ["OMP_NUM_THREADS"] = str(max(1, _cores() // workers))
    _here.worker = _Worker(shared, open_shared, device)
    started.append(_here.worker)


def _in_worker(fn: Callable[[Any, T], Metered[R]], item: T) -> Metered[R]:
    return _timed(fn, _here.worker, item)


def _called(_: None, fn: Callable[[], Metered[R]]) -> Metered[R]:
    return fn()


def _timed(fn: Callable[[Any, T], Metered[R]], worker: _Worker, item: T) -> Metered[R]:
    # A model on the CPU works in threads of its own, which only the whole process's clock counts.
    clock = time.thread_time if worker.device is None else time.process_time
    began, wall = clock(), time.perf_counter()
    metered = fn(worker.value(), item)
    spent = Cost(cpu_seconds=clock() - began)
    if worker.device not in {None, "cpu"}:
        spent += Cost(device_seconds=time.perf_counter() - wall)
    return Metered(metered.value, metered.cost + spent)


def serial() -> Workers:
    """One item at a time, in the caller's thread."""
    return Workers(1, None)


def threads(workers: int | None = None) -> Workers:
    """Threads: zlib, zstd, Arrow and numpy release the interpreter's lock. The default for text."""
    count = _count(workers)
    return Workers(count, ThreadPoolExecutor) if count > 1 else serial()


def processes(workers: int | None = None) -> Workers:
    """Processes: for work that holds the interpreter's lock. Started fresh, never forked."""
    return Workers(_count(workers), _spawned, processes=True)


def _spawned(workers: int, **arguments: Any) -> Pool:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, **arguments)


def _count(workers: int | None) -> int:
    if workers is None:
        return _cores()
    if workers < 1:
        raise ConfigError(f"workers={workers}; expected 1 or more")
    return workers


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
