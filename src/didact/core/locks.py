"""Locks between processes: files that one process at a time holds, and lets go of when it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor


@contextmanager
def folder_to_oneself(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make a folder, and hold it while the block runs; another process that wants it waits.

    The folder may be removed in the block. What is locked is a file beside it, which goes with the
    lock: whoever waited for a file that is gone by then starts over with a new one.

    Args:
        folder: The folder.
        waiting: Called if another holds it; what it raises ends the wait.
    """
    path = _lock_of(folder)
    held = False
    while not held:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                waiting()
                lock_descriptor(descriptor)
            if held := _names(path, descriptor):
                try:
                    folder.mkdir(exist_ok=True)
                    yield
                finally:
                    with suppress(OSError):
                        path.unlink()
        finally:
            os.close(descriptor)
            if os.name == "nt":  # where a file goes only once nobody has it open
                with suppress(OSError):
                    path.unlink()


def is_locked(folder: Path) -> bool:
    """Whether some process has a folder to itself; nothing is made or removed."""
    try:
        descriptor = os.open(_lock_of(folder), os.O_RDWR)
    except OSError:
        return False
    try:
        return not lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Whether this process alone holds a lock, which is a file; it is neither emptied nor removed.

    Raises:
        OSError: The path is a link, which is not followed, or cannot be opened.
    """
    descriptor = _opened(path)
    try:
        yield lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _opened(path: Path) -> int:
    """A descriptor of a file, made if need be; links are not followed where that can be asked."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _names(path: Path, descriptor: int) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
