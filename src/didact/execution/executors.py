"""Executors: a function over items, serially, in threads or processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor as PoolExecutor
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from didact.core.cost import Cost, Meter, Metered, thread_seconds
from didact.core.errors import ConfigError
from didact.core.paths import Place
from didact.core.protocols import Device, OpenShared
from didact.execution.apart import started_apart
from didact.execution.devices import local_devices
from didact.execution.worker import AHEAD, Worker, charged, cores, named, timed

S = TypeVar("S")
W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Workers:
    """An executor that runs items on some workers, or in the caller's thread.

    Attributes:
        workers: Number of items that run at a time.
        start: Starts that many workers; None for the caller's thread.
        processes: True if a worker is a process.
        threads: Threads of a kernel in the caller's process; as many as workers when None.
        meter: What everything run is charged to; CPU seconds are those of the workers.
    """

    workers: int
    start: Callable[..., PoolExecutor] | None
    processes: bool = False
    threads: int | None = None
    meter: Meter = field(default_factory=Meter)

    @property
    def local_threads(self) -> int:
        """See `didact.core.protocols.Executor`."""
        return self.workers if self.threads is None else self.threads

    @property
    def elsewhere(self) -> bool:
        """See `didact.core.protocols.Executor`."""
        return False

    def charging(self, meter: Meter) -> Workers:
        """See `didact.core.protocols.Executor`."""
        return replace(self, meter=meter)

    def apart(self) -> Workers:
        """See `didact.core.protocols.Executor`."""
        if self.start is None or multiprocessing.current_process().daemon:  # it may start none
            return self
        return replace(self, start=started_apart, processes=True)

    def sees(self, folder: Place) -> bool:
        """See `didact.core.protocols.Executor`; all are on this machine."""
        del folder
        return True

    def map(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: OpenShared | None = None,  # noqa: A002 - the protocol's name
        device: Device | None = None,
    ) -> Iterator[R]:
        """See `didact.core.protocols.Executor`."""
        results = self.metered(fn, items, shared=shared, open=open, device=device)
        return charged(results, self.meter)

    def metered(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: OpenShared | None = None,  # noqa: A002 - the protocol's name
        device: Device | None = None,
    ) -> Iterator[Metered[R]]:
        """See `didact.core.protocols.Executor`."""
        start, count = self.start, self.workers
        devices: Sequence[str] = ()
        if device is not None:
            start, count, devices = self._for_devices(local_devices(device))
        if start is None:
            worker = Worker(shared, open, *devices)
            with worker.stack:
                for item in items:
                    yield named(partial(timed, fn, worker, item), item)
            return
        started: list[Worker] = []  # filled by threads only: a process closes with its interpreter
        arguments = (shared, open, started, _queue(devices), count)
        with (
            start(count, initializer=_start, initargs=arguments) as workers,
            ExitStack() as stack,
        ):
            stack.callback(_close, started)
            for item, future in _ahead(workers, fn, iter(items), AHEAD * count):
                yield named(future.result, item)

    def call(self, fn: Callable[[str], Metered[R]], /, *, device: Device | None = None) -> R:
        """See `didact.core.protocols.Executor`."""
        place = "cpu" if device is None else local_devices(device)[0]
        name = getattr(getattr(fn, "func", fn), "__name__", "a call")
        clock = nullcontext() if place == "cpu" else self.meter.on_device()
        with clock, thread_seconds() as seconds:
            metered = named(partial(fn, place), name)
        self.meter.add(metered.cost + Cost(cpu_seconds=seconds[0]))
        return metered.value

    def _for_devices(
        self, devices: Sequence[str]
    ) -> tuple[Callable[..., PoolExecutor] | None, int, Sequence[str]]:
        """The workers that run models: who makes them, how many, the device of each.

        A process for each accelerator; on the CPU, our own processes or none.

        A model on the CPU uses all cores by itself, so threads would only compete for them.
        """
        if tuple(devices) == ("cpu",) and self.processes:
            return self.start, self.workers, ("cpu",) * self.workers
        if len(devices) == 1:
            return None, 1, devices
        return _spawned, len(devices), devices


def _ahead(
    workers: PoolExecutor, fn: Callable[[Any, T], Metered[R]], items: Iterator[T], most: int
) -> Iterator[tuple[T, Future[Metered[R]]]]:
    """Items with their results to come, in order; at most `most` are in flight."""
    flying: deque[tuple[T, Future[Metered[R]]]] = deque()
    try:
        while True:
            for item in islice(items, most - len(flying)):
                flying.append((item, workers.submit(_in_worker, fn, item)))
            if not flying:
                return
            yield flying.popleft()
    finally:
        for _, future in flying:
            future.cancel()


def _queue(devices: Sequence[str]) -> Any:
    """A queue that hands each worker process its device; None when the workers need none."""
    if not devices:
        return None
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    for device in devices:
        queue.put(device)
    return queue


_here = threading.local()


def _close(started: list[Worker]) -> None:
    for worker in started:
        worker.stack.close()


def _start(
    shared: Any, open_shared: OpenShared | None, started: list[Worker], devices: Any, workers: int
) -> None:
    device = None
    if devices is not None:  # a process of its own: share the cores before a model library starts
        device = devices.get()
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // workers))
    _here.worker = Worker(shared, open_shared, device)
    started.append(_here.worker)


def _in_worker(fn: Callable[[Any, T], Metered[R]], item: T) -> Metered[R]:
    return timed(fn, _here.worker, item)


def serial(*, threads: int | None = None) -> Workers:
    """An executor of one item at a time, in the caller's thread.

    Args:
        threads: Threads of a kernel in the caller's process; 1 when not given.
    """
    return Workers(1, None, threads=_threads(threads))


def threads(workers: int | None = None, *, threads: int | None = None) -> Workers:
    """An executor of threads, the default: zlib, zstd, Arrow and numpy free the interpreter's lock.

    Args:
        workers: Number of threads; one for every core when not given.
        threads: Threads of a kernel in the caller's process; as many when not given.
    """
    count = counted(workers)
    return Workers(count, ThreadPoolExecutor if count > 1 else None, threads=_threads(threads))


def processes(workers: int | None = None, *, threads: int | None = None) -> Workers:
    """An executor of processes, started fresh, for work that holds the interpreter's lock.

    Args:
        workers: Number of processes; one for every core when not given.
        threads: Threads of a kernel in the caller's process; as many when not given.
    """
    return Workers(counted(workers), _spawned, processes=True, threads=_threads(threads))


def _threads(threads: int | None) -> int | None:
    return None if threads is None else counted(threads, "threads")


def _spawned(workers: int, **arguments: Any) -> PoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, **arguments)


def counted(workers: int | None, what: str = "workers") -> int:
    """A number of workers; one for every core of this machine when not given."""
    if workers is None:
        return cores()
    if workers < 1:
        raise ConfigError(f"{what}={workers}; expected 1 or more")
    return workers
