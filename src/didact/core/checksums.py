"""Checksums of files by block, verified where a block is read.

Disks and copies flip bits and cut files short, and a number read from a damaged block looks like
any other number. So every file that is kept has a checksum for each block of 128 KiB, and nothing
of a block is used before it was compared.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import xxhash

from didact.core.errors import DamagedError
from didact.core.nesting import parse_json
from didact.core.paths import Place

BLOCK: Final = 2**17
_HEX: Final = 16  # digits of a checksum
_LARGEST_BLOCK: Final = 2**30
_TOGETHER: Final = 2**20  # bytes read at a time while verifying


@dataclass(frozen=True, slots=True)
class Checksums:
    """The size of a file and the XXH3 checksum, 64 bits, of each of its blocks.

    Attributes:
        n_bytes: Size of the file.
        blocks: Checksums, 16 hex digits each, one after another.
        block: Bytes of a block.
    """

    n_bytes: int
    blocks: str
    block: int = BLOCK

    @classmethod
    def of(cls, path: Path) -> Checksums:
        """Checksums of a file as it is. **Cost:** reads it once; some 30 GB/s beside that."""
        found: list[str] = []
        size = 0
        with path.open("rb", buffering=0) as file:
            while data := _exactly(file.fileno(), BLOCK, size):
                found.append(xxhash.xxh3_64_hexdigest(data))
                size += len(data)
        return cls(size, "".join(found))

    def holds(self, number: int, data: bytes | memoryview) -> bool:
        """Whether a block of the file is what it was."""
        found = xxhash.xxh3_64_hexdigest(data)
        return found == self.blocks[_HEX * number : _HEX * (number + 1)]

    def to_json(self) -> list[Any]:
        """The checksums as JSON values."""
        return [self.n_bytes, self.block, self.blocks]

    @classmethod
    def from_json(cls, data: list[Any]) -> Checksums:
        """From `to_json`."""
        n_bytes, block, blocks = data
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (n_bytes, block))
        if not whole or n_bytes < 0 or not 0 < block <= _LARGEST_BLOCK:
            raise ValueError(f"{n_bytes!r} bytes in blocks of {block!r}")
        if not isinstance(blocks, str) or len(blocks) != _HEX * -(-n_bytes // block):
            raise ValueError("checksums that do not fit the size")
        return cls(n_bytes, blocks, block)


@dataclass
class CheckedFile:
    """A file that is read only where its checksums hold.

    A block is verified when it is first read, and again once the file's times or size change.

    Attributes:
        path: The file.
        expected: Its checksums.
        seal: What says that the file is whole; removed when it is found not to be.
    """

    path: Place
    expected: Checksums
    seal: Place | None = None
    _stamp: tuple[int, ...] = field(default=(), init=False, repr=False)
    _verified: bytearray = field(default_factory=bytearray, init=False, repr=False)

    def verify(self, start: int = 0, stop: int | None = None) -> None:
        """Raise DamagedError unless the bytes from `start` to `stop` are what they were."""
        with self._open() as file:
            self._verify(file.fileno(), start, self.expected.n_bytes if stop is None else stop)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Verified bytes from `start` to `stop`, all of them."""
        with self._open() as file:
            return self.read_from(file.fileno(), start, stop)

    def read_from(self, descriptor: int, start: int = 0, stop: int | None = None) -> bytes:
        """`read`, from a descriptor that is open."""
        stop = self.expected.n_bytes if stop is None else stop
        self._verify(descriptor, start, stop)
        data = _exactly(descriptor, stop - start, start)
        if len(data) < stop - start:
            raise self._damaged(f"it ends {stop - start - len(data)} bytes early")
        return data

    def stream(self) -> io.RawIOBase:
        """The file as Python's own kind of file; every byte that is read was verified."""
        return _Stream(self, self._open())

    def near(self, requests: int, n_bytes: int) -> CheckedFile:
        """Itself; see `didact.core.remote_files`."""
        del requests, n_bytes
        return self

    def _open(self) -> io.FileIO:
        path = self.path
        assert isinstance(path, Path)  # noqa: S101 - what is behind a URL is a `RemoteFile`
        try:
            return path.open("rb", buffering=0)
        except OSError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> DamagedError:
        if self.seal is not None:
            with suppress(OSError):
                self.seal.unlink()
        return DamagedError(self.path, what)

    def _verify(self, descriptor: int, start: int, stop: int) -> None:
        found = os.fstat(descriptor)
        stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        expected = self.expected
        if found.st_size != expected.n_bytes:
            raise self._damaged(f"{found.st_size} bytes where {expected.n_bytes} were written")
        if stamp != self._stamp:
            count = -(-expected.n_bytes // expected.block)
            self._verified, self._stamp = bytearray(count), stamp
        verified = self._verified
        at, last = start // expected.block, -(-stop // expected.block)
        together = max(1, _TOGETHER // expected.block)
        while (at := verified.find(0, at, last)) >= 0:  # the next block that nobody has looked at
            known = verified.find(1, at, last)
            end = min(at + together, last if known < 0 else known)
            self._compare(descriptor, at, end)
            verified[at:end] = b"\1" * (end - at)
            at = end

    def _compare(self, descriptor: int, first: int, stop: int) -> None:
        size = self.expected.block
        data = memoryview(_exactly(descriptor, (stop - first) * size, first * size))
        for number in range(first, stop):
            at = (number - first) * size
            if not self.expected.holds(number, data[at : at + size]):
                raise self._damaged(f"its checksum does not hold from byte {number * size} on")


class Stream(io.RawIOBase):
    """A checked file as Python's own kind of file."""

    def __init__(self, checked: CheckedFile) -> None:
        self._checked, self._at = checked, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._checked.expected.n_bytes}
        self._at = base[whence] + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Verified bytes from here on."""
        whole = self._checked.expected.n_bytes
        stop = whole if size is None or size < 0 else min(whole, self._at + size)
        start, self._at = self._at, max(stop, self._at)
        return self._between(start, max(stop, start))

    def _between(self, start: int, stop: int) -> bytes:
        return self._checked.read(start, stop)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or some of it."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Stream(Stream):
    """That of a file that stays open."""

    def __init__(self, checked: CheckedFile, file: io.FileIO) -> None:
        super().__init__(checked)
        self._file = file

    def _between(self, start: int, stop: int) -> bytes:
        return self._checked.read_from(self._file.fileno(), start, stop)

    def close(self) -> None:
        self._file.close()
        super().close()


def _exactly(descriptor: int, length: int, start: int) -> bytes:
    """Bytes from `start` on, fewer only where the file ends: one call may give less than asked."""
    data = _read_at(descriptor, length, start)
    if len(data) == length:
        return data
    parts = [data]
    got = len(data)
    while data and got < length:
        data = _read_at(descriptor, length - got, start + got)
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def _read_at(descriptor: int, length: int, start: int) -> bytes:
    """One read at a place; every reader has a descriptor of its own."""
    if hasattr(os, "pread"):  # one call for two; not on Windows
        return os.pread(descriptor, length, start)
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, length)


def signed(values: Mapping[str, Any]) -> str:
    """JSON values as text that carries its own checksum, under `checksum`."""
    return json.dumps({"checksum": _checksum(values), **values}, indent=1, sort_keys=True) + "\n"


def read_signed(path: Place) -> dict[str, Any]:
    """The values that `signed` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: The checksum does not hold.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedError(path, str(error)) from error
    try:
        values: dict[str, Any] = parse_json(data)
        if values.pop("checksum") == _checksum(values):
            return values
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(path, f"{type(error).__name__}: {error}") from error
    raise DamagedError(path, "its checksum does not hold")


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())
