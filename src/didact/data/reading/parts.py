"""Parts of a file of lines: the rows that begin in a range of its bytes, read without the others.

The boundaries come from sizes and settings alone, so that they are the same whoever reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from didact.core.paths import Place

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Before:
    """What stands before a row in its file, which messages count.

    Attributes:
        rows: Rows, blank lines among them.
        having: Samples: rows that have what their format needs.
        lacking: Rows that lack a column of it.
    """

    rows: int = 0
    having: int = 0
    lacking: int = 0

    def __add__(self, other: Before) -> Before:
        return Before(
            self.rows + other.rows, self.having + other.having, self.lacking + other.lacking
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file: the lines that begin in a range of its bytes.

    Attributes:
        start: Where the range begins, in bytes of the text; 0 for the first part.
        stop: Where it ends; None: with the file.
        format: The format of the file's rows, which its first row says; "" for the first part.
        before: What stands before it; None while nobody knows.
        lines: A file with exactly these lines, where the file itself is compressed.
    """

    start: int
    stop: int | None
    format: str = ""
    before: Before | None = None
    lines: Place | None = None


def lines_between(
    raw: BinaryIO, start: int, stop: int | None, watch: Callable[[int], None]
) -> Iterator[bytes]:
    """The lines that begin in a range of a file's bytes, about a megabyte at a time.

    Args:
        raw: The file.
        start: Where the range begins.
        stop: Where it ends; None: with the file.
        watch: Told how many bytes of the range have been read.
    """
    at = max(start - 1, 0)  # a line begins behind the end of another
    begun = start == 0
    raw.seek(at)
    while piece := raw.read(_CHUNK):
        here, at = at, at + len(piece)
        if not begun:
            end = piece.find(b"\n")
            if end < 0 or (stop is not None and here + end + 1 >= stop):
                if end >= 0 or (stop is not None and at >= stop):
                    return  # a line that began before goes on to the end of the range
                continue
            piece, here, begun = piece[end + 1 :], here + end + 1, True
        if stop is not None and at >= stop:
            end = piece.find(b"\n", max(stop - 1 - here, 0))
            if end >= 0:
                yield piece[: end + 1]
                watch(stop - start)
                return
        yield piece
        watch(at - start)
