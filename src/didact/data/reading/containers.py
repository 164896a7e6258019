"""The kinds of files that are read: one line each, in the order in which messages list them."""

from __future__ import annotations

from typing import Final

from didact.data.reading import arrow, delimited, json_arrays, json_lines, parquet, plain_text, tar
from didact.data.reading.container import Container, TableContainer, TextContainer

CONTAINERS: Final[dict[str, Container]] = {
    "jsonl": json_lines.CONTAINER,
    "json": json_arrays.CONTAINER,
    "parquet": parquet.CONTAINER,
    "arrow": arrow.CONTAINER,
    "csv": delimited.CONTAINER,
    "tar": tar.CONTAINER,
    "text": plain_text.CONTAINER,
}
BY_SUFFIX: Final = {s: name for name, found in CONTAINERS.items() for s in found.suffixes}
OBJECTS: Final = {"jsonl", "tar"}  # whose rows may stand in objects: data.columns.rows
TEXTS: Final = {name: c for name, c in CONTAINERS.items() if isinstance(c, TextContainer)}
TABLES: Final = {name: c for name, c in CONTAINERS.items() if isinstance(c, TableContainer)}
