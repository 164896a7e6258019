"""A worker process of a cluster: what maps opened in it, their items, and calls."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from didact.core.cost import Metered
from didact.core.errors import ExecutionError
from didact.core.protocols import Device, Progress
from didact.execution.cluster.luggage import Luggage
from didact.execution.devices import local_devices
from didact.execution.executors import serial
from didact.execution.worker import Worker, named, timed

_TOLD_SECONDS: Final = 0.2  # between two steps of progress that are sent on


class Actor:
    """The state of a worker process.

    What it is given and gives are bytes of our own pickling: Ray's has arrays that nobody may write
    to.
    """

    def __init__(self, home: str, environment: Mapping[str, str], paths: Sequence[str]) -> None:
        os.environ.update(environment)
        # Plug-ins are found where the caller finds them, if this machine has the folder.
        sys.path += [path for path in paths if path not in sys.path]
        with suppress(OSError):  # relative paths mean what they mean to the caller
            os.chdir(home)
        self._given: dict[int, bytes] = {}
        self._open: dict[int, tuple[Any, Worker]] = {}

    def hello(self) -> tuple[str, int]:
        """The node that it is on, and its process."""
        import ray

        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    def begin(self, number: int, given: bytes) -> None:
        """Take what a map shares; its first item opens it."""
        self._given[number] = given

    def run(self, number: int, item: bytes) -> bytes:
        """One item of a map: (True, what it gave) or (False, its error), pickled."""
        return _answer(partial(self._named, number, pickle.loads(item)))  # noqa: S301 - our own

    def _named(self, number: int, item: Any) -> Metered[Any]:
        return named(partial(self._run, number, item), item)

    def _run(self, number: int, item: Any) -> Metered[Any]:
        if number not in self._open:
            fn, shared, opening, device = _loaded(self._given[number])
            place = None if device is None else local_devices(device)[0]
            self._open[number] = fn, Worker(shared, opening, place, alone=True)
            del self._given[number]
        fn, worker = self._open[number]
        return timed(fn, worker, item)

    def end(self, number: int) -> None:
        """Close what a map opened."""
        self._given.pop(number, None)
        if number in self._open:
            self._open.pop(number)[1].stack.close()

    def call(self, given: bytes, device: Device) -> Iterator[bytes]:
        """A call: what it says as it says it, then its answer; pickled.

        It runs in a thread, so that this one can send.
        """
        said: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()
        thread = threading.Thread(target=_call, args=(given, device, said.put), daemon=True)
        thread.start()
        while True:
            over = not thread.is_alive()  # asked first: then nothing comes after what is there
            try:
                yield pickle.dumps(said.get(timeout=0.1), protocol=5)
            except queue.Empty:
                if over:
                    return


def _loaded(given: bytes) -> Any:
    """What was given.

    Raises:
        ExecutionError: A module is not installed here.
    """
    try:
        return pickle.loads(given)  # noqa: S301 - our own bytes
    except ModuleNotFoundError as error:
        raise ExecutionError(
            f"{error} on {socket.gethostname()}: install it on every machine of the cluster, as "
            "where you started"
        ) from error


def _answer(work: Callable[[], Any]) -> bytes:
    """(True, what it gives) or (False, the error that it raises), pickled."""
    try:
        return pickle.dumps((True, work()), protocol=5)
    except Exception as error:  # noqa: BLE001 - it is raised again by whoever sent the item
        return pickle.dumps((False, _sendable(error)), protocol=5)


def _sendable(error: Exception) -> Exception:
    """The error, or its words where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error, protocol=5))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - errors of other people's have constructors of any kind
        return ExecutionError(f"{type(error).__name__}: {error}")
    return error


def _call(given: bytes, device: Device, put: Callable[[tuple[str, Any, Any]], None]) -> None:
    """Do the work of a call; `put` gets what it says, and its answer with what meters count."""
    told: dict[int, float] = {}

    def say(number: int, *values: Any) -> None:
        step = values[0] if values else None
        if isinstance(step, Progress) and 0 < step.done < step.total:
            if time.monotonic() - told.get(number, 0.0) < _TOLD_SECONDS:
                return
            told[number] = time.monotonic()
        put(("said", number, values))

    luggage = Luggage()
    try:
        labels, packed = pickle.loads(given)  # noqa: S301 - our own bytes
        luggage = Luggage.rebuilt(labels, say)
        fn, meter = luggage.unpack(packed)
        with meter.running():
            value = serial().charging(meter).call(fn, device=device)
        put(("done", luggage.pack(value), luggage.counts()))
    except Exception as error:  # noqa: BLE001 - it is raised again by the caller
        put(("failed", _sendable(error), luggage.counts()))
