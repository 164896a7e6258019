"""Nulls that a table fills in: what one tool call lacks is null there where another has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from didact.data.rows.columns import Columns, Row

_NAMES: Final = frozenset({"tools", "functions", "tool_calls", "function_call"})


def filled_columns(schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns of a table in which tools or tool calls are objects, at any depth."""
    names = _NAMES | {columns.get("tools", "tools").rpartition(".")[2]}
    return [field.name for field in schema if any(f.name in names for f in _objects(field))]


def _objects(field: pa.Field) -> Iterator[pa.Field]:
    """A field and those inside it, where they are objects or lists."""
    inner = [field.type.field(i) for i in range(field.type.num_fields)]
    if inner:
        yield field
    for each in inner:
        yield from _objects(each)


def without_filled(row: Row, filled: list[str], columns: Columns) -> Row:
    """The row with no nulls in its tools and tool calls.

    Args:
        row: Values of a table's row, which are not changed.
        filled: What `filled_columns` gave.
        columns: The user's columns.
    """
    names = _NAMES | {columns.get("tools", "tools").rpartition(".")[2]}
    return row | {name: _walked(row[name], name, names) for name in filled}


def _walked(value: Any, name: str, names: frozenset[str]) -> Any:
    if name in names:
        return _stripped(value)
    if isinstance(value, list):
        return [_walked(item, "", names) for item in value]
    if isinstance(value, dict):
        return {key: _walked(item, key, names) for key, item in value.items()}
    return value


def _stripped(value: Any) -> Any:
    """Objects without the keys that have null."""
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if isinstance(value, dict):
        return {key: _stripped(item) for key, item in value.items() if item is not None}
    return value
