"""Measured blocks: wall-clock time, and peak memory summed over the process tree."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from mmap import PAGESIZE
from pathlib import Path

_PROC = Path("/proc")
_INTERVAL_SECONDS = 0.02
_LOOKS = 10  # at memory for each at which processes there are, a file for every thread of theirs


@dataclass
class Usage:
    """Elapsed seconds and largest resident memory of a block, filled in when it ends."""

    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all its descendants; 0 where /proc is not there.

    Shared pages count once per process, so this is an upper bound.
    """
    return sum(map(_resident, _family(root)))


def _family(root: int) -> list[int]:
    """A process and all its descendants. **Cost:** a file for each of their threads is read."""
    found = [root]
    for pid in found:  # which grows meanwhile
        try:
            for task in (_PROC / f"{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):  # it ended while we looked
            continue
    return found


def _resident(pid: int) -> int:
    try:
        return int((_PROC / f"{pid}/statm").read_text().split()[1]) * PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0


@contextmanager
def measure() -> Iterator[Usage]:
    """Measure the time and memory of a block."""
    reading = Usage()
    done = threading.Event()

    def watch() -> None:
        for look in count():
            if look % _LOOKS == 0:
                family = _family(os.getpid())
            reading.peak_memory_bytes = max(reading.peak_memory_bytes, sum(map(_resident, family)))
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
