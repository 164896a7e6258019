"""JSON lines: an object a line, or one object in which the rows are a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from didact.data.reading.container import RawRow, TextContainer
from didact.data.reading.files import CHUNK, File
from didact.data.reading.json_rows import json_row
from didact.data.reading.lines import lines
from didact.data.reading.settings import DataSettings
from didact.data.reading.wrapped import refuse_wrapped, wrapped_hint, wrapped_rows


def _rows(file: File, settings: DataSettings) -> Iterator[RawRow]:
    key = settings.columns.get("rows", "-")
    if key != "-":
        return wrapped_rows(file, key, max_row_bytes=settings.max_row_bytes)
    if file.begins:
        refuse_wrapped(replace(file, part=None))
    return _lines(file, settings)


def _by_line(settings: DataSettings) -> bool:
    return settings.columns.get("rows", "-") == "-"


def _lines(file: File, settings: DataSettings) -> Iterator[RawRow]:
    """Lines; where the first is too long, it may be all of the rows in one object."""
    found = lines(file, max_row_bytes=settings.max_row_bytes)
    for number, data, fault in found:
        first = fault and number == 1 and file.begins
        hint = wrapped_hint(data[:CHUNK]) if first else ""
        yield number, data, f"{fault}; or the file {hint}" if hint else fault
        break
    yield from found


CONTAINER: Final = TextContainer(
    suffixes=(".jsonl", ".ndjson"), rows=_rows, parse=json_row, by_line=_by_line
)
