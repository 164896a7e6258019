"""Tar files whose members are JSON: an object, an array of them, or lines of them each."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Final

import orjson

from didact.core.errors import DataError
from didact.data.reading.container import RawRow, TextContainer
from didact.data.reading.files import BOM, CHUNK, File, readable
from didact.data.reading.json_arrays import Array
from didact.data.reading.json_rows import json_row
from didact.data.reading.lines import lines_of, text_chunks, too_long
from didact.data.reading.over import OTHER_LISTS, TAR_MEMBERS, TAR_NO_LIST, TAR_SPLITS, by_count
from didact.data.reading.settings import DataSettings
from didact.data.reading.splits import Splits
from didact.data.reading.wrapped import NoListError, rows_in
from didact.data.rows.columns import shown

_LINES: Final = {".jsonl", ".ndjson"}
_DESCRIPTION: Final = 2**20  # most bytes that stand before a member: its names and attributes


class _Bounded:
    """The bytes of a tar file, of which at most so many are given as are allowed."""

    def __init__(self, file: File) -> None:
        self._pieces, self._rest, self._path = text_chunks(file), b"", file.path
        self.allowed = _DESCRIPTION

    def read(self, size: int = CHUNK) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        out, self._rest = self._rest[:size], self._rest[size:]
        self.allowed -= len(out)
        if self.allowed < 0:
            raise DataError(
                f"{self._path}: has a member whose name and attributes take more than "
                f"{_DESCRIPTION:,} bytes; expected a tar file of JSON: it may be corrupt"
            )
        return out


def _rows(file: File, settings: DataSettings) -> Iterator[RawRow]:
    """Rows of the members that are JSON, in their order, numbered from 1 over all of them.

    Nothing is written to disk: a member's path is only its name. Members that are no JSON are
    passed over and counted, and so are those without a list where the rows should be.

    Raises:
        DataError: The file is damaged, or has no JSON.
    """
    number, read = 0, 0
    others, lists, without = Counter[str](), Counter[str](), Counter[str]()
    first, lacking, splits = "", "", Splits()
    refused: NoListError | None = None
    source = _Bounded(file)
    with readable(file.path):
        try:
            with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK // 8) as tar:  # type: ignore[call-overload]
                for member in tar:
                    tar.members = []  # it would keep them all
                    source.allowed = member.size + _DESCRIPTION
                    ending = PurePosixPath(member.name).suffix.lower()
                    plain = member.isfile() and not member.issparse()
                    known = plain and ending in {".json", *_LINES}
                    content = tar.extractfile(member) if known else None
                    if content is None:
                        if not member.isdir():
                            kind = ending or "no ending"
                            others[kind if plain else "no plain file"] += 1
                            first = first or member.name
                        continue
                    read += 1
                    splits.add(member.name)
                    where = f"{file.path}: {shown(member.name)}"
                    try:
                        for data, fault in _member(content, ending, where, settings, lists):
                            number += 1
                            said = f"in {shown(member.name)}: {fault}" if fault else ""
                            yield number, data, said
                    except NoListError as error:
                        without[ending] += 1
                        lacking = lacking or member.name
                        refused = refused or error
        except tarfile.TarError as error:
            raise DataError(
                f"{file.path}: corrupt or truncated tar file ({error}); expected a whole one: copy "
                "or download it again"
            ) from error
    if not read:
        raise DataError(
            f"{file.path}: holds no member that is .json or .jsonl"
            + (f", but {by_count(others)}" if others else "")
            + "; expected JSON in a tar file: unpack it to read something else"
        )
    if refused is not None and without.total() == read:
        raise refused
    _tell(file, TAR_MEMBERS, first, others)
    _tell(file, TAR_NO_LIST, lacking, without)
    _tell(file, OTHER_LISTS, next(iter(lists), ""), lists)
    _tell(file, TAR_SPLITS, splits.first, splits.held)


def _tell(file: File, kind: str, first: str, counts: Counter[str]) -> None:
    if counts:
        file.tell(kind, f"{file.name} {shown(first)}", counts)


def _member(
    content: IO[bytes], ending: str, where: str, settings: DataSettings, lists: Counter[str]
) -> Iterator[tuple[bytes, str]]:
    """The rows of one member, and why one is none; `lists` counts what lies beside them."""
    most, key = settings.max_row_bytes, settings.columns.get("rows", "-")
    head = content.read(CHUNK).removeprefix(BOM)
    pieces = chain([head], iter(lambda: content.read(CHUNK), b""))
    if key != "-":
        for _, data, fault in rows_in(pieces, where, key, max_row_bytes=most, others=lists):
            yield data, fault
    elif ending in _LINES or _has_lines(head):
        for _, data, fault in lines_of(pieces, max_row_bytes=most):
            yield data, fault
    elif head.lstrip().startswith(b"["):
        array = Array(where, most)
        for piece in pieces:
            for _, data, fault in array.feed(piece):
                yield data, fault
        for _, data, fault in array.finish():
            yield data, fault
    else:
        data = head + content.read(max(most + 1 - len(head), 0))
        if data.strip():
            yield data.strip()[: most + 1], too_long(data, most) if len(data) > most else ""


def _has_lines(head: bytes) -> bool:
    """Whether the first line is an object of its own, with more behind it."""
    first, _, rest = head.lstrip().partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        return False


CONTAINER: Final = TextContainer(suffixes=(".tar", ".tgz"), rows=_rows, parse=json_row)
