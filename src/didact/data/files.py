"""Containers: paths → files → the bytes of each row. Knows compression and framing, not formats."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import pyarrow as pa
import zstandard
from isal import igzip, isal_zlib

from didact.core.errors import DataError

Container = Literal["jsonl", "json", "parquet", "arrow", "text"]
Codec = Literal["", "gz", "zst"]
# number from 1 · bytes · why they are not a row, "" when they may be one
RawRow = tuple[int, bytes, str]

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
_BOM: Final = b"\xef\xbb\xbf"
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


# isal declares its names in C, which the type checker cannot see
_IsalError: type[Exception] = cast("Any", isal_zlib.IsalError)
_open_gzip: Callable[..., Any] = cast("Any", igzip.GzipFile)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Foreign errors of reading `path`, mapped once to a DataError with the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path, or quote a glob") from error
    except PermissionError as error:
        raise DataError(
            f"{path}: no permission to read it; chmod +r, or run as its owner"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected a file") from error
    except (EOFError, zlib.error, _IsalError, igzip.BadGzipFile) as error:
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
    for path in sorted(folder.rglob("*")):
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
        if start.removeprefix(_BOM).strip() or len(start) == CHUNK:
            break
    if start.startswith(_UTF16):
        raise DataError(
            f"{path}: starts with {start[:2]!r}, the mark of UTF-16; expected UTF-8: convert it, "
            "e.g. iconv -f utf-16 -t utf-8"
        )
    first = start.removeprefix(_BOM).lstrip()[:1]
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
            stream: Any = _open_gzip(fileobj=raw) if file.codec == "gz" else raw
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


def _text_chunks(file: File) -> Iterator[bytes]:
    """`chunks` without the byte order mark that some editors put before UTF-8."""
    pieces = chunks(file)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(_BOM):
            break
    yield head.removeprefix(_BOM)
    yield from pieces


def _too_long(data: bytes, max_row_bytes: int) -> str:
    return (
        f"longer than {max_row_bytes} bytes, it begins {data[:40]!r}; expected one sample a row: "
        "a line end or quote may be missing, or raise data.max_row_bytes"
    )


# -- rows ------------------------------------------------------------------------------------------


def lines(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Lines of a file without terminators; blank ones are passed over, numbers count them.

    Of a line longer than `max_row_bytes` only the beginning is kept, so that a file without line
    ends cannot fill the memory.
    """
    number, size = 0, 0
    rest: list[bytes] = []
    for piece in _text_chunks(file):
        *whole, tail = piece.split(b"\n")
        if whole:
            rest.append(whole[0])
            whole[0] = b"".join(rest)
            rest, size = [], 0
        for line in whole:
            number += 1
            if len(line) > max_row_bytes:
                yield number, line[: max_row_bytes + 1], _too_long(line, max_row_bytes)
            elif (data := line.removesuffix(b"\r")) and not data.isspace():
                yield number, data, ""
        if size <= max_row_bytes:
            rest.append(tail)
            size += len(tail)
    data = b"".join(rest)
    if size > max_row_bytes:
        yield number + 1, data[: max_row_bytes + 1], _too_long(data, max_row_bytes)
    elif data.strip():
        yield number + 1, data.removesuffix(b"\r"), ""


_MARK: Final = re.compile(rb'["\[\]{},]')
_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_OPENING: Final = frozenset(b"[{")


def array_elements(  # noqa: C901, PLR0912, PLR0915 - one automaton, a branch per mark
    file: File, *, max_row_bytes: int
) -> Iterator[RawRow]:
    """Elements of a JSON array as their own bytes, numbered from 1, read as a stream.

    Looks only for strings and brackets, so that an element that is not JSON is one bad row.

    Raises:
        DataError: The file does not begin with an array.
    """
    number, depth = 0, 0
    in_string = escaped = begun = ended = False
    row = bytearray()  # what earlier pieces hold of the element

    def element(data: bytes) -> RawRow:
        fault = _too_long(data, max_row_bytes) if len(data) > max_row_bytes else ""
        return number, data[: max_row_bytes + 1], fault

    for piece in _text_chunks(file):
        at = start = 0
        while at < len(piece) and not ended:
            if in_string:
                at += escaped
                escaped = False
                inside = _IN_STRING.match(piece, at)
                at = inside.end() if inside is not None else at
                if at < len(piece):
                    in_string, escaped = piece[at] == _BACKSLASH, piece[at] == _BACKSLASH
                    at += 1
                continue
            found = _MARK.search(piece, at)
            if found is None:
                break
            mark, at = piece[found.start()], found.end()
            if mark == _QUOTE:
                in_string = True
            elif mark in _OPENING:
                depth += 1
                if depth == 1:
                    if mark != ord("[") or (row + piece[: at - 1]).strip():
                        break
                    begun, start = True, at
            elif depth == 1:  # a comma between elements, or the end of the array
                data = bytes(row + piece[start : at - 1]).strip()
                row.clear()
                start = at
                ended = mark != _COMMA
                if data or not ended or number:
                    number += 1
                    yield element(data)
            elif mark != _COMMA:
                depth -= 1
        if len(row) <= max_row_bytes:
            row += piece[start:]
        if not begun and row.strip():
            raise DataError(
                f"{file.path}: begins with {bytes(row[:40])!r}; expected a JSON array of objects, "
                "or one object a line"
            )
    rest = bytes(row).strip()
    number += 1
    if ended and rest:
        yield (
            number,
            rest[:1000],
            (f"{rest[:40]!r} stands after the array's end; expected one JSON array in a file"),
        )
    if not begun or ended:
        return
    if rest and depth == 1 and not in_string:
        yield element(rest)
        number, rest = number + 1, b""
    yield (
        number,
        rest,
        (
            f"the file ends inside the array, after {rest[-40:]!r}; expected ']': the file is "
            "truncated: copy or download it again"
        ),
    )


