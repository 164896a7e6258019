"""Measured blocks: wall-clock time, and peak memory summed over the process tree."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import PAGESIZE
from pathlib import Path

_PROC = Path("/proc")
_INTERVAL_SECONDS = 0.02


@dataclass
class Usage:
    """Elapsed seconds and largest resident memory of a block, filled in when it ends."""

    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all its descendants; 0 where /proc is not there.

    Shared pages count once per process, so this is an upper bound.
    """
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        try:
            total += int((_PROC / f"{pid}/statm").read_text().split()[1]) * PAGESIZE
            for task in (_PROC / f"{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, IndexError, ValueError):  # the process ended while we looked
            continue
    return total


@contextmanager
def measure() -> Iterator[Usage]:
    """Measure the time and memory of a block."""
    reading = Usage()
    done = threading.Event()

    def watch() -> None:
        while True:
            now = tree_memory(os.getpid())
            reading.peak_memory_bytes = max(reading.peak_memory_bytes, now)
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
