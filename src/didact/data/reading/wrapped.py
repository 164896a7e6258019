"""JSON objects in which the rows are a list, as `{"version": 1, "data": [...]}`, one or several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from didact.core.errors import DataError
from didact.data.reading.container import RawRow
from didact.data.reading.files import File
from didact.data.reading.json_arrays import Array, behind_objects
from didact.data.reading.lines import text_chunks, too_long
from didact.data.reading.over import OTHER_LISTS

# a string, whole or up to the end, a mark, or anything else between them; every byte is in one
_TOKEN: Final = re.compile(
    rb'("[^"\\]*(?:\\.[^"\\]*)*("|\\?\Z))|([\[\]{}:,])|[^"\[\]{}:,]+', re.DOTALL
)
# the first object of a list, where it is a message or a tool, and so no row
_NO_ROW: Final = re.compile(
    rb'\s*\{\s*(?:[^\[\]{}]*"(?:role|from)"\s*:|"type"\s*:\s*"function"|"function"\s*:)'
)
# the first object of a list, where it has what rows have
_ROW: Final = re.compile(
    rb'\s*\{[^\[\]{}]*"(?:text|messages|conversations|prompt|instruction|chosen|question|query)"\s*:'
)
_LISTED: Final = 5
_SHOWN: Final = 40  # bytes of a text that a message repeats


def wrapped_rows(file: File, key: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """`rows_in` a file, which is told what else there is."""
    others: Counter[str] = Counter()
    yield from rows_in(
        text_chunks(file), file.path, key, max_row_bytes=max_row_bytes, others=others
    )
    if others:
        file.tell(OTHER_LISTS, f"{file.name or file.path.name} {next(iter(others))!r}", others)


def rows_in(
    pieces: Iterable[bytes], path: Path, key: str, *, max_row_bytes: int, others: Counter[str]
) -> Iterator[RawRow]:
    """Elements of the list that stands at a key of each of some objects, read as a stream.

    Args:
        pieces: A text that is objects alone.
        path: The file it is of, for messages.
        key: The list's key; dots reach into objects inside.
        max_row_bytes: Most bytes of an element, and of a text beside the lists.
        others: Counts objects in other lists by their places.

    Raises:
        DataError: An object has no such list, or two.
    """
    objects = _Objects(path, key, max_row_bytes, others)
    for piece in pieces:
        yield from objects.feed(piece)
    yield from objects.finish()


@dataclass(slots=True)
class _Objects:
    """What is known of the objects of a file while its pieces come in.

    Attributes:
        path: The file, for messages.
        key: Where the rows are.
        most: Most bytes of an element, and of a text beside the lists.
        others: Objects in other lists, by their places.
        keys: Of the objects that are open, the innermost last; "" before the first of one.
        text: The last text.
        rest: The beginning of a text that goes on.
        looked: Its length when it was looked at.
        array: The list that is open.
        number: Rows so far.
        place: Where the rows of the object were found; "" before that.
        found: The rows of some object were.
        seen: The end of what has been read, for messages.
        over: Something stands where an object should, and what follows is not looked at.
    """

    path: Path
    key: str
    most: int
    others: Counter[str]
    keys: list[str] = field(default_factory=list)
    text: bytes = b""
    rest: bytes = b""
    looked: int = 0
    array: Array | None = None
    number: int = 0
    place: str = ""
    found: bool = False
    seen: bytes = b""
    over: bool = False

    def feed(self, piece: bytes) -> Iterator[RawRow]:
        """Rows that end in the next piece."""
        self.seen = (self.seen + piece[-_SHOWN:])[-_SHOWN:]
        yield from self._fed(piece)

    def _fed(self, piece: bytes) -> Iterator[RawRow]:
        while piece and not self.over:
            if self.array is None:
                piece, fault = self._walk(piece)
                if fault:
                    self.number += 1
                    yield self.number, piece[: self.most], fault
            else:
                yield from self._rows(self.array.feed(piece))
                piece = b""
                if self.array.ended:
                    piece, self.array = bytes(self.array.row), None

    def _rows(self, elements: Iterator[RawRow]) -> Iterator[RawRow]:
        """The elements of the list that is open, if they are rows; else they are counted."""
        here = ".".join(self.keys)
        for number, data, fault in elements:
            if here == self.key:
                self.number = number
                yield number, data, fault
            elif data.startswith(b"{"):
                self.others[here] += 1

    def _walk(self, piece: bytes) -> tuple[bytes, str]:
        """What stands behind the next list's bracket; or where an object should, and why not."""
        piece, self.rest = self.rest + piece, b""
        if len(piece) < 2 * self.looked:
            self.rest = piece
            return b"", ""
        self.looked = 0
        for token in _TOKEN.finditer(piece):
            string, closing, mark = token.groups()
            if not self.keys and mark != b"{" and token[0].strip():
                return self._foreign(piece[token.start() :].strip())
            if string is not None and closing != b'"':
                return self._going_on(piece[token.start() :])
            if mark == b"[":
                self._open()
                return piece[token.end() :], ""
            self._take(string, mark)
        return b"", ""

    def _foreign(self, text: bytes) -> tuple[bytes, str]:
        self.over = True
        said = f"{text[:_SHOWN]!r} stands after the object's end"
        return text, f"{said}; expected objects with the rows in a list, and nothing else"

    def _going_on(self, text: bytes) -> tuple[bytes, str]:
        """Wait for the rest of a text."""
        self.rest, self.looked = text, len(text)
        self.over = self.looked > self.most
        return (text, too_long(text, self.most)) if self.over else (b"", "")

    def _take(self, string: bytes | None, mark: bytes | None) -> None:
        if string is not None:
            self.text = string
        elif mark == b":":
            self.keys[-1] = self.text[1:-1].decode("utf-8", "replace")
        elif mark == b"{":
            self.keys.append("")
        elif mark == b"}":
            self.keys.pop()
            self._end()

    def _open(self) -> None:
        """Begin the list that stands at the keys."""
        here = ".".join(self.keys)
        wanted = here == self.key
        if wanted and self.place:
            raise DataError(
                f"{self.path}: has the key {here!r} twice in one object; expected it once: rename "
                "one, or write the rows into one list"
            )
        self.place = self.place or (here if wanted else "")
        self.found = self.found or wanted
        self.array = Array.inside(self.path, self.most, self.number if wanted else 0)

    def _end(self) -> None:
        """An object has ended: it had the rows, or the file is refused."""
        if not self.keys:
            if not self.place:
                raise DataError(f"{self.path}: {self._lacking()}")
            self.place = ""

    def _lacking(self) -> str:
        where = f"; there are lists at {_named(list(self.others))}" if self.others else ""
        return (
            f"has {'an object with ' if self.found else ''}no list of rows at {self.key!r}{where}"
            "; expected one object, or several, with the list in it: name its key with --data "
            "columns.rows=KEY, or leave columns.rows out"
        )

    def finish(self) -> Iterator[RawRow]:
        """What is wrong with the end of the file, once there are no more pieces."""
        rest, self.rest, self.looked = self.rest, b"", 0
        yield from self._fed(rest)
        if self.over:
            return
        if not self.found:
            raise DataError(f"{self.path}: {self._lacking()}")
        if self.array is not None:
            yield from self._rows(self.array.finish())
            if ".".join(self.keys) == self.key:
                return  # it said so itself
        if self.array is not None or self.keys or self.rest:
            fault = (
                f"the file ends inside the object, after {self.seen!r}; expected '}}': the file is "
                "truncated: copy or download it again"
            )
            yield self.number + 1, self.seen, fault


