"""One JSON object in which the rows are a list, as `{"version": 1, "data": [...]}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

from didact.core.errors import DataError
from didact.data.reading.container import RawRow
from didact.data.reading.files import File
from didact.data.reading.json_arrays import Array, behind_objects
from didact.data.reading.lines import text_chunks

# a string, whole or up to the end, a mark, or anything else between them; every byte is in one
_TOKEN: Final = re.compile(
    rb'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))|([\[\]{}:,])|[^"\[\]{}:,]+', re.DOTALL
)
_LISTED: Final = 5


def wrapped_rows(file: File, key: str, *, max_row_bytes: int) -> Iterator[RawRow]:
    """Elements of the list that stands at a key of the file's one object, read as a stream.

    Args:
        file: The file.
        key: The list's key; dots reach into objects inside.
        max_row_bytes: Most bytes of an element, and of what stands before the list.

    Raises:
        DataError: There is no such list.
    """
    pieces = text_chunks(file)
    head, looked = b"", 0
    for piece in chain(pieces, [b""]):
        head += piece
        if piece and len(head) < 2 * looked and len(head) <= max_row_bytes:
            continue  # a look begins at the beginning: few of them
        looked = len(head)
        at = next((place for found, place in _lists(head) if found == key), None)
        if at is not None:
            array = Array.inside(file.path, max_row_bytes, 1 + key.count("."))
            yield from array.feed(head[at:])
            for later in pieces:
                yield from array.feed(later)
            yield from array.finish()
            return
        if len(head) > max_row_bytes:
            break
    raise DataError(
        f"{file.path}: has no list of rows at {key!r}{_where(head)}; expected one object with the "
        "list in it: name its key with --data columns.rows=KEY, or leave columns.rows out"
    )


def refuse_wrapped(file: File) -> None:
    """Raise DataError when a file is one object over several lines with the rows in a list."""
    head = next(text_chunks(file), b"")
    first, _, rest = head.lstrip().partition(b"\n")
    goes_on = bool(rest) and behind_objects(first, 1)[0] > 1
    if goes_on and (hint := wrapped_hint(head)):
        raise DataError(f"{file.path}: {hint}")


def wrapped_hint(head: bytes) -> str:
    """What to do about an object that may hold the rows; "" where there are no lists in it.

    Args:
        head: The beginning of a file.
    """
    lists = [key for key, place in _lists(head) if head[place : place + 1000].lstrip()[:1] != b"]"]
    keys = list(dict.fromkeys(lists))
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
        string, mark = token.group(1, 2)
        if string is not None:
            text = string
        elif mark == b":" and b"[" not in inside:
            del path[len(inside) - 1 :]
            path.append(text[1:-1].decode("utf-8", "replace"))
        elif mark == b"[":
            behind = head[token.end() : token.end() + 1000].lstrip()
            if path and b"[" not in inside and behind[:1] in (b"{", b"]"):
                yield ".".join(path), token.end()
            inside.append(mark)
        elif mark == b"{":
            inside.append(mark)
        elif mark in (b"]", b"}") and inside:
            inside.pop()


def _named(keys: list[str]) -> str:
    return " and ".join(repr(key) for key in keys[:_LISTED])


def _where(head: bytes) -> str:
    keys = [key for key, _ in _lists(head)]
    return f"; there are lists at {_named(keys)}" if keys else ""
