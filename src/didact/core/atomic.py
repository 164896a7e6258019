"""Files and folders that appear whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from didact.core.errors import DataError
from didact.core.paths import Place, RemotePath
from didact.core.scratch import passing_file, scratch

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SCRATCH = "set DIDACT_SCRATCH to another folder"
_sent: dict[RemotePath, tuple[str, int, str]] = {}  # ETag, bytes, digest of what was put there
_WHY_REFUSED = {
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "writing there is not permitted",
    errno.EROFS: "it lies on a file system that is read-only",
    errno.EEXIST: "a file is in the place of a folder",
    errno.ENOTDIR: "a file is in the place of a folder",
    errno.EISDIR: "a folder is in the place of a file",
    errno.ENAMETOOLONG: "the name is longer than a name may be",
    errno.ELOOP: "a link leads in a circle",
}


@contextmanager
def writable(folder: Place, remedy: str) -> Iterator[None]:
    """Errors of writing below `folder`, mapped to a DataError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"{folder}: no space left on the disk ({error}); free some and run the same "
                f"command again, or {remedy}"
            ) from error
        if (why := _WHY_REFUSED.get(error.errno or 0)) is not None:
            place = error.filename2 or error.filename or folder
            raise DataError(f"{folder}: cannot be written: {why} ({place}); {remedy}") from error
        raise


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends without an error.

    The bytes are on the disk before the name is. Behind a URL they are put there whole, from a file
    in the scratch.

    Raises:
        DataError: The disk is full, or the place cannot be written.
    """
    if isinstance(path, RemotePath):
        with writable(scratch(""), _SCRATCH), passing_file(path.name) as file:
            yield file
            send(file, path)
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with writable(path.parent, "choose another folder with -o"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def send(file: Path, place: RemotePath) -> None:
    """Put a file there; `digest` of it needs not read it back while nobody else puts another."""
    place.send(file)
    found, size = place.stat(), file.stat().st_size
    if found.st_size != size:
        raise DataError(
            f"{place}: has {found.st_size:,} bytes where {size:,} were put; run the same command "
            "again once nobody else writes there"
        )
    if found.tag:
        _sent[place] = (found.tag, found.st_size, digest(file))


def write_text(path: Place, text: str) -> None:
    """Write a small text file whole."""
    if isinstance(path, RemotePath):
        path.write_text(text)
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    if os.name == "nt" and path.is_dir():  # where folders cannot be opened
        return
    # Windows waits for files that are open for writing alone.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # file systems that know no such thing
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` of everything in a folder, then of the folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            sync_tree(path)
        elif path.is_file():
            sync(path)
    sync(folder)


def remove(path: Place) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing that a link points to."""
    if isinstance(path, RemotePath):
        path.remove()
        return
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def lies_inside(folder: Place, name: str) -> bool:
    """Whether a name is that of a file in the folder or below, and no link leads out of it."""
    place = PurePosixPath(name)
    if not place.parts or place.is_absolute() or ".." in place.parts or "\0" in name:
        return False
    if isinstance(folder, RemotePath):
        return True
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())


def link_tree(source: Path, target: Path, *, without: str = "") -> None:
    """The files of a folder under another one, without copying them where links are known.

    Args:
        source: A folder.
        target: Where its files go; made if need be. A file that is there stays.
        without: A file of this name is left out.
    """
    for path in source.rglob("*"):
        if path.is_file() and path.name != without:
            place = target / path.relative_to(source)
            if place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)


def sweep(folder: Place) -> None:
    """Remove what an interrupted writer left in `folder` and below; nothing behind a URL."""
    if isinstance(folder, RemotePath):
        return
    for leftover in folder.rglob(".*.tmp"):
        remove(leftover)


def digest(path: Place) -> str:
    """blake2b of a file's bytes, 32 hex digits."""
    if isinstance(path, RemotePath) and (sent := _sent.get(path)) is not None:
        found = path.stat()
        if (found.tag, found.st_size) == sent[:2]:
            return sent[2]
    with path.open("rb") as file:
        stream: Any = file  # typeshed's protocol of it lacks what every open file has
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
