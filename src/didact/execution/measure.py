"""Measured blocks: wall-clock time, and peak memory summed over the process tree."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from mmap import PAGESIZE
from pathlib import Path

_PROC = Path("/proc")
_INTERVAL_SECONDS = 0.02
_LOOKS = 25  # at memory for each at which processes there are, a file for every thread of theirs


@dataclass
class Usage:
    """Elapsed seconds and largest resident memory of a block, filled in when it ends."""

    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all its descendants; 0 where /proc is not there.

    Shared pages count once per process, so this is an upper bound.
    """
    return _resident(_family(root))


def _family(root: int) -> dict[int, int]:
    """A process and all its descendants → the parent of each.

    **Cost:** a file for each of their threads is read.
    """
    found, todo = {root: 0}, [root]
    for pid in todo:
        try:
            for task in (_PROC / f"{pid}/task").iterdir():
                children = [*map(int, (task / "children").read_text().split())]
                found |= dict.fromkeys(children, pid)
                todo += children
        except (OSError, ValueError):  # it ended while we looked
            continue
    return found


def _resident(family: Mapping[int, int]) -> int:
    """Resident bytes of processes.

    One that is being started has its parent's memory until it runs its own program: not counted.
    """
    told = {pid: _told(pid) for pid in family}
    return PAGESIZE * sum(
        int(numbers[1])
        for pid, numbers in told.items()
        if numbers and numbers != told.get(family[pid])
    )


def _told(pid: int) -> list[str]:
    """What the system tells of a process's memory; empty once it has ended."""
    try:
        return (_PROC / f"{pid}/statm").read_text().split()
    except OSError:
        return []


@contextmanager
def measure() -> Iterator[Usage]:
    """Measure the time and memory of a block."""
    reading = Usage()
    done = threading.Event()

    def watch() -> None:
        for look in count():
            if look % _LOOKS == 0:
                family = _family(os.getpid())
            reading.peak_memory_bytes = max(reading.peak_memory_bytes, _resident(family))
            if done.wait(_INTERVAL_SECONDS):
                return

    watcher = threading.Thread(target=watch, name="didact-memory", daemon=True)
    wall = time.perf_counter()
    watcher.start()
    try:
        yield reading
    finally:
        done.set()
        watcher.join()
        reading.wall_seconds = time.perf_counter() - wall