def refuse_wrapped(file: File) -> None:
    """Raise DataError when a file is objects over several lines, rows or with rows in a list."""
    head = next(text_chunks(file), b"")
    first, _, rest = head.lstrip().partition(b"\n")
    goes_on = bool(rest) and behind_objects(first, 1)[0] > 1
    if not goes_on or not first.startswith(b"{"):
        return
    if hint := wrapped_hint(head):
        raise DataError(f"{file.path}: {hint}")
    if next(_lists(head), None) is not None:
        raise DataError(
            f"{file.path}: begins with an object over several lines, which looks like a row; "
            "expected a row a line, or an array of rows: write it anew, e.g. with jq -c ."
        )


def wrapped_hint(head: bytes) -> str:
    """What to do about an object that may hold the rows; "" where there are no lists in it.

    Args:
        head: The beginning of a file.
    """
    lists = [(key, at) for key, at in _lists(head) if not _NO_ROW.match(head, at)]
    lists.sort(key=lambda found: _ROW.match(head, found[1]) is None)
    keys = list(dict.fromkeys(key for key, _ in lists))
    if not keys or not head.lstrip().startswith(b"{"):
        return ""
    return (
        f"is one object, and its rows are in {_named(keys)}: read them with --data "
        f"columns.rows={keys[0]} (in a config: data.columns.rows)"
    )


def _lists(head: bytes) -> Iterator[tuple[str, int]]:
    """Key and place behind the bracket of each list of objects that lies in objects alone."""
    path: list[str] = []  # keys of the objects that are open
    inside: list[bytes] = []  # brackets that are open
    text = b""
    for token in _TOKEN.finditer(head):
        string, _, mark = token.groups()
        if string is not None:
            text = string
        elif mark == b":" and b"[" not in inside:
            del path[len(inside) - 1 :]
            path.append(text[1:-1].decode("utf-8", "replace"))
        elif mark == b"[":
            if path and b"[" not in inside and head[token.end() :][:1000].lstrip()[:1] == b"{":
                yield ".".join(path), token.end()
            inside.append(mark)
        elif mark == b"{":
            inside.append(mark)
        elif mark in (b"]", b"}") and inside:
            inside.pop()


def _named(keys: list[str]) -> str:
    return " and ".join(repr(key) for key in keys[:_LISTED])
