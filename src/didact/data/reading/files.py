"""Paths → files → their bytes. Knows names, kinds and compression, not rows."""

from __future__ import annotations

import errno
import glob
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
import zstandard
from isal import igzip, isal_zlib

from didact.core.errors import DataError

Container = Literal["jsonl", "json", "parquet", "arrow", "text"]
Codec = Literal["", "gz", "zst"]
CHUNK: Final = 2**20
_SUFFIXES: Final[dict[str, Container]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
_CODECS: Final[dict[str, Codec]] = {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}
# descriptions that data sets carry beside their rows
_NOT_DATA: Final = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}
BOM: Final = b"\xef\xbb\xbf"
_GZIP_ERRORS: Final[Any] = (
    EOFError,
    zlib.error,
    isal_zlib.IsalError,  # its stubs call it an instance
    igzip.BadGzipFile,
)
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def _ignore(_: int, /) -> None:
    """Nobody watches the reading."""


@dataclass(frozen=True, slots=True)
class File:
    """One input file and what it is.

    Attributes:
        path: Where it is.
        container: How rows lie in it.
        codec: How it is compressed.
        name: Its path from the folder that all input files share: says which file, wherever the
            files lie.
        watch: Told how many bytes of it have been read.
    """

    path: Path
    container: Container
    codec: Codec
    name: str = ""
    watch: Callable[[int], None] = field(default=_ignore, compare=False, repr=False)

    @property
    def stem(self) -> str:
        """The file's name without its suffixes: the default source."""
        name = self.path.name
        for suffix in reversed(self.path.suffixes):
            if suffix.lower() not in _SUFFIXES and suffix.lower() not in _CODECS:
                break
            name = name[: -len(suffix)]
        return name or self.path.name


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Foreign errors of reading `path`, mapped once to a DataError with the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise DataError(f"{path}: no such file{where}; check the path, or quote a glob") from error
    except PermissionError as error:
        raise DataError(
            f"{path}: no permission to read it; chmod +r, or run as its owner"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected a file") from error
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
        raise DataError(
            f"{path}: cannot be read ({error}); the disk or the file may be damaged: copy or "
            "download it again"
        ) from error


# -- which files -----------------------------------------------------------------------------------


def expand(paths: Iterable[str | Path], ignored: Path | None = None) -> list[File]:
    """Files behind paths, folders and globs, in the order given; inside one, sorted by name.

    Args:
        paths: Files, folders, globs.
        ignored: A folder that is no data where it lies inside one of them: the cache.

    Raises:
        DataError: Nothing is there, a file is given twice, or is not of a known kind.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            found += _inside(path, ignored)
        elif path.exists() or not glob.has_magic(str(path)):
            found.append(path)
        else:
            matches = sorted(Path(m) for m in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
            matches = [m for m in matches if m.is_file()]
            if not matches:
                raise DataError(f"{given}: no file matches this pattern; check it, or the folder")
            found += matches
    if not found:
        raise DataError("no file was given; expected at least one file, folder or glob")
    places: dict[Path, Path] = {}
    for path in found:
        place = path.resolve()
        if place in places:
            raise DataError(
                f"{path} is given twice (also as {places[place]}); expected each file once: "
                "to read rows more often, set order.epochs"
            )
        places[place] = path
    shared = os.path.commonpath([path.absolute().parent for path in found])
    return [
        replace(describe(path), name=Path(os.path.relpath(path.absolute(), shared)).as_posix())
        for path in found
    ]


def _inside(folder: Path, ignored: Path | None) -> list[Path]:
    """The data files of a folder, sorted. Hidden ones, and text beside tables, are not data."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in folder.iterdir() if p.is_dir())
        raise DataError(
            f"{folder}: holds the splits {', '.join(splits)}; expected one: pass e.g. "
            f"{folder / (splits[0] if splits else 'train')}"
        )
    kinds: dict[Path, Container] = {}
    no_data = None if ignored is None else ignored.absolute()
    if no_data is not None and folder.absolute() not in no_data.parents:
        no_data = None
    runs = {p.parent for p in folder.rglob("manifest.json") if (p.parent / "stages").is_dir()}
    for path in sorted(folder.rglob("*")):
        if runs.intersection(path.parents):  # what a run made of the data beside it
            continue
        known = _by_suffix(path)
        if known is None or path.name in _NOT_DATA or no_data in path.absolute().parents:
            continue
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            kinds[path] = known
    structured = [path for path, known in kinds.items() if known != "text"]
    inside = structured or list(kinds)  # README.md and LICENSE.txt lie beside most data sets
    if not inside:
        raise DataError(f"{folder}: no data in this folder; expected {', '.join(_SUFFIXES)}")
    return inside


def _suffixes(path: Path) -> tuple[str, str]:
    """The last suffix that is no codec, and the codec's suffix behind it, in lower case."""
    suffixes = [s.lower() for s in path.suffixes]
    codec = suffixes.pop() if suffixes and suffixes[-1] in _CODECS else ""
    return (suffixes[-1] if suffixes else ""), codec


def _by_suffix(path: Path) -> Container | None:
    return _SUFFIXES.get(_suffixes(path)[0])


def describe(path: Path) -> File:
    """Container and compression of one file, by its first bytes and its name.

    Raises:
        DataError: It cannot be read, or is of no known kind.
    """
    with readable(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(
                f"{path}: is a pipe or device; expected a file, which can be read twice: save the "
                "rows in one first"
            )
        with path.open("rb") as file:
            head = file.read(8)
    if head.startswith(b"PAR1"):
        return File(path, "parquet", "")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return File(path, "arrow", "")
    codec: Codec = ""
    if head.startswith(b"\x1f\x8b"):
        codec = "gz"
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        codec = "zst"
    inner, outer = _suffixes(path)
    if not codec and outer:
        raise DataError(
            f"{path}: is named {outer} but starts with {head!r}; expected compressed data: "
            "it may be empty, corrupt or misnamed"
        )
    known = _SUFFIXES.get(inner)
    if known in {"parquet", "arrow"}:
        raise DataError(
            f"{path}: is named {inner} but starts with {head!r}; expected a {known} file: "
            "it may be truncated, corrupt or misnamed"
        )
    return File(path, _text_container(path, known, codec), codec)


def _text_container(path: Path, known: Container | None, codec: Codec) -> Container:
    """What text holds, by its first character: .json files often hold one object a line."""
    start = b""
    for piece in chunks(File(path, "text", codec)):
        start = (start + piece)[:CHUNK]
        if start.removeprefix(BOM).strip() or len(start) == CHUNK:
            break
    if start.startswith(_UTF16):
        raise DataError(
            f"{path}: starts with {start[:2]!r}, the mark of UTF-16; expected UTF-8: convert it, "
            "e.g. iconv -f utf-16 -t utf-8"
        )
    first = start.removeprefix(BOM).lstrip()[:1]
    if known == "text":
        return "text"
    if first in {b"[", b"{"}:
        return "json" if first == b"[" else "jsonl"
    if known is None:
        raise DataError(
            f"{path}: unknown kind of file, it starts with {start[:20]!r}; expected "
            f"{', '.join(_SUFFIXES)}, plain or .gz/.zst: rename it, or convert it to JSONL "
            "(CSV is not read)"
        )
    return known


# -- bytes -----------------------------------------------------------------------------------------


def chunks(file: File) -> Iterator[bytes]:
    """The decompressed bytes of a file, about a megabyte at a time."""
    with readable(file.path), file.path.open("rb") as raw:
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
