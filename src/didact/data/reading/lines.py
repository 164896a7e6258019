"""Lines, paragraphs and whole texts: the rows of files that are no arrays and no tables."""

from __future__ import annotations

from collections.abc import Iterator

from didact.data.reading.files import BOM, File, chunks

# number from 1 · bytes · why they are not a row, "" when they may be one
RawRow = tuple[int, bytes, str]


def text_chunks(file: File) -> Iterator[bytes]:
    """`chunks` without the byte order mark that some editors put before UTF-8."""
    pieces = chunks(file)
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
    """Lines of a file without terminators; blank ones are passed over, numbers count them.

    Of a line longer than `max_row_bytes` only the beginning is kept, so that a file without line
    ends cannot fill the memory.
    """
    number, size = 0, 0
    rest: list[bytes] = []
    for piece in text_chunks(file):
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
                fault = too_long(block[0] if block else line, max_row_bytes)
        if not fault or not block:  # of a block that is refused only the beginning is kept
            block.append(line)
    if block:
        yield start, b"\n".join(block), fault


def whole(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """The file as one row."""
    out = bytearray()
    for piece in text_chunks(file):
        if len(out) <= max_row_bytes:
            out += piece
    data = bytes(out)
    if len(data) > max_row_bytes:
        yield 1, data[: max_row_bytes + 1], too_long(data, max_row_bytes)
    elif data.strip():
        yield 1, data, ""
