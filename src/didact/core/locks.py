"""Locks between processes: files that one process at a time holds, and lets go of when it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import lock_descriptor

from didact.core.atomic import writable
from didact.core.claims import Claim, claimed
from didact.core.errors import ConfigError
from didact.core.paths import Place, RemotePath

_LOCK: Final = ".didact.lock"


@contextmanager
def folder_to_oneself(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make a folder, and hold it while the block runs; another process that wants it waits.

    The folder may be removed in the block. What is locked is a file beside it, which goes with the
    lock.

    Args:
        folder: The folder.
        waiting: Called if another holds it; what it raises ends the wait.
    """
    with passing_lock(_lock_of(folder), waiting):
        folder.mkdir(exist_ok=True)
        yield


@contextmanager
def passing_lock(path: Place, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock, which is a file and goes with it; another process that wants it waits.

    Whoever waited for a file that is gone by then starts over with a new one.

    Args:
        path: The file; its folder is made if need be. Behind a URL it is a claim.
        waiting: Called if another holds it; what it raises ends the wait.
    """
    if isinstance(path, RemotePath):
        with claimed(path, lambda _: waiting()):
            yield
        return
    held = False
    while not held:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                waiting()
                lock_descriptor(descriptor)
            if held := _names(path, descriptor):
                try:
                    yield
                finally:
                    with suppress(OSError):
                        path.unlink()
        finally:
            os.close(descriptor)
            if os.name == "nt":  # where a file goes only once nobody has it open
                with suppress(OSError):
                    path.unlink()


@contextmanager
def alone_in(folder: Place) -> Iterator[None]:
    """Make a folder and hold it; another command that would write there is refused.

    Raises:
        ConfigError: Another one writes there.
        DataError: The folder cannot be made or written.
    """
    if isinstance(folder, RemotePath):
        with claimed(folder / _LOCK, lambda claim: _refuse(folder, claim)):
            yield
        return
    with ExitStack() as stack:
        with writable(folder, "choose another folder with -o"):
            stack.enter_context(passing_lock(folder / _LOCK, lambda: _refuse(folder)))
        yield


def _refuse(folder: Place, claim: Claim | None = None) -> None:
    who = "" if claim is None else f" ({claim})"
    raise ConfigError(
        f"{folder}: another command is writing there{who}; wait for it, or choose another folder "
        "with -o"
    )


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
