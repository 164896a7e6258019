"""JSON arrays: their elements as bytes, read as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from didact.core.errors import DataError
from didact.core.paths import Place
from didact.data.reading.container import RawRow, TextContainer
from didact.data.reading.files import File
from didact.data.reading.json_faults import TRAILING_COMMA
from didact.data.reading.json_rows import json_row
from didact.data.reading.lines import text_chunks, too_long
from didact.data.reading.settings import DataSettings

# Nothing here goes back: atomic groups, since Python before 3.11.5 takes a possessive group (?:…)*+
# for matched where it broke off (gh-106052), and elements would be lost.
_TO_QUOTE: Final = rb'(?>[^"\\]*+(?:\\.[^"\\]*+)*)'
STRING: Final = rb'"%b"' % _TO_QUOTE
# everything up to the next mark, whole strings among it; inside an element commas are no marks
_TO_COMMA: Final = re.compile(rb'(?>[^"\[\]{},]*+(?:%b[^"\[\]{},]*+)*)' % STRING, re.DOTALL)
_TO_BRACKET: Final = re.compile(rb'(?>[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*)' % STRING, re.DOTALL)
_IN_STRING: Final = re.compile(_TO_QUOTE, re.DOTALL)
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_ARRAY: Final = ord("[")
_OPENING: Final = frozenset(b"[{")


def array_elements(file: File, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Elements of a JSON array as their own bytes, numbered from 1, read as a stream.

    Looks only for strings and brackets, so that an element that is not JSON is one bad row.

    Raises:
        DataError: The file does not begin with an array.
    """
    array = Array(file.path, max_row_bytes)
    for piece in text_chunks(file):
        yield from array.feed(piece)
    yield from array.finish()


@dataclass(slots=True)
class _Marks:
    """The array's own brackets and commas, over the pieces of a text.

    Attributes:
        depth: Open brackets.
        inside: A string has begun and not ended.
        escaped: The next byte belongs to a backslash.
    """

    depth: int = 0
    inside: bool = False
    escaped: bool = False

    def of(self, piece: bytes) -> Iterator[tuple[int, int]]:
        """Place and mark, for each of the array's own marks in the next piece."""
        at = 0
        while at < len(piece):
            if self.inside:
                at = self._leave(piece, at + self.escaped)
                continue
            skipped = (_TO_BRACKET if self.depth > 1 else _TO_COMMA).match(piece, at)
            at = skipped.end() if skipped is not None else at
            if at == len(piece):
                return
            mark = piece[at]
            at += 1
            if mark == _QUOTE:  # its end is in a later piece
                self.inside = True
                continue
            own = 1  # the depth at which a mark is the array's own
            if mark in _OPENING:
                self.depth += 1
            elif mark != _COMMA:
                self.depth -= 1
                own = 0
            if self.depth == own:
                yield at - 1, mark

    def _leave(self, piece: bytes, at: int) -> int:
        """The place behind the string's end, or behind the piece."""
        string = _IN_STRING.match(piece, at)
        at = string.end() if string is not None else at
        self.escaped = at < len(piece) and piece[at] == _BACKSLASH
        self.inside = at >= len(piece) or self.escaped
        return at + 1


@dataclass(slots=True)
class Array:
    """What is known of a JSON array while its pieces come in.

    Attributes:
        path: The file, or what it is called, for messages.
        most: Most bytes of an element; of a longer one the beginning is kept.
        marks: Where strings begin and end.
        number: Elements so far.
        row: What earlier pieces hold of the element.
        begun: The array's own bracket was met.
        ended: And its end.
        comma: The last mark was a comma.
    """

    path: Place | str
    most: int
    marks: _Marks = field(default_factory=_Marks)
    number: int = 0
    row: bytearray = field(default_factory=bytearray)
    begun: bool = False
    ended: bool = False
    comma: bool = False

    @classmethod
    def inside(cls, path: Place | str, most: int, number: int) -> Array:
        """An array that has begun inside something, its first element numbered behind `number`."""
        return cls(path, most, _Marks(depth=1), number=number, begun=True)

    def feed(self, piece: bytes) -> Iterator[RawRow]:
        """Elements that end in the next piece."""
        start = 0
        for place, mark in () if self.ended else self.marks.of(piece):
            if mark in _OPENING:
                if mark != _ARRAY or (self.row + piece[:place]).strip():
                    break
                self.begun, start = True, place + 1
            else:  # a comma between elements, or the end of the array
                data = bytes(self.row + piece[start:place]).strip()
                self.row.clear()
                start, self.ended = place + 1, mark != _COMMA
                if data:
                    yield self._element(data)
                elif self.comma or mark == _COMMA:
                    self.number += 1
                    yield self.number, data, self._no_element()
                self.comma = mark == _COMMA
                if self.ended:
                    break
        self._keep(piece[start:])

    def _keep(self, data: bytes) -> None:
        """Remember what belongs to an element that goes on."""
        if len(self.row) <= self.most:
            self.row += data
        if not self.begun and self.row.strip():
            raise DataError(
                f"{self.path}: begins with {bytes(self.row[:40])!r}; expected a JSON array of "
                "objects, or one object a line"
            )

    def _element(self, data: bytes) -> RawRow:
        self.number += 1
        fault = too_long(data, self.most) if len(data) > self.most else ""
        return self.number, data[: self.most + 1], fault

    def _no_element(self) -> str:
        """Why nothing stands where an element should."""
        if self.ended:
            return "'' is not JSON: " + TRAILING_COMMA.format(mark="]")
        return "'' is not JSON: a comma stands where an element should: remove it"

    def finish(self) -> Iterator[RawRow]:
        """What is left once there are no more pieces."""
        rest = bytes(self.row).strip()
        if self.ended and rest:
            fault = f"{rest[:40]!r} stands after the array's end; expected one array in a file"
            yield self.number + 1, rest[:1000], fault
        if not self.begun or self.ended:
            return
        if rest and self.marks.depth == 1 and not self.marks.inside:
            yield self._element(rest)
            rest = b""
        fault = (
            f"the file ends inside the array, after {rest[-40:]!r}; expected ']': the file is "
            "truncated: copy or download it again"
        )
        yield self.number + 1, rest, fault


def _rows(file: File, settings: DataSettings) -> Iterator[RawRow]:
    return array_elements(file, max_row_bytes=settings.max_row_bytes)


CONTAINER: Final = TextContainer(suffixes=(".json",), rows=_rows, parse=json_row)
