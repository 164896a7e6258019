"""Containers: paths → files → the bytes of each row. Knows compression and framing, not formats."""

from __future__ import annotations

import errno
import glob
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import pyarrow as pa
import zstandard
from isal import igzip, isal_zlib

from didact.core.errors import DataError

Container = Literal["jsonl", "json", "parquet", "arrow", "text"]
Codec = Literal["", "gz", "zst"]
CHUNK = 2**20
_SUFFIXES: dict[str, Container] = {
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
_CODECS: dict[str, Codec] = {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}
# descriptions that data sets carry beside their rows
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}


class Line(NamedTuple):
    """One row of a text container: its 1-based number and its bytes, terminator removed."""

    number: int
    data: bytes


def _ignore(_: int, /) -> None:
    """Nobody watches the reading."""


@dataclass(frozen=True, slots=True)
class File:
    """One input file and what it is; `watch` is told how many bytes of it have been read."""

    path: Path
    container: Container
    codec: Codec
    watch: Callable[[int], None] = field(default=_ignore, compare=False, repr=False)

    @property
    def stem(self) -> str:
        """The file's name without its suffixes: the default source."""
        name = self.path.name
        for suffix in reversed(self.path.suffixes):
            if suffix.lower() in _SUFFIXES or suffix.lower() in _CODECS:
                name = name[: -len(suffix)]
        return name or self.path.name


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Foreign errors of reading `path`, mapped once to a DataError with the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path, or quote a glob") from error
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read it; chmod +r, or run as its owner") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected a file") from error
    except (EOFError, zlib.error, isal_zlib.IsalError, igzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: corrupt or truncated gzip data ({error}); expected a whole .gz file: "
            "copy or download it again"
        ) from error
    except zstandard.ZstdError as error:
        raise DataError(
            f"{path}: corrupt or truncated zstd data ({error}); expected a whole .zst file: "
            "copy or download it again"
        ) from error
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: not a readable Parquet or Arrow file ({error}); expected a whole file: "
            "copy or download it again"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DataError(f"{path}: cannot be read ({error}); check the disk and the path") from error


def expand(paths: Iterable[str | Path]) -> list[File]:
    """Files behind paths, folders and globs, in the order given; inside one, sorted by name.

    Raises:
        DataError: Nothing is there, or a file is not of a known kind.
    """
    out: list[File] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and _is_data(p))
            if not inside:
                raise DataError(f"{path}: no data in this folder; expected {', '.join(_SUFFIXES)}")
            out += [describe(p) for p in inside]
        elif path.exists() or not glob.has_magic(str(given)):
            out.append(describe(path))
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            if not matches:
                raise DataError(f"{given}: no file matches this pattern")
            out += [describe(Path(m)) for m in matches if Path(m).is_file()]
    return out


def _is_data(path: Path) -> bool:
    suffixes = [s.lower() for s in path.suffixes]
    inner = [s for s in suffixes if s not in _CODECS]
    return path.name not in _NOT_DATA and bool(inner) and inner[-1] in _SUFFIXES


def describe(path: Path) -> File:
    """Container and compression of one file, by its first bytes and its name."""
    with readable(path), path.open("rb") as file:
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
    suffixes = [s.lower() for s in path.suffixes]
    if not codec and suffixes and suffixes[-1] in _CODECS:
        raise DataError(
            f"{path}: is named {suffixes[-1]} but starts with {head!r}; expected compressed data: "
            "it may be empty, corrupt or misnamed"
        )
    inner = [s for s in suffixes if s not in _CODECS]
    known = _SUFFIXES.get(inner[-1]) if inner else None
    if known in {"parquet", "arrow"}:
        raise DataError(
            f"{path}: is named {inner[-1]} but starts with {head!r}; expected a {known} file: "
            "it may be truncated, corrupt or misnamed"
        )
    if known is None or known in {"json", "jsonl"}:
        first = _first_byte(File(path, "text", codec))
        # .json files often hold one object a line, and .jsonl files an array
        if first in {b"[", b"{"}:
            known = "json" if first == b"[" else "jsonl"
        elif known is None:
            raise DataError(
                f"{path}: unknown kind of file; expected {', '.join(_SUFFIXES)}, plain or .gz/.zst"
            )
    return File(path, known, codec)


def _first_byte(file: File) -> bytes:
    for chunk in chunks(file):
        text = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text:
            return text[:1]
    return b""


def chunks(file: File) -> Iterator[bytes]:
    """The decompressed bytes of a file, about a megabyte at a time."""
    with readable(file.path), file.path.open("rb") as raw:
        if file.codec == "zst":
            pieces = _zstd_chunks(raw)
        else:
            stream = igzip.GzipFile(fileobj=raw) if file.codec == "gz" else raw
            pieces = iter(lambda: stream.read(CHUNK), b"")
        for piece in pieces:
            yield piece
            file.watch(raw.tell())


