"""A worker of an executor: what it opened, and the items that it runs, timed and with a name."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from didact.core.cost import Cost, Meter, Metered, thread_seconds
from didact.core.errors import DidactError, ExecutionError
from didact.core.protocols import OpenShared

T = TypeVar("T")
R = TypeVar("R")

AHEAD: Final = 4  # items in flight per worker: enough to stay busy, few enough to hold little
_RAISED_AT = "raised_at"  # the attribute of an error that says where


def named(result: Callable[[], Metered[R]], item: object) -> Metered[R]:
    """A result, or an error that names the item."""
    try:
        return result()
    except DidactError:
        raise
    except BrokenExecutor as error:
        raise ExecutionError(
            f"{item if isinstance(item, str) else repr(item)} failed: a worker process was ended "
            "from outside, by the system for lack of memory perhaps; run the same command again, "
            "with fewer --workers if it was memory"
        ) from error
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


def charged(results: Iterator[Metered[R]], meter: Meter) -> Iterator[R]:
    """The values of results as they come, each charged to a meter."""
    for metered in results:
        meter.add(metered.cost)
        yield metered.value


class Worker:
    """A worker's state between items: the shared value, opened once.

    Attributes:
        stack: Closes what was opened.
        device: What its models run on; None for work without a model.
        alone: True where a process is this worker's alone.
    """

    def __init__(
        self,
        shared: Any,
        open_shared: OpenShared | None,
        device: str | None = None,
        *,
        alone: bool | None = None,
    ) -> None:
        self.stack = ExitStack()
        self.device = device
        self.alone = multiprocessing.parent_process() is not None if alone is None else alone
        self._shared, self._open = shared, open_shared

    def value(self) -> Any:
        """What functions of items get; opened when it is first asked for."""
        if self._open is not None:
            self._shared = self.stack.enter_context(self._open(self._shared, self.device or "cpu"))
            self._open = None
        return self._shared


def timed(fn: Callable[[Any, T], Metered[R]], worker: Worker, item: T) -> Metered[R]:
    """The function of an item, and what it cost on this worker."""
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


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
