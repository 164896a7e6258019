"""JSON objects in which the rows are a list, as `{"version": 1, "data": [...]}`, one or several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from didact.core.errors import DataError
from didact.core.nesting import DEEPEST
from didact.core.paths import Place
from didact.data.reading.container import RawRow
from didact.data.reading.files import File
from didact.data.reading.json_arrays import STRING, Array
from didact.data.reading.lines import text_chunks, too_long
from didact.data.reading.over import OTHER_LISTS
from didact.data.rows.columns import shown

_WINDOW: Final = 2**14  # bytes of a list that are looked at together
# a string, whole or up to the end, a mark, or anything else between them; every byte is in one
_TOKEN: Final = re.compile(
    rb'("[^"\\]*(?:\\.[^"\\]*)*("|\\?\Z))|([\[\]{}:,])|[^"\[\]{}:,]+', re.DOTALL
)
# what stands before a key of an object, up to the first value that is an object or a list
_BEFORE: Final = rb'\s*\{(?:[^"\[\]{}]|%b)*?' % STRING
# the first object of a list, where it is a message or a tool, and so no row
_NO_ROW: Final = re.compile(
    _BEFORE + rb'"(?:role|from)"\s*:|\s*\{\s*(?:"type"\s*:\s*"function"|"function"\s*:)', re.DOTALL
)
# the first object of a list, where it has what rows have
_ROW: Final = re.compile(
    _BEFORE + rb'"(?:text|messages|conversations|prompt|instruction|chosen|question|query)"\s*:',
    re.DOTALL,
)
_OBJECT: Final = re.compile(rb"\s*\{")
_LISTED: Final = 5
_SHOWN: Final = 40  # bytes of a text that a message repeats


def wrapped_rows(file: File, key: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """`rows_in` a file, which is told what else there is."""
    others: Counter[str] = Counter()
    yield from rows_in(
        text_chunks(file), file.path, key, max_row_bytes=max_row_bytes, others=others
    )
    if others:
        file.tell(OTHER_LISTS, f"{file.name or file.path.name} {shown(next(iter(others)))}", others)


class NoListError(DataError):
    """A text has no list of rows where they should be, so that nothing of it was read."""


def rows_in(
    pieces: Iterable[bytes],
    path: Place | str,
    key: str,
    *,
    max_row_bytes: int,
    others: Counter[str],
) -> Iterator[RawRow]:
    """Elements of the list that stands at a key of each of some objects, read as a stream.

    Args:
        pieces: A text that is objects alone.
        path: The file it is of, or what it is called, for messages.
        key: The list's key; dots reach into objects inside.
        max_row_bytes: Most bytes of an element, and of a text beside the lists.
        others: Counts objects in other lists by their places.

    Raises:
        NoListError: The first object has no such list.
        DataError: Another has none, or one has two, or is nested too deep.
    """
    objects = _Objects(path, key, max_row_bytes, others)
    for piece in pieces:
        yield from objects.feed(piece)
    yield from objects.finish()


@dataclass(slots=True)
class _Objects:
    """What is known of the objects of a file while its pieces come in.

    Attributes:
        path: The file, or what it is called, for messages.
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

    path: Place | str
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
        piece, self.rest = self.rest + piece, b""
        if len(piece) < 2 * self.looked:
            self.rest = piece
            return
        self.looked, at = 0, 0
        while at < len(piece) and not self.over:
            if self.array is None:
                at, fault = self._walk(piece, at)
                if fault:
                    self.number += 1
                    yield self.number, piece[at : at + self.most].strip(), fault
            else:
                window = piece[at : at + _WINDOW]
                yield from self._rows(self.array.feed(window))
                at += len(window)
                if self.array.ended:
                    at -= len(self.array.row)
                    self.array = None

    def _rows(self, elements: Iterator[RawRow]) -> Iterator[RawRow]:
        """The elements of the list that is open, if they are rows; else they are counted."""
        here = ".".join(self.keys)
        for number, data, fault in elements:
            if here == self.key:
                self.number = number
                yield number, data, fault
            elif data.startswith(b"{"):
                self.others[here] += 1

    def _walk(self, piece: bytes, at: int) -> tuple[int, str]:
        """The place behind the next list's bracket; or of what is wrong, and what it is."""
        for token in _TOKEN.finditer(piece, at):
            string, closing, mark = token.groups()
            if not self.keys and mark != b"{" and token[0].strip():
                return token.start(), self._foreign(piece[token.start() :].strip())
            if string is not None and closing != b'"':
                return self._going_on(piece, token.start())
            if mark == b"[":
                self._open()
                return token.end(), ""
            self._take(string, mark)
        return len(piece), ""

    def _foreign(self, text: bytes) -> str:
        self.over = True
        said = f"{text[:_SHOWN]!r} stands where an object should begin"
        return f"{said}; expected objects with the rows in a list, and nothing else"

    def _going_on(self, piece: bytes, at: int) -> tuple[int, str]:
        """Wait for the rest of a text that begins at a place."""
        self.rest = piece[at:]
        self.looked = len(self.rest)
        self.over = self.looked > self.most
        return (at, too_long(self.rest, self.most)) if self.over else (len(piece), "")

    def _take(self, string: bytes | None, mark: bytes | None) -> None:
        if string is not None:
            self.text = string
        elif mark == b":":
            self.keys[-1] = self.text[1:-1].decode("utf-8", "replace")
        elif mark == b"{":
            self.keys.append("")
            if len(self.keys) > DEEPEST:
                raise DataError(
                    f"{self.path}: has objects nested more than {DEEPEST} deep; expected less"
                )
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
                raise self._lacking()
            self.place = ""

    def _lacking(self) -> DataError:
        where = f"; there are lists at {_named(list(self.others))}" if self.others else ""
        lacks = f"has {'an object with ' if self.found else ''}no list of rows at {self.key!r}"
        return (DataError if self.found else NoListError)(
            f"{self.path}: {lacks}{where}; expected one object, or several, with the list in "
            "it: name its key with --data columns.rows=KEY, or leave columns.rows out"
        )

    def finish(self) -> Iterator[RawRow]:
        """What is wrong with the end of the file, once there are no more pieces."""
        self.looked = 0
        yield from self._fed(b"")
        if self.over:
            return
        if not self.found:
            raise self._lacking()
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
    if not rest or not first.startswith(b"{") or not _goes_on(first):
        return
    if hint := wrapped_hint(head):
        raise DataError(f"{file.path}: {hint}")
    if next(_lists(head), None) is not None:
        raise DataError(
            f"{file.path}: begins with an object over several lines, which looks like a row; "
            "expected a row a line, or an array of rows: write it anew, e.g. with jq -c ."
        )


