"""Plain text files: a sample is a line, a paragraph or the whole file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import orjson

from didact.core.errors import DataError
from didact.data.reading.container import RawRow, TextContainer
from didact.data.reading.files import File
from didact.data.reading.lines import lines, not_utf8, text_chunks, too_long
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import Row, RowError


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


def _rows(file: File, settings: DataSettings) -> Iterator[RawRow]:
    if settings.lines != "file" and file.begins:
        _refuse_returns(replace(file, part=None))
    rows = {"line": lines, "paragraph": paragraphs, "file": whole}[settings.lines]
    return rows(file, max_row_bytes=settings.max_row_bytes)


def _refuse_returns(file: File) -> None:
    """Raise DataError when lines end in carriage returns alone: all of them would be one row."""
    head = next(text_chunks(file), b"")
    if b"\n" not in head and head.rstrip(b"\r").count(b"\r") > 1:
        raise DataError(
            f"{file.path}: its lines end in carriage returns (\\r); expected line feeds: convert "
            "it, e.g. tr '\\r' '\\n' < FILE > NEW.txt, or read it as one sample with lines=file"
        )


def text_row(data: bytes) -> tuple[Row, bytes, bool]:
    """A piece of a plain text file as a row."""
    if b"\0" in data:
        raise RowError(
            f"{data[:40]!r} has a NUL byte; expected text, this looks like binary data or UTF-16: "
            "convert it, e.g. iconv -f utf-16 -t utf-8"
        )
    try:
        row = {"text": data.decode()}
    except UnicodeDecodeError as error:
        raise RowError(not_utf8(data, error)) from error
    return row, orjson.dumps(row), False


def _by_line(settings: DataSettings) -> bool:
    return settings.lines == "line"


CONTAINER: Final = TextContainer(
    suffixes=(".txt", ".text", ".md"), rows=_rows, parse=text_row, format="text", by_line=_by_line
)