def _zstd_chunks(raw: BinaryIO) -> Iterator[bytes]:
    """Frame by frame: a stream reader would take a truncated file for a finished one."""
    decoder = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
    begun = False
    while data := raw.read(CHUNK // 8):
        while data:
            out = decoder.decompress(data)
            begun = True
            if out:
                yield out
            data = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
                begun = False
    if begun:
        raise zstandard.ZstdError("the file ends inside a frame")


def lines(file: File, *, max_row_bytes: int) -> Iterator[Line]:
    """Lines of a file without terminators; blank ones are passed over, numbers count them.

    A line longer than `max_row_bytes` is cut there and yielded once, so that a file without line
    ends can neither fill the memory nor pass for a row.
    """
    number, rest, oversized = 0, b"", False
    first = True
    for chunk in chunks(file):
        if first:
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False  # noqa: PLW2901
        pieces = chunk.split(b"\n")
        pieces[0] = rest + pieces[0] if rest else pieces[0]
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            if oversized:
                oversized = False
                continue
            line = piece.removesuffix(b"\r")
            if line.strip():
                yield Line(number, line)
        if len(rest) > max_row_bytes:
            if not oversized:
                yield Line(number + 1, rest[: max_row_bytes + 1])
            oversized, rest = True, b""
    if rest.strip() and not oversized:
        yield Line(number + 1, rest.removesuffix(b"\r"))


def array_elements(file: File, *, max_row_bytes: int) -> Iterator[Line]:
    """Elements of a JSON array as their own bytes, read as a stream; numbered from 1."""
    source = chunks(file)
    decoder = json.JSONDecoder()
    buffer, number, at, ended = "", 0, 0, False
    text = _decoded(source, file.path)

    def more() -> bool:
        nonlocal buffer, at, ended
        piece = next(text, None)
        ended = piece is None
        buffer, at = buffer[at:] + (piece or ""), 0
        return not ended

    def skip_space() -> str:
        nonlocal at
        while True:
            while at < len(buffer) and buffer[at] in " \t\r\n":
                at += 1
            if at < len(buffer) or not more():
                return buffer[at : at + 1]

    if skip_space() != "[":
        raise DataError(f"{file.path}: expected a JSON array, one object a row")
    at += 1
    while True:
        mark = skip_space()
        if mark == "]" and number == 0:
            break
        while True:
            try:
                _, end = decoder.raw_decode(buffer, at)
                break
            except json.JSONDecodeError as error:
                size = len(buffer) - at
                broken = error.pos < len(buffer) - 16 and "Unterminated" not in error.msg
                if broken or size > max_row_bytes or not more():
                    why = f"longer than {max_row_bytes} bytes" if size > max_row_bytes else error.msg
                    raise DataError(
                        f"{file.path}: row {number + 1}: {buffer[at : at + 60]!r}… is not a whole "
                        f"JSON value ({why}); expected an array of objects: repair or truncate the "
                        "file there; an array cannot be read past a broken row, JSONL can"
                    ) from error
        number += 1
        yield Line(number, buffer[at:end].encode())
        at = end
        mark = skip_space()
        if mark == ",":
            at += 1
        elif mark == "]":
            break
        else:
            raise DataError(
                f"{file.path}: row {number}: followed by {mark or 'the end of the file'!r}; "
                "expected ',' or ']': the file is truncated or not a JSON array"
            )
    at += 1
    if skip_space():
        raise DataError(f"{file.path}: more text after the array's end; expected one JSON array")


def _decoded(source: Iterator[bytes], path: Path) -> Iterator[str]:
    """UTF-8 text of byte chunks; characters may straddle chunks."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    place = 0
    try:
        for chunk in source:
            yield decoder.decode(chunk)
            place += len(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: invalid UTF-8 near byte {place + error.start}; expected UTF-8: convert it, "
            "e.g. iconv -f latin1 -t utf-8"
        ) from error


def paragraphs(file: File, *, max_row_bytes: int) -> Iterator[Line]:
    """Runs of lines between blank lines, numbered by their first line."""
    block: list[bytes] = []
    start = previous = size = 0
    for line in lines(file, max_row_bytes=max_row_bytes):
        if block and line.number != previous + 1:
            yield Line(start, b"\n".join(block))
            block, size = [], 0
        if not block:
            start = line.number
        if size <= max_row_bytes:  # one line too many is kept: the reader then refuses the row
            block.append(line.data)
            size += len(line.data) + 1
        previous = line.number
    if block:
        yield Line(start, b"\n".join(block))


def whole(file: File, *, max_row_bytes: int) -> Iterator[Line]:
    """The file as one row."""
    out = bytearray()
    for chunk in chunks(file):
        out += chunk
        if len(out) > max_row_bytes:
            break
    yield Line(1, bytes(out).removeprefix(b"\xef\xbb\xbf"))


def arrow_batches(file: File, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of a Parquet file or of an Arrow file or stream."""
    if file.container == "parquet":
        import pyarrow.parquet as pq

        with readable(file.path), pq.ParquetFile(file.path) as parquet:
            yield from parquet.iter_batches(batch_size=batch_rows)
        return
    with readable(file.path), pa.OSFile(str(file.path)) as source:
        try:
            reader = pa.ipc.open_file(source)
            found = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            found = iter(pa.ipc.open_stream(source))
        for batch in found:
            for at in range(0, batch.num_rows, batch_rows):
                yield batch.slice(at, batch_rows)
