"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from didact.core.errors import DataError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
     errno.ENAMETOOLONG}
)  # fmt: skip


@contextmanager
def writable(folder: Path, remedy: str) -> Iterator[None]:
    """Errors of writing below `folder`, mapped to a DataError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"{folder}: no space left on the disk ({error}); free some and run the same "
                f"command again, or {remedy}"
            ) from error
        if error.errno in _REFUSED:
            raise DataError(f"{folder}: cannot be written ({error}); {remedy}") from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends without an error.

    Raises:
        DataError: The disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with writable(path.parent, "choose another folder with -o"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove what an interrupted writer left in `folder` and below."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """blake2b of a file's bytes, 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
