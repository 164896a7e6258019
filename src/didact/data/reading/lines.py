"""Text files in pieces and by line, and why a row of text may be refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from didact.data.reading.container import RawRow
from didact.data.reading.files import BOM, File, chunks


def text_chunks(file: File) -> Iterator[bytes]:
    """`chunks` without the byte order mark that some editors put before UTF-8."""
    pieces = chunks(file)
    if not file.begins:
        yield from pieces
        return
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(BOM):
            break
    yield head.removeprefix(BOM)
    yield from pieces


def too_long(data: bytes, max_row_bytes: int) -> str:
    """Why a row of these bytes is refused."""
    return (
        f"longer than {max_row_bytes} bytes, it begins {data[:40]!r}; expected one sample a row: "
        "a line end or quote may be missing, or raise data.max_row_bytes"
    )


def lines(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """`lines_of` a file."""
    return lines_of(text_chunks(file), max_row_bytes=max_row_bytes)


def lines_of(pieces: Iterable[bytes], *, max_row_bytes: int) -> Iterator[RawRow]:
    """Lines of a text without terminators; blank ones are passed over, numbers count them.

    Of a line longer than `max_row_bytes` only the beginning is kept, so that a file without line
    ends cannot fill the memory.
    """
    number, size = 0, 0
    rest: list[bytes] = []
    for piece in pieces:
        *whole, tail = piece.split(b"\n")
        if whole:
            rest.append(whole[0])
            whole[0] = b"".join(rest)
            rest, size = [], 0
        for line in whole:
            number += 1
            data = line.removesuffix(b"\r")
            if len(line) > max_row_bytes:
                yield number, line[: max_row_bytes + 1], too_long(line, max_row_bytes)
            elif data and not data.isspace():
                yield number, data, ""
        if size <= max_row_bytes:
            rest.append(tail)
            size += len(tail)
    data = b"".join(rest)
    if size > max_row_bytes:
        yield number + 1, data[: max_row_bytes + 1], too_long(data, max_row_bytes)
    elif data.strip():
        yield number + 1, data.removesuffix(b"\r"), ""


def not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    """Why a row of these bytes is refused."""
    return (
        f"{data[max(error.start - 8, 0) : error.start + 8]!r} at byte {error.start} of the row is "
        "not UTF-8; expected UTF-8: convert the file, e.g. iconv -f latin1 -t utf-8"
    )
