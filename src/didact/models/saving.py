"""Model folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from didact.core.atomic import writable
from didact.core.errors import ConfigError


def check_free(folder: Path, flag: str) -> None:
    """Raise ConfigError where a new folder cannot stand: on a file, or on anything of the user's.

    Args:
        folder: The new folder; an empty one is free.
        flag: The flag that gives it, for the message.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{flag} {folder}: is there and not empty; remove it or choose another name"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """A block without the bars and remarks of transformers while it loads, trains and saves."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def saving(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed to it when the block ends without an error.

    Raises:
        ConfigError: `folder` is there and not empty.
        DataError: The disk is full, or the place cannot be written.
    """
    check_free(folder, "folder")
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of runs that were killed
        shutil.rmtree(left, ignore_errors=True)
    with writable(folder.parent, "choose another folder"):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
