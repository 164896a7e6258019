"""CSV and TSV files: a header with the names of the columns, then a row a record; all text."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import orjson

from didact.core.errors import DataError
from didact.data.reading.container import RawRow, TextContainer
from didact.data.reading.files import File
from didact.data.reading.lines import not_utf8, text_chunks, too_long
from didact.data.reading.over import BLANK_RECORDS
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import Row, RowError, shown

_DELIMITERS: Final = ",;\t|"
Cells = tuple[list[str], str, str]  # of a record its cells · its lines · what is wrong with it
_SAID: Final = "sep="  # how spreadsheets say the delimiter, in a line before the header


class _TooLongError(Exception):
    """A record has more bytes than a row may have."""


class _Pieces(io.RawIOBase):
    """Pieces of a file as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Lines:
    """Lines of a text with their ends; those of one record are bounded together.

    Attributes:
        number: Lines so far.
        record: Characters of the record so far.
        quotes: Quotes of the record so far.
        start: What it begins with.
        most: Most characters of one record.
        blank: Lines without a cell so far.
        first_blank: The number of the first of them.
    """

    def __init__(self, text: io.TextIOBase, most: int) -> None:
        self._text, self.most = text, most
        self.number = self.record = self.quotes = self.blank = self.first_blank = 0
        self.start = self._back = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._back = self._back or self._text.readline(self.most + 1), ""
        if not line:
            raise StopIteration
        self.number += 1
        self.start = self.start or line[:1000]
        self.record += len(line)
        self.quotes += line.count('"')
        if self.record > self.most:
            self._skip(line)
            raise _TooLongError
        return line

    def _skip(self, line: str) -> None:
        """Pass over the rest of a record: of its line, and of what its open quote reaches over."""
        while line and not (line[-1] in "\r\n" and self.quotes % 2 == 0):
            ended = line[-1] in "\r\n"
            line = self._text.readline(self.most + 1)
            self.number += ended and bool(line)
            self.quotes += line.count('"')

    def give_back(self, line: str) -> None:
        """Make the line that was the last the next one again."""
        self._back = line
        self.number -= bool(line)

    def begin(self) -> int:
        """Start a record; the number of its first line."""
        self.record, self.quotes, self.start = 0, 0, ""
        return self.number + 1

    def place(self, first: int) -> str:
        """Where the record that begins in line `first` lies."""
        return f"line {first}" if first >= self.number else f"lines {first} to {self.number}"


def _records(file: File, settings: DataSettings) -> Iterator[RawRow]:
    """Records as JSON objects of texts by column, numbered from 1 behind the header.

    Cells may hold delimiters, quotes (doubled) and line ends when they are quoted. What the file
    separates cells with is what its header has most of: comma, semicolon, tab or bar.

    Raises:
        DataError: The header cannot be read, or has a name twice.
    """
    most = settings.max_row_bytes
    if csv.field_size_limit() < most:  # the library's own bound, one for the process
        csv.field_size_limit(most)
    stream = io.BufferedReader(_Pieces(text_chunks(file)))
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    lines = _Lines(text, most)
    names, found = _header(file, lines)
    for number, (cells, place, unread) in enumerate(found, 1):
        fault = unread
        if not unread and len(cells) != len(names):
            fault = (
                f"has {len(cells)} cells ({place} of the file), the header has {len(names)}; "
                "expected as many: quote cells that hold the delimiter, a quote or a line end"
            )
        if fault:
            raw = lines.start if not cells else "\t".join(cells)
            yield number, raw.encode(errors="surrogateescape")[:most], fault
            continue
        row = dict(zip(names, cells, strict=True))
        try:
            yield number, orjson.dumps(row), ""
        except TypeError:  # half surrogates stand for bytes that are not UTF-8
            data = "\t".join(cells).encode(errors="surrogateescape")
            yield number, data, f"{_where_not_utf8(data)} ({place} of the file)"
    if lines.blank and len(names) == 1:
        first = f"{file.name or file.path.name} line {lines.first_blank}"
        file.tell(BLANK_RECORDS, first, Counter(blank=lines.blank))


def _header(file: File, lines: _Lines) -> tuple[list[str], Iterator[Cells]]:
    """Names of the columns, and the records behind them."""
    try:
        first = next((line for line in lines if line.strip()), "")
        said = first.strip().strip('"').lower()
        delimiter = ""
        if said.startswith(_SAID) and len(said) == len(_SAID) + 1:
            delimiter, first = said[-1], next(lines, "")
    except _TooLongError as error:
        start = lines.start.encode(errors="surrogateescape")
        raise DataError(f"{file.path}: its header is {too_long(start, len(start))}") from error
    if not delimiter:
        delimiter = "\t" if _is_tsv(file) else _delimiter(first)
    lines.give_back(first)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    found = _cells(reader, lines)
    names, _, fault = next(found, ([], "", ""))
    encoded = "".join(names).encode(errors="surrogateescape")
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if fault or b"\0" in encoded:
        fault = fault or "it has a NUL byte; expected text"
    elif repeated:
        fault = f"it has the column {shown(repeated[0])} twice; expected each name once: rename one"
    else:
        fault = _where_not_utf8(encoded)
    if fault:
        raise DataError(f"{file.path}: the header, its first line, cannot be used: {fault}")
    return names, found


def _cells(reader: Iterator[list[str]], lines: _Lines) -> Iterator[Cells]:
    """Records without blank lines; one that cannot be read has no cells, and why."""
    while True:
        first = lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            place = lines.place(first)
            said = f"is no CSV: {error} ({place} of the file)"
            remedy = 'expected quotes around a whole cell, and quotes inside it doubled ("")'
            yield [], place, f"{said}; {remedy}"
        except _TooLongError:
            start = lines.start.encode(errors="surrogateescape")
            place = lines.place(first)
            yield [], place, f"{too_long(start, lines.most)} ({place} of the file)"
        else:
            if cells is None:
                return
            if cells:
                yield cells, lines.place(first), ""
            else:
                lines.blank += 1
                lines.first_blank = lines.first_blank or first


def _is_tsv(file: File) -> bool:
    return bool({".tsv", ".tab"} & {s.lower() for s in file.path.suffixes[-2:]})


def _delimiter(header: str) -> str:
    """What a header separates its names with, outside of quotes; a comma where it has one name."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _where_not_utf8(data: bytes) -> str:
    """Why bytes are no text; "" when they are."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not_utf8(data, error)
    return ""


def cell_row(data: bytes) -> tuple[Row, bytes, bool]:
    """A record as a row: an empty cell is a value that is missing; what is kept has it empty.

    Raises:
        RowError: A cell has a NUL byte.
    """
    row: Row = orjson.loads(data)
    if b"\\u0000" in data and any("\0" in cell for cell in row.values()):
        raise RowError(
            f"{shown(row)} has a NUL byte; expected text, this looks like binary data or UTF-16: "
            "convert it, e.g. iconv -f utf-16 -t utf-8"
        )
    return {name: cell or None for name, cell in row.items()}, data, False


CONTAINER: Final = TextContainer(suffixes=(".csv", ".tsv", ".tab"), rows=_records, parse=cell_row)
