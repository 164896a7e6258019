"""The processes of a training on several devices, as `accelerate launch` and torchrun start them.

Started any other way there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def processes() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device(device: str) -> str:
    """The device of this process, where a single one would take `device`."""
    if processes() == 1 or device == "cpu":
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def meet(device: str) -> None:
    """Wait until every process has come to this place."""
    if processes() > 1:
        _state(device).wait_for_everyone()


@contextmanager
def one_first(device: str) -> Iterator[None]:
    """A block that the first process goes through before the others do."""
    if processes() == 1:
        yield
        return
    with _state(device).main_process_first():
        yield


def _state(device: str) -> Any:
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu")
