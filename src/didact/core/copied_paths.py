"""Paths of copies: what is here may be on another machine, too, once it is copied there.

Values hold folders of the cache, and workers on other machines get these values. Of a folder that
is a copy of something behind a URL they get the URL, and copy it themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path, PosixPath, PurePosixPath, WindowsPath
from typing import Any, Final

Again = Callable[..., Path]  # copies it, if need be, and gives the path of what is called so inside
_ORIGINS: Final[dict[str, tuple[Again, tuple[Any, ...]]]] = {}


def copied(path: Path, again: Again, *arguments: Any) -> Path:
    """A path of a copy, and of all that lies in it.

    Args:
        path: Where it is on this machine.
        again: Called where it is unpickled, with the arguments and what it is called from `path`.
        arguments: Values that pickle.
    """
    _ORIGINS[str(path)] = (again, arguments)
    return CopiedPath(path)


def _reduced(path: Path) -> tuple[Any, ...]:
    for folder in (path, *path.parents):
        found = _ORIGINS.get(str(folder))
        if found is not None:
            again, arguments = found
            return again, (*arguments, PurePosixPath(path.relative_to(folder).as_posix()))
    return Path, (str(path),)


if sys.platform == "win32":

    class CopiedPath(WindowsPath):
        """A path of a copy."""

        __slots__ = ()

        def __reduce__(self) -> tuple[Any, ...]:
            return _reduced(self)

else:

    class CopiedPath(PosixPath):
        """A path of a copy."""

        __slots__ = ()

        def __reduce__(self) -> tuple[Any, ...]:
            return _reduced(self)
