"""An object of a store as a file: read in ranges, ahead, and again where reading breaks off."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from didact.core.errors import DataError
from didact.core.paths.faults import persistently
from didact.core.paths.stores import Seen, Source

_FIRST: Final = 2**16  # bytes of the first range: enough for what tells the kind of a file
_MOST: Final = 2**23  # of a later one, of which two are held
_AHEAD: Final = 2**20  # from this size on the next range is fetched before it is asked for


class Ranges(io.RawIOBase):
    """The bytes of an object, fetched in ranges that grow while they are read one after another.

    Attributes:
        name: The URL, without credentials.
        seen: What the object was when it was first opened.
    """

    def __init__(self, name: str, opened: Callable[[], Source]) -> None:
        self.name, self._opened = name, opened
        self._source: Source | None = persistently(name, opened)
        self.seen: Seen = self._source.seen
        self._at = 0
        self._start, self._block = 0, memoryview(b"")
        self._size = _FIRST
        self._ended = False  # of an object whose size nobody says
        self._next: tuple[int, Future[bytes]] | None = None
        self._worker: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        if whence == os.SEEK_END and self.seen.size is None:
            raise io.UnsupportedOperation(f"{self.name}: its size is not known")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.seen.size or 0}
        self._at = max(0, base[whence] + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, or some of it."""
        inside = self._at - self._start
        if not 0 <= inside < len(self._block):
            self._turn(len(buffer))
            inside = 0
        size = min(len(buffer), len(self._block) - inside)
        buffer[:size] = self._block[inside : inside + size]
        self._at += size
        return size

    def close(self) -> None:
        """Let go of the object."""
        if not self.closed:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.shutdown(wait=True, cancel_futures=True)
            if self._source is not None:
                self._source.close()
            self._block = memoryview(b"")
        super().close()

    def _turn(self, wanted: int) -> None:
        """Have the range that begins where the next byte is read."""
        following = self._at == self._start + len(self._block) and self._at > 0
        self._size = min(4 * self._size, _MOST) if following else max(_FIRST, min(wanted, _MOST))
        ahead, self._next = self._next, None
        data: bytes | None = None
        if ahead is not None:  # even where it is of no use: one request at a time
            at, future = ahead
            data = future.result() if at == self._at else None
            if at != self._at:
                future.cancel() or future.exception()
        self._start = self._at
        self._block = memoryview(self._fetched(self._at, self._size) if data is None else data)
        after = self._at + len(self._block)
        if following and self._size >= _AHEAD and not self._over(after):
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "read-ahead")
            self._next = (after, self._worker.submit(self._fetched, after, self._size))

    def _over(self, at: int) -> bool:
        return self._ended if self.seen.size is None else at >= self.seen.size

    def _fetched(self, at: int, size: int) -> bytes:
        """Bytes of the object, or fewer; none at its end alone."""
        if self._over(at):
            return b""

        def once() -> bytes:
            try:
                source = self._open()
                data = source.read(at, size)
                if not data and self.seen.size is not None:
                    raise ConnectionError("the connection ended early")  # noqa: TRY301 - tried again
                now = source.now() if at or len(data) < (self.seen.size or 0) else None
            except BaseException:
                if self._source is not None:
                    self._source.close()
                    self._source = None
                raise
            if now is not None:
                self._compare(now)
            return data

        data = persistently(self.name, once)
        self._ended = not data
        return data

    def _open(self) -> Source:
        if self._source is None:
            self._source = self._opened()
            self._compare(self._source.seen)
        return self._source

    def _compare(self, now: Seen) -> None:
        """Raise DataError when the object is not the one that was opened."""
        first = self.seen
        same = now.tag == first.tag if now.tag and first.tag else now.mtime_ns == first.mtime_ns
        if not same or now.size != first.size:
            raise DataError(
                f"{self.name}: was changed while it was read; run the same command again once "
                "nobody writes to it"
            )


class Anywhere:
    """Reads an object at any place; it is opened once, and again after a fault that passes."""

    def __init__(self, name: str, opened: Callable[[], Source]) -> None:
        self.name, self._opened = name, opened
        self._source: Source | None = None

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at` on, fewer only where the object ends: one request or a few.

        Raises:
            DataError: There is no such object, or reading failed too often.
        """
        data = persistently(self.name, partial(self._once, at, size))
        parts, got = [data], len(data)
        while got < size and data:
            data = persistently(self.name, partial(self._once, at + got, size - got))
            parts.append(data)
            got += len(data)
        return b"".join(parts) if len(parts) > 1 else data

    def _once(self, at: int, size: int) -> bytes:
        try:
            if self._source is None:
                self._source = self._opened()
            return self._source.read(at, size)
        except BaseException:
            if self._source is not None:
                self._source.close()
                self._source = None
            raise
