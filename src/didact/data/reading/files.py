"""A file and its bytes, decompressed; errors of reading as sentences with a remedy."""

from __future__ import annotations

import errno
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
import zstandard
from isal import igzip, isal_zlib

from didact.core.errors import DataError, DidactError
from didact.core.findings import Finding
from didact.core.paths import Place, RemotePath, masked
from didact.data.reading.parts import Part, lines_between

Codec = Literal["", "gz", "zst"]
CHUNK: Final = 2**20
CODECS: Final[dict[str, Codec]] = {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}
BOM: Final = b"\xef\xbb\xbf"
_GZIP_ERRORS: Final[Any] = (
    EOFError,
    zlib.error,
    isal_zlib.IsalError,  # its stubs call it an instance
    igzip.BadGzipFile,
)


def _ignore(*_: object) -> None:
    """Nobody watches the reading."""


@dataclass(frozen=True, slots=True)
class File:
    """One input file and what it is.

    Attributes:
        path: Its place, on a disk or behind a URL.
        container: How rows lie in it: a name of `didact.data.reading.containers`.
        codec: How it is compressed.
        name: Its path from the folder that all input files share: says which file, wherever the
            files lie.
        digest: blake2b of its bytes, where it is there only while it is read; "" elsewhere.
        findings: What should be known of how it is read.
        watch: Told how many bytes of it have been read.
        tell: Told what is passed over while it is read: what it is (`didact.data.reading.over`
            has a sentence for it), the first of it, and counts.
        part: The part of it that is to be read; None: all of it.
        lines: Told of line ends that were read, where it is a part.
        n_bytes: Its bytes; None where they were not asked for.
        held: All its bytes, where they were fetched.
    """

    path: Place
    container: str
    codec: Codec
    name: str = ""
    digest: str = ""
    findings: tuple[Finding, ...] = ()
    watch: Callable[[int], None] = field(default=_ignore, compare=False, repr=False)
    tell: Callable[[str, str, Counter[str]], None] = field(
        default=_ignore, compare=False, repr=False
    )
    part: Part | None = None
    lines: Callable[[int], None] = field(default=_ignore, compare=False, repr=False)
    n_bytes: int | None = None
    held: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Its bytes; asked for where they are not known."""
        return self.path.stat().st_size if self.n_bytes is None else self.n_bytes

    @property
    def begins(self) -> bool:
        """Whether its first row is among those to be read."""
        return self.part is None or self.part.start == 0


def legible(path: PurePath | RemotePath) -> str:
    r"""A path as text, with `/`; bytes of it that are not UTF-8 as `\xe9`.

    Linux lets names be any bytes, and what is written of them (sources, manifests) is text. A URL
    is without its credentials.
    """
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


@contextmanager
def readable(path: Place) -> Iterator[None]:
    """Foreign errors of reading `path`, mapped once to a DataError with the remedy."""
    try:
        yield
    except DidactError:  # of a store; some of them are OSErrors, too
        raise
    except _GZIP_ERRORS as error:
        raise DataError(
            f"{path}: corrupt or truncated gzip data ({error}); expected a whole .gz file: "
            "copy or download it again"
        ) from error
    except zstandard.ZstdError as error:
        raise DataError(
            f"{path}: corrupt or truncated zstd data ({error}); expected a whole .zst file: "
            "copy or download it again"
        ) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a readable Parquet or Arrow file ({error}); expected a whole file: "
            "copy or download it again"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DataError(f"{path}: {_unreadable(path, error)}") from error


def _unreadable(path: Place, error: OSError) -> str:
    """Why a file cannot be read, and the remedy."""
    if isinstance(path, RemotePath):
        return f"cannot be read ({masked(str(error))}); run the same command again"
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return (
                f"is a link to {path.readlink()}, which is not there; expected a file: put it "
                "back, or give another"
            )
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        return f"no such file{where}; check the path, or quote a glob"
    number = error.errno
    if number is None and path.is_dir():  # Arrow says so in words alone
        number = errno.EISDIR
    if number == errno.EACCES:  # of a folder on the way, perhaps
        for folder in reversed(path.absolute().parents):
            if not os.access(folder, os.X_OK):
                return f"no permission to enter {folder}; chmod +x there, or run as its owner"
    known = _WHY_UNREADABLE.get(number or 0)
    return known or (
        f"cannot be read ({error}); the disk or the file may be damaged: copy or download it again"
    )


_WHY_UNREADABLE: Final = {
    errno.EACCES: "no permission to read it; chmod +r, or run as its owner",
    errno.EPERM: "no permission to read it; chmod +r, or run as its owner",
    errno.EISDIR: "is a folder; expected a file",
    errno.ELOOP: "is a link that leads in a circle; expected a file: remove the link, or give the "
    "file it should lead to",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the path",
    errno.ENAMETOOLONG: "is longer than the name of a file may be; check it",
}


@contextmanager
def arrow_source(path: Place, held: bytes | None = None) -> Iterator[pa.NativeFile]:
    """A file as pyarrow reads it. Not mapped: if it is cut short then, the process ends.

    Args:
        path: The file.
        held: All its bytes, where they were fetched.
    """
    if held is not None:
        yield pa.BufferReader(held)
    elif isinstance(path, RemotePath):
        with path.open("rb") as raw, pa.PythonFile(raw, mode="r") as source:
            yield source
    else:
        with pa.OSFile(str(path)) as source:
            yield source


def chunks(file: File) -> Iterator[bytes]:
    """The decompressed bytes of a file, or of its part, about a megabyte at a time."""
    if file.part is not None:
        yield from _part(file, file.part)
        return
    held = file.held
    with readable(file.path), file.path.open("rb") if held is None else BytesIO(held) as raw:
        if file.codec == "zst":
            pieces = _zstd_chunks(raw)
        else:
            stream: Any = raw
            if file.codec == "gz":
                stream = igzip.GzipFile(fileobj=raw)  # type: ignore[no-untyped-call]
            pieces = iter(lambda: stream.read(CHUNK), b"")
        for piece in pieces:
            yield piece
            file.watch(raw.tell())


def _part(file: File, part: Part) -> Iterator[bytes]:
    place, start, stop = file.path, part.start, part.stop
    if part.lines is not None:
        place, start, stop = part.lines, 0, None
    with readable(place), place.open("rb") as raw:
        for piece in lines_between(raw, start, stop, file.watch):
            yield piece
            file.lines(piece.count(b"\n"))


def _zstd_chunks(raw: BinaryIO) -> Iterator[bytes]:
    """Frame by frame: a stream reader would take a truncated file for a finished one."""
    begun = False
    found: list[bytes] = []
    size = 0
    decoder = _zstd_decoder()
    # Few bytes at a time: they hold at most some 128 blocks, which are 16 MiB when decompressed.
    while data := raw.read(512):
        while data:
            out = decoder.decompress(data)
            begun = not decoder.eof
            found.append(out)
            size += len(out)
            data = b""
            if decoder.eof:
                data = decoder.unused_data
                decoder = _zstd_decoder()
        if size >= CHUNK:
            yield b"".join(found)
            found, size = [], 0
    if size:
        yield b"".join(found)
    if begun:
        raise zstandard.ZstdError("the file ends inside a frame")


def _zstd_decoder() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
