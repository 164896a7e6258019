"""Executors: a function over items, serially, in threads or processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor as PoolExecutor
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from didact.core.cost import Cost, Meter, Metered, thread_seconds
from didact.core.errors import ConfigError, DidactError, ExecutionError
from didact.core.protocols import Device, OpenShared
from didact.execution.apart import started_apart
from didact.execution.devices import local_devices

S = TypeVar("S")
W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")

_RAISED_AT = "raised_at"  # the attribute of an error that says where
_AHEAD = 4  # items in flight per worker: enough to stay busy, few enough to hold little


@dataclass(frozen=True, slots=True)
class Workers:
    """An executor that runs items on some workers, or in the caller's thread.

    Attributes:
        workers: Number of items that run at a time.
        start: Starts that many workers; None for the caller's thread.
        processes: True if a worker is a process.
        meter: What everything run is charged to; CPU seconds are those of the workers.
    """

    workers: int
    start: Callable[..., PoolExecutor] | None
    processes: bool = False
    meter: Meter = field(default_factory=Meter)

    def charging(self, meter: Meter) -> Workers:
        """See `didact.core.protocols.Executor`."""
        return replace(self, meter=meter)

    def apart(self) -> Workers:
        """See `didact.core.protocols.Executor`."""
        if self.start is None:
            return self
        return replace(self, start=started_apart, processes=True)

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
        for metered in self.metered(fn, items, shared=shared, open=open, device=device):
            self.meter.add(metered.cost)
            yield metered.value

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
            worker = _Worker(shared, open, *devices)
            with worker.stack:
                for item in items:
                    yield _named(partial(_timed, fn, worker, item), item)
            return
        started: list[_Worker] = []  # filled by threads only: a process closes with its interpreter
        arguments = (shared, open, started, _queue(devices), count)
        with (
            start(count, initializer=_start, initargs=arguments) as workers,
            ExitStack() as stack,
        ):
            stack.callback(_close, started)
            for item, future in _ahead(workers, fn, iter(items), _AHEAD * count):
                yield _named(future.result, item)

    def call(self, fn: Callable[[str], Metered[R]], /, *, device: Device | None = None) -> R:
        """See `didact.core.protocols.Executor`."""
        place = "cpu" if device is None else local_devices(device)[0]
        name = getattr(getattr(fn, "func", fn), "__name__", "a call")
        clock = nullcontext() if place == "cpu" else self.meter.on_device()
        with clock, thread_seconds() as seconds:
            metered = _named(partial(fn, place), name)
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


def _named(result: Callable[[], Metered[R]], item: object) -> Metered[R]:
    """A result, or an error that names the item."""
    try:
        return result()
    except DidactError:
        raise
    except Exception as error:
        what = item if isinstance(item, str) else repr(item)
        place = vars(error).get(_RAISED_AT) or _place(error)
        raise ExecutionError(f"{what} failed: {type(error).__name__}: {error} ({place})") from error


def _place(error: Exception) -> str:
    """Where it was raised, as 'file.py:12 in function'; outside of libraries if it was."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts]
    at = (ours or frames)[-1]
    return f"{Path(at.filename).name}:{at.lineno} in {at.name}"


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


class _Worker:
    """A worker's state between items: the shared value, opened once."""

    def __init__(
        self, shared: Any, open_shared: OpenShared | None, device: str | None = None
    ) -> None:
        self.stack = ExitStack()
        self.device = device
        self.alone = multiprocessing.parent_process() is not None  # a process for this worker
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
    shared: Any, open_shared: OpenShared | None, started: list[_Worker], devices: Any, workers: int
) -> None:
    device = None
    if devices is not None:  # a process of its own: share the cores before a model library starts
        device = devices.get()
        os.environ["OMP_NUM_THREADS"] = str(max(1, _cores() // workers))
    _here.worker = _Worker(shared, open_shared, device)
    started.append(_here.worker)


def _in_worker(fn: Callable[[Any, T], Metered[R]], item: T) -> Metered[R]:
    return _timed(fn, _here.worker, item)


def _timed(fn: Callable[[Any, T], Metered[R]], worker: _Worker, item: T) -> Metered[R]:
    wall = time.perf_counter()
    with thread_seconds() if not worker.alone else _process_seconds() as seconds:
        try:
            metered = fn(worker.value(), item)
        except Exception as error:
            if not isinstance(error, DidactError):
                vars(error)[_RAISED_AT] = _place(error)  # comes out of a process; frames do not
            raise
    spent = Cost(cpu_seconds=seconds[0])
    if worker.device not in {None, "cpu"}:
        spent += Cost(device_seconds=time.perf_counter() - wall)
    return Metered(metered.value, metered.cost + spent)


@contextmanager
def _process_seconds() -> Iterator[list[float]]:
    """Measure this process's processor time in a block: the threads of its libraries count too."""
    seconds = [0.0]
    began = time.process_time()
    yield seconds
    seconds[0] = time.process_time() - began


def serial() -> Workers:
    """An executor of one item at a time, in the caller's thread."""
    return Workers(1, None)


def threads(workers: int | None = None) -> Workers:
    """An executor of threads, the default: zlib, zstd, Arrow and numpy free the interpreter's lock.

    Args:
        workers: Number of threads; one for every core when not given.
    """
    count = _count(workers)
    return Workers(count, ThreadPoolExecutor) if count > 1 else serial()


def processes(workers: int | None = None) -> Workers:
    """An executor of processes, started fresh, for work that holds the interpreter's lock.

    Args:
        workers: Number of processes; one for every core when not given.
    """
    return Workers(_count(workers), _spawned, processes=True)


def _spawned(workers: int, **arguments: Any) -> PoolExecutor:
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
