"""What tells whether a file is the one that was read before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from didact.core.findings import Finding, counted
from didact.core.paths import RemotePath
from didact.data.reading.files import CHUNK, File, legible, readable

Stamp = list[Any]  # its name, its bytes, and what is another for other bytes
# what stands third in the stamp of a remote file: what kind of thing stands fourth
_TAG: Final = "etag"
_TIME: Final = "time"
_HASH: Final = "blake2b"
_AT_A_TIME: Final = 16


def stamps_of(files: Sequence[File]) -> list[Stamp]:
    """The stamp of each file, freshly asked; of remote ones several at a time.

    A remote file has the ETag that its store tells, or the generation or hash that it has instead.
    Where a store tells none, the time of the last change says it; where it tells neither, the file
    is read and hashed.
    """
    if not any(isinstance(file.path, RemotePath) for file in files):
        return [_stamp(file) for file in files]
    with ThreadPoolExecutor(_AT_A_TIME) as workers:
        return list(workers.map(_stamp, files))


def _stamp(file: File) -> Stamp:
    path = file.path
    if isinstance(path, RemotePath):
        return _remote_stamp(path)
    with readable(path):
        found = path.stat()
    if file.digest:
        return [file.name, found.st_size, file.digest]
    # the change time too: copying and restoring tools set the modification time back
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [legible(path.resolve()), found.st_size, *times, found.st_ino]


def _remote_stamp(path: RemotePath) -> Stamp:
    name, found = legible(path), path.stat()
    if found.tag:
        return [name, found.st_size, _TAG, found.tag]
    if found.st_mtime_ns:
        return [name, found.st_size, _TIME, found.st_mtime_ns]
    return [name, *_hashed(path)]


def _hashed(path: RemotePath) -> tuple[int, str, str]:
    """Bytes of a file and their blake2b, 32 hex digits."""
    hasher, size = hashlib.blake2b(digest_size=16), 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            hasher.update(data)
            size += len(data)
    return size, _HASH, hasher.hexdigest()


def hashed_by(stamp: Stamp) -> str:
    """The blake2b of the file, where its stamp has it; "" elsewhere."""
    return str(stamp[3]) if stamp[2] == _HASH else ""


def tag_of(stamp: Stamp) -> dict[str, str]:
    """What the manifest has of a stamp beside the size: the ETag of a remote file."""
    return {"etag": str(stamp[3])} if stamp[2] == _TAG else {}


def untagged(files: Sequence[File], stamps: Sequence[Stamp]) -> Iterator[Finding]:
    """Files whose stores do not say what is another for other bytes."""
    for kind, how in _SAID.items():
        names = [file.name for file, stamp in zip(files, stamps, strict=True) if stamp[2] == kind]
        if names:
            text = f"{counted(len(names), 'file lies', 'files lie')} where no ETag is told: {how}"
            yield Finding("no_etag", len(names), names[0], text, "")


_SAID: Final = {
    _TIME: "size and time of the last change tell whether it is still the same",
    _HASH: "it is read once more each time, to see whether it is still the same",
}
