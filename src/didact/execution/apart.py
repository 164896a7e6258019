"""Worker processes for work of our own, which neither need nor import the caller's script."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

_starting = threading.Lock()


class _Apart(SpawnProcess):
    """A fresh process that does not import the script that started it.

    The standard library imports it there, since what is sent may be defined in it; a script that
    reads a pool outside of `if __name__ == "__main__"` would then begin anew in every worker.
    """

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802 - the library's name
        with _starting, _uninterrupted():
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process)  # noqa: SLF001
            finally:
                sys.modules["__main__"] = main


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started in a block never gets Ctrl-C, which is the caller's, who ends its workers.

    A terminal sends it to all; a worker that is still importing would die of it, and say so.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it starts inside, and leaves the signal let through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    Process = _Apart


def started_apart(
    workers: int, *, initializer: Callable[..., None], initargs: tuple[Any, ...]
) -> ProcessPoolExecutor:
    """Worker processes; each is sent the initializer and what it is given."""
    return ProcessPoolExecutor(
        workers, mp_context=_Context(), initializer=_begin, initargs=(initializer, initargs)
    )


def _begin(initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    # Rows of a batch are many objects without cycles, among which there is nothing to collect.
    gc.set_threshold(100_000, 50, 100)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be kept from the start
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initializer(*initargs)


def _end_with_parent() -> None:
    """End with the process that started this one, however that ends: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
