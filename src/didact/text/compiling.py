"""One way to compile kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")

OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, and keep the code for later processes where a folder allows it."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder that numba may write to
        return njit(**OPTIONS)(function)
