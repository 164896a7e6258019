"""One at a time: locks that end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_to_oneself(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make a folder, and hold it while the block runs; another process that wants it waits.

    The folder may be removed in the block.

    Args:
        folder: The folder.
        waiting: Called once if another holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # removed since by its holder
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same(descriptor, folder):
                yield
                return
        finally:
            os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether some process has a folder to itself."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _same(descriptor: int, path: Path) -> bool:
    """Whether what is open is still what the path names."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Whether this process alone holds a lock, which is a file; it is neither emptied nor removed.

    Raises:
        OSError: The path is a link, which is not followed, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
