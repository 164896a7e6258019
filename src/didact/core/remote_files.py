"""Files of an entry behind a URL: read in ranges, of which every block is verified on arrival."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from didact.core.atomic import replacing
from didact.core.checksums import CheckedFile, Stream
from didact.core.errors import DamagedError, DidactError
from didact.core.locks import passing_lock
from didact.core.manifest import fingerprint
from didact.core.paths import RemotePath
from didact.core.scratch import scratch, touch

_HELD: Final = 2**24  # bytes of blocks that a handle holds
_MOST: Final = 2**23  # of a request
_REQUEST: Final = 2**21  # bytes that arrive in the time of a request: 20 ms at 100 MB/s


@dataclass
class RemoteFile(CheckedFile):
    """A file behind a URL.

    Blocks are verified when they arrive, and the last 16 MiB of them held. Reads that follow each
    other fetch more at a time, up to 8 MiB.
    """

    path: RemotePath
    _blocks: OrderedDict[int, bytes] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)
    _local: threading.local = field(default_factory=threading.local, init=False, repr=False)
    _spent: int = field(default=0, init=False, repr=False)
    _copy: CheckedFile | None = field(default=None, init=False, repr=False)

    def verify(self, start: int = 0, stop: int | None = None) -> None:
        """Raise DamagedError unless the bytes from `start` to `stop` are what they were."""
        stop = self.expected.n_bytes if stop is None else stop
        if stop <= start:
            self._check_size()
        for at in range(start, stop, _MOST):
            self.read(at, min(at + _MOST, stop))

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Verified bytes from `start` to `stop`, all of them."""
        stop = self.expected.n_bytes if stop is None else stop
        parts = [self._read(at, min(at + _MOST, stop)) for at in range(start, stop, _MOST)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stream(self) -> io.RawIOBase:
        """The file as Python's own kind of file; every byte that is read was verified."""
        return Stream(self)

    def hold(self, start: int, n_bytes: int) -> None:
        """Fetch what will be read next in one request, as far as a handle holds so much."""
        self._read(start, min(start + min(n_bytes, _HELD // 2), self.expected.n_bytes))

    def near(self, requests: int, n_bytes: int) -> CheckedFile:
        """Itself, or a copy of it in the scratch once reading here and there took as long.

        Args:
            requests: How many places will be read.
            n_bytes: Bytes at all of them.
        """
        self._spent += max(requests * _REQUEST, n_bytes)
        if self._spent <= self.expected.n_bytes:
            return self
        folder = scratch("files")
        place = folder / fingerprint([str(self.path), self.expected.to_json()])
        with passing_lock(place.with_suffix(".lock"), lambda: None):
            if self._copy is None or not place.is_file():
                self._copy = self._copied(place)
        touch(place)
        return self._copy

    def _copied(self, place: Path) -> CheckedFile:
        """A copy of it there, made unless one is there that is whole."""
        copy = CheckedFile(place, self.expected, seal=place)  # which goes when it is damaged
        with suppress(DamagedError):
            copy.verify()
            return copy
        with replacing(place) as temporary, temporary.open("wb") as file:
            for at in range(0, self.expected.n_bytes, _MOST):
                file.write(self._read(at, min(at + _MOST, self.expected.n_bytes)))
        return copy

    def _check_size(self) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError as error:
            raise self._damaged("it is gone") from error
        if size != self.expected.n_bytes:
            raise self._damaged(f"{size} bytes where {self.expected.n_bytes} were written")

    def _read(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        size = self.expected.block
        first, last = start // size, -(-stop // size)
        with self._lock:
            held = {n: self._blocks[n] for n in range(first, last) if n in self._blocks}
        at = first
        while at < last:
            if at in held:
                at += 1
                continue
            end = at
            while end < last and end not in held:
                end += 1
            held |= self._fetched(at, end)
            at = end
        data = b"".join(held[n] for n in range(first, last))
        return data[start - first * size : stop - first * size]

    def _fetched(self, first: int, stop: int) -> dict[int, bytes]:
        """Blocks of the file, and some after them where reads follow each other."""
        size = self.expected.block
        local = self._local.__dict__
        if local.get("next") == first:
            local["ahead"] = min(2 * local.get("ahead", size), _MOST)
            stop = max(stop, first + local["ahead"] // size)
        else:
            local["ahead"] = size
        stop = min(stop, -(-self.expected.n_bytes // size))
        local["next"] = stop
        if "source" not in local:
            local["source"] = self.path.anywhere()
        length = min(stop * size, self.expected.n_bytes) - first * size
        try:
            data = memoryview(local["source"].read(first * size, length))
        except FileNotFoundError as error:
            raise self._damaged("it is gone") from error
        if len(data) < length:
            raise self._damaged(f"it ends {length - len(data)} bytes early")
        found = {}
        for number in range(first, stop):
            at = (number - first) * size
            block = bytes(data[at : at + size])
            if not self.expected.holds(number, block):
                raise self._damaged(f"its checksum does not hold from byte {number * size} on")
            found[number] = block
        with self._lock:
            for number, block in found.items():
                self._blocks[number] = block
                self._blocks.move_to_end(number)
            while len(self._blocks) * size > _HELD:
                self._blocks.popitem(last=False)
        return found

    def _damaged(self, what: str) -> DamagedError:
        if isinstance(self.seal, RemotePath):
            with suppress(DidactError):
                self.seal.unlink(missing_ok=True)
        return DamagedError(self.path, what)


def checked(path: Path | RemotePath, expected: Any, seal: Path | RemotePath) -> CheckedFile:
    """A file of an entry, wherever it lies."""
    if isinstance(path, RemotePath):
        return RemoteFile(path, expected, seal)
    return CheckedFile(path, expected, seal)