def paragraphs(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Runs of lines between blank lines, numbered by their first line."""
    block: list[bytes] = []
    start = previous = size = 0
    fault = ""
    for number, line, problem in lines(file, max_row_bytes=max_row_bytes):
        if block and number != previous + 1:
            yield start, b"\n".join(block), fault
            block, size, fault = [], 0, ""
        if not block:
            start = number
        previous = number
        fault = fault or problem
        if not fault:
            size += len(line) + 1
            if size > max_row_bytes + 1:
                fault = _too_long(block[0] if block else line, max_row_bytes)
        if not fault or not block:  # of a block that is refused only the beginning is kept
            block.append(line)
    if block:
        yield start, b"\n".join(block), fault


def whole(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """The file as one row."""
    out = bytearray()
    for piece in _text_chunks(file):
        if len(out) <= max_row_bytes:
            out += piece
    data = bytes(out)
    if len(data) > max_row_bytes:
        yield 1, data[: max_row_bytes + 1], _too_long(data, max_row_bytes)
    elif data.strip():
        yield 1, data, ""


# -- Arrow -----------------------------------------------------------------------------------------


@contextmanager
def _arrow_reader(file: File) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and record batches of an Arrow file or stream; memory-mapped."""
    with readable(file.path), pa.memory_map(str(file.path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)
        else:
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield reader.schema, batches


def arrow_schema(files: Iterable[File]) -> pa.Schema:
    """One schema for the rows of Parquet and Arrow files; what one lacks is null there.

    Raises:
        DataError: A file cannot be read, or a column has different types in two files.
    """
    shared: pa.Schema | None = None
    first: Path | None = None
    for file in files:
        if file.container == "parquet":
            import pyarrow.parquet as pq

            with readable(file.path), pq.ParquetFile(file.path) as parquet:
                schema = parquet.schema_arrow
        else:
            with _arrow_reader(file) as (schema, _):
                pass
        schema = pa.schema(
            [field.with_type(_wide(field.type)) for field in schema], schema.metadata
        )
        repeated = {name for name in schema.names if schema.names.count(name) > 1}
        if repeated:
            raise DataError(
                f"{file.path}: has the column {min(repeated)!r} twice; expected each name once: "
                "rename one"
            )
        if shared is None:
            shared, first = schema, file.path
        elif not schema.equals(shared):
            try:
                shared = pa.unify_schemas([shared, schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise DataError(
                    f"{file.path}: its columns do not fit those of {first} ({error}); expected "
                    "one type a column: convert one of the files, or read them apart"
                ) from error
    return shared


def _wide(type_: pa.DataType) -> pa.DataType:
    """A dictionary type that has room for the values of all files and batches."""
    if pa.types.is_dictionary(type_):
        return pa.dictionary(pa.int32(), type_.value_type, ordered=type_.ordered)
    return type_


def arrow_batches(
    file: File, schema: pa.Schema, *, batch_rows: int, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Slices of a Parquet or Arrow file with the columns of `schema`, of bounded size.

    Raises:
        DataError: The file is damaged, or a value does not fit the column's type.
    """
    if file.container == "parquet":
        import pyarrow.parquet as pq

        with (
            readable(file.path),
            pq.ParquetFile(file.path, buffer_size=CHUNK, pre_buffer=False) as parquet,
        ):
            groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
            row_bytes = sum(g.total_byte_size for g in groups) / max(parquet.metadata.num_rows, 1)
            fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
            done = 0
            for batch in parquet.iter_batches(batch_size=fitting):
                yield _fitted(batch, schema, file.path)
                done += len(batch)
                file.watch(file.path.stat().st_size * done // parquet.metadata.num_rows)
        return
    with _arrow_reader(file) as (_, batches):
        for batch in batches:
            row_bytes = batch.nbytes / max(batch.num_rows, 1)
            fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
            for at in range(0, batch.num_rows, fitting):
                yield _fitted(batch.slice(at, fitting), schema, file.path)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, path: Path) -> pa.RecordBatch:
    """The batch with exactly the columns of `schema`."""
    if batch.schema.equals(schema):
        return batch
    names = set(batch.schema.names)
    try:
        columns = [
            batch.column(f.name).cast(f.type) if f.name in names else pa.nulls(len(batch), f.type)
            for f in schema
        ]
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: a value does not fit the type that its column has over all files ({error}); "
            "expected one type a column: convert one of the files, or read them apart"
        ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
