"""Stores that pyarrow reads itself: S3, Google Cloud Storage, Azure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from didact.core.paths.stores import Seen

_TAGS: Final = ("generation", "etag")  # of Google's, the second is another for other metadata, too


@dataclass(frozen=True, slots=True)
class ArrowStore:
    """A bucket of a file system of pyarrow.

    Attributes:
        filesystem: The file system.
        bucket: The bucket's name.
        client: What writes an object unless there is one, of a bucket and a key; pyarrow cannot.
        careful: Look before an object is opened. Where Azure gives no token, opening ends the
            process (pyarrow 26), while looking raises.
        flat: Folders are told from names of objects: of Google's it lists those alone that an
            object stands for (pyarrow 26).
    """

    filesystem: Any
    bucket: str
    client: Callable[[str, str, bytes], bool | None] | None = None
    careful: bool = False
    flat: bool = False

    def path(self, key: str) -> str:
        """What `filesystem` calls a key."""
        return f"{self.bucket}/{key}".rstrip("/")

    def look(self, key: str) -> Seen | None:
        """Whether there is something, and what kind."""
        return _seen(self.filesystem.get_file_info(self.path(key)))

    def describe(self, key: str) -> Seen:
        """What an object is, freshly asked."""
        source = self.source(key)
        source.close()
        return source.seen

    def inside(self, key: str, *, deep: bool) -> Iterator[tuple[str, Seen]]:
        """What lies in a folder, named from it."""
        from pyarrow.fs import FileSelector

        base = self.path(key)
        selector = FileSelector(base, recursive=deep or self.flat)
        for info in self.filesystem.get_file_info(selector):
            seen = _seen(info)
            if seen is not None:
                name = info.path[len(base) :].strip("/")
                if deep or "/" not in name:
                    yield name, seen
                else:
                    yield name.partition("/")[0], Seen("folder")

    def source(self, key: str) -> ArrowSource:
        """Open an object."""
        if self.careful and self.look(key) is None:
            raise FileNotFoundError(key)
        file = self.filesystem.open_input_file(self.path(key))
        return ArrowSource(self, key, file, _described(file))

    def create(self, key: str, data: bytes) -> bool | None:
        """Write a small object unless there is one: whether it was; None if it cannot be said."""
        return None if self.client is None else self.client(self.bucket, key, data)


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """An object that is open in pyarrow."""

    store: ArrowStore
    key: str
    file: Any
    seen: Seen

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at` on: one request."""
        found: bytes = self.file.read_at(size, at)
        return found

    def now(self) -> Seen:
        """What the object is now."""
        return self.store.describe(self.key)

    def close(self) -> None:
        """Close it."""
        self.file.close()


def _described(file: Any) -> Seen:
    """What the headers of an open object say."""
    said = {key.lower(): value.decode() for key, value in (file.metadata() or {}).items()}
    tag = next((said[name].strip('"') for name in _TAGS if said.get(name)), "")
    written = said.get("last-modified") or said.get("updated") or ""
    return Seen("file", file.size(), _nanoseconds(written), tag)


def _nanoseconds(time: str) -> int | None:
    try:
        return int(datetime.fromisoformat(time).timestamp()) * 10**9
    except ValueError:
        return None


def _seen(info: Any) -> Seen | None:
    from pyarrow.fs import FileType

    if info.type == FileType.File:
        return Seen("file", info.size, info.mtime_ns)
    return Seen("folder") if info.type == FileType.Directory else None
