"""Which images, sounds, videos and files a row holds: rows of other ones are no copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from didact.data.rows.columns import Columns, Row, get
from didact.data.rows.json_text import parsed, there
from didact.data.rows.marks import FILES, MEDIA, MEDIA_NAMES, Marks

KINDS: Final = frozenset((*MEDIA.values(), "files"))  # of what a row shows
_TYPES: Final = frozenset((*MEDIA, *FILES))
_DEPTH: Final = 8  # a part of what a tool gave, in a message, in a list


def with_media(row: Row, columns: Columns) -> Row:
    """A row with its images and the like under the names that are known, where they have others."""
    mapped = {name: get(row, columns[name]) for name in MEDIA_NAMES if name in columns}
    theirs = [columns[name] for name in mapped]
    return {name: row[name] for name in row if name not in theirs} | mapped if mapped else row


def media_hash(row: Row, marks: Marks) -> int:
    """64 bits that are equal for equal media in the same order, whatever holds them; never 0."""
    return value_hash([*_beside(row), *_inside(row, marks)])


def value_hash(value: Any) -> int:
    """64 bits that are equal for equal values of JSON or of a table; never 0.

    **Cost:** that of hashing what it holds, about 1 GB/s for bytes.
    """
    told = hashlib.blake2b(digest_size=8)
    for piece in _pieces(value):
        told.update(piece)
    return int.from_bytes(told.digest(), "little") or 1


def _beside(row: Row) -> Iterator[Any]:
    """Those in columns of their own, which the reader of tables gives as their hash."""
    for name, kind in MEDIA.items():
        value = row.get(name)
        if there(value):
            yield kind, value if isinstance(value, int) else value_hash(parsed(value, list))


def _inside(row: Row, marks: Marks) -> Iterator[Any]:
    """Those among the parts of messages."""
    for name in dict.fromkeys((*marks.chats, *marks.sides)):
        yield from _found(parsed(parsed(get(row, name), list), dict), _DEPTH)


def _found(value: Any, depth: int) -> Iterator[Any]:
    if not depth or not isinstance(value, list | dict):
        return
    if isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and kind in _TYPES:
            yield value
            return
        yield from _beside(value)
    for inside in value if isinstance(value, list) else value.values():
        yield from _found(inside, depth - 1)


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes of a value, each with its kind and length before it."""
    if isinstance(value, bytes):
        yield b"b%d:" % len(value)
        yield value
    elif isinstance(value, dict):
        yield b"d%d:" % len(value)
        for key in sorted(value, key=str):
            yield from _pieces(str(key))
            yield from _pieces(value[key])
    elif isinstance(value, Iterable) and not isinstance(value, str):
        items = list(value)
        yield b"l%d:" % len(items)
        for item in items:
            yield from _pieces(item)
    else:
        text = str(value).encode("utf-8", "surrogatepass")
        yield b"s%d:" % len(text)
        yield text