def _goes_on(line: bytes) -> bool:
    """Whether a line that begins with an object ends inside of it."""
    depth = 0
    for token in _TOKEN.finditer(line):
        mark = token[3]
        depth += (mark in (b"{", b"[")) - (mark in (b"}", b"]"))
        if not depth:
            return False
    return True


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
        f"columns.rows={shown(keys[0])[1:-1]} (in a config: data.columns.rows)"
    )


def _lists(head: bytes) -> Iterator[tuple[str, int]]:
    """Key and place behind the bracket of each list of objects that lies in objects alone."""
    path: list[str] = []  # keys of the objects that are open
    inside: list[bytes] = []  # brackets that are open
    lists, text = 0, b""  # how many of them are lists; the last text
    for token in _TOKEN.finditer(head):
        string, _, mark = token.groups()
        if string is not None:
            text = string
        elif mark == b":" and not lists:
            del path[len(inside) - 1 :]
            path.append(text[1:-1].decode("utf-8", "replace"))
        elif mark == b"[":
            if path and not lists and _OBJECT.match(head, token.end()):
                yield ".".join(path), token.end()
            inside.append(mark)
            lists += 1
        elif mark == b"{":
            inside.append(mark)
        elif mark in (b"]", b"}") and inside:
            lists -= inside.pop() == b"["


def _named(keys: list[str]) -> str:
    return " and ".join(shown(key) for key in keys[:_LISTED])
