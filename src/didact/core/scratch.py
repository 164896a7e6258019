"""The scratch: where files stand on this machine that belong behind a URL, or come from there."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from didact.core.errors import ConfigError

_ABANDONED_SECONDS: Final = 24 * 3600
_PASSING: Final = "passing"


def scratch(name: str) -> Path:
    """A folder of this user's alone, in `$DIDACT_SCRATCH` or the system's temporary folder.

    Args:
        name: What it is for.

    Raises:
        ConfigError: Somebody else has a folder of this name there, or it cannot be made.
    """
    folder = _scratch(os.environ.get("DIDACT_SCRATCH") or tempfile.gettempdir()) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _scratch(given: str) -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(given).expanduser() / f"didact-{owner}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(
            f"DIDACT_SCRATCH: {folder} cannot be made ({error}); set it to a folder that may be "
            "written"
        ) from error
    if folder.is_symlink() or (hasattr(os, "getuid") and found.st_uid != owner):
        raise ConfigError(
            f"DIDACT_SCRATCH: {folder} is a link, or somebody else's; set it to another folder"
        )
    return folder


@contextmanager
def passing_file(name: str) -> Iterator[Path]:
    """The name of a file in the scratch, which is gone when the block ends."""
    folder = scratch(_PASSING)
    sweep(folder)
    path = folder / f"{uuid.uuid4().hex}-{name[-64:]}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove files that killed processes left, once they are a day old."""
    for left in folder.iterdir():
        with suppress(OSError):
            if left.is_file() and time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                left.unlink()


def touch(file: Path) -> None:
    """Say that a file is used, and remove those beside it that were not for a day."""
    with suppress(OSError):
        os.utime(file)
    sweep(file.parent)
