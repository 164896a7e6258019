"""Stores that fsspec has a driver for: the Hugging Face hub, web servers, and whatever else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, Final

from didact.core.paths.stores import Seen

_WEB: Final = {"http", "https"}
# what drivers call a hash, or what is another for other bytes, most certain first
_TAGS: Final = ("sha256", "blob_id", "xet_hash", "ETag", "etag", "generation", "version_id",
                "Content-MD5", "Digest", "md5", "checksum")  # fmt: skip
_TIMES: Final = ("mtime", "Last-Modified", "LastModified", "last_modified", "updated", "created")
_BLOCK: Final = 2**22
_RECENT: Final = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class FsspecStore:
    """A host or bucket of a driver of fsspec."""

    scheme: str
    driver: Any
    root: str
    _asked: dict[str, float] = field(default_factory=dict)  # folders of the hub, and when
    _lock: Lock = field(default_factory=Lock)

    @property
    def filesystem(self) -> Any:
        """It as pyarrow has it."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self.driver))

    def path(self, key: str) -> str:
        """What the driver calls a key."""
        url = f"{self.scheme}://{self.root}/{key}"
        return str(self.driver._strip_protocol(url))  # noqa: SLF001 - fsspec's own contract for drivers

    def look(self, key: str) -> Seen | None:
        """Whether there is something, and what kind."""
        try:
            return _seen(self.driver.info(self.path(key)))
        except FileNotFoundError as error:
            if self.scheme in _WEB and not _absent(error):
                raise  # the driver says so of every fault
            return None

    def describe(self, key: str) -> Seen:
        """What an object is, freshly asked."""
        path = self.path(key)
        if self.scheme == "hf":
            self._ask_anew(path.rpartition("/")[0])
        return _seen(self.driver.info(path))

    def _ask_anew(self, folder: str) -> None:
        """List a folder of the hub, whose client never does so again, unless it is just done.

        The hub allows few requests, and a folder may hold thousands of files.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._asked.get(folder, -_RECENT) >= _RECENT:
                self.driver.ls(folder, refresh=True)
                self._asked[folder] = now

    def inside(self, key: str, *, deep: bool) -> Iterator[tuple[str, Seen]]:
        """What lies in a folder, named from it."""
        base = self.path(key)
        if deep:
            found = list(self.driver.find(base, withdirs=True, detail=True).values())
        else:
            found = self.driver.ls(base, detail=True)
        if self.scheme == "hf":  # names have the revision in another spelling
            base = self.driver.resolve_path(base).unresolve()
        base = base.rstrip("/")
        for info in found:
            inside = info["name"].rstrip("/")[len(base) :].strip("/")
            if inside:
                yield inside, _seen(info)

    def source(self, key: str) -> FsspecSource:
        """Open an object."""
        path = self.path(key)
        seen = _seen(self.driver.info(path))
        return FsspecSource(self, key, path, seen)

    def create(self, key: str, data: bytes) -> bool | None:
        """Write a small object unless there is one: whether it was; None if it cannot be said."""
        try:
            self.driver.pipe_file(self.path(key), data, mode="create")
        except FileExistsError:
            return False
        except (TypeError, ValueError, NotImplementedError):
            return None
        return True


@dataclass(slots=True)
class FsspecSource:
    """An object that is open in a driver of fsspec.

    Attributes:
        store: Its store.
        key: Its key there.
        path: What the driver calls it.
        seen: What it was when it was opened.
    """

    store: FsspecStore
    key: str
    path: str
    seen: Seen
    _file: Any = None
    _streamed: bool = False
    _at: int = field(default=0)

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at` on; of a server that knows no ranges, read in one go from the start."""
        if self._file is None:
            self._open()
        if not self._streamed:
            try:
                self._file.seek(at)
                found: bytes = self._file.read(size)
            except ValueError as error:
                if "range" not in str(error):
                    raise
                self.close()
                self._streamed = True
            else:
                return found
        return self._next(at, size)

    def _open(self) -> None:
        web, size = self.store.scheme in _WEB, self.seen.size
        self._streamed = self._streamed or (web and not size)
        more: dict[str, Any] = {"size": size or 0} if web else {}
        block = 0 if self._streamed else _BLOCK
        self._file = self.store.driver.open(
            self.path, "rb", block_size=block, cache_type="none", **more
        )
        self._at = 0

    def _next(self, at: int, size: int) -> bytes:
        """Bytes of a stream, which only goes forward."""
        if self._file is None or at < self._at:
            self.close()
            self._open()
        while self._at < at:
            passed = len(self._file.read(min(at - self._at, _BLOCK)))
            if not passed:
                return b""
            self._at += passed
        found: bytes = self._file.read(size)
        self._at += len(found)
        return found

    def now(self) -> Seen | None:
        """What the object is now; of a stream, which is one answer, there is nothing to ask."""
        return None if self._streamed else self.store.describe(self.key)

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            with suppress(Exception):  # closing what is broken
                self._file.close()
            self._file = None


def _absent(error: BaseException) -> bool:
    """Whether a server said that there is no such file, rather than something else."""
    cause = error.__cause__
    return cause is None or getattr(cause, "status", None) in {404, 410}


def _seen(info: dict[str, Any]) -> Seen:
    if info.get("type") == "directory":
        return Seen("folder")
    facts = {**(info.get("lfs") or {}), **info}
    tag = next((str(facts[name]).strip('"') for name in _TAGS if facts.get(name)), "")
    return Seen("file", info.get("size"), _time(info), tag)


def _time(info: dict[str, Any]) -> int | None:
    """When it was last written, in nanoseconds."""
    found = next((info[name] for name in _TIMES if info.get(name)), None)
    if isinstance(found, str):
        try:
            found = parsedate_to_datetime(found)
        except ValueError:
            return None
    if isinstance(found, datetime):
        found = found.timestamp()
    return int(found * 10**9) if isinstance(found, int | float) else None
