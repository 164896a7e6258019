"""A row and its values, by the names that didact or the user has for its columns."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

Row = dict[str, Any]
Columns = Mapping[str, str]  # didact's name for a column: the user's, where they differ

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 3, 4, 4


WHO_HAS: Final = "\0"  # in a reason: where the rows before that have the column are counted


class RowError(ValueError):
    """A row is not what its format expects; the reader adds file and row number.

    Attributes:
        met: Where the reason has `WHO_HAS`: the rows of its part of a file that have the column
            and stand before it, and those that lack it, this one among them.
    """

    met: tuple[int, int] | None = None


class LacksColumnError(RowError):
    """A row lacks a column that its format needs, or has null there.

    Attributes:
        column: The column, by the user's name.
        state: "missing" or "null".
        row: The row.
    """

    def __init__(self, name: str, column: str, row: Row) -> None:
        """Say which column, by didact's name and the user's."""
        self.column, self.row = column, row
        self.state = "missing" if get(row, column, row) is row else "null"
        super().__init__(
            f"column {column!r} is {self.state}; the row has {keys(row)}: map another column with "
            f"--data columns.{name}=YOUR_COLUMN"
        )

    def among(self, who: str) -> RowError:
        """The same of a row that stands behind others that have the column: `who_has` says who."""
        return RowError(
            f"column {self.column!r} is {self.state}; the row has {keys(self.row)}: {who}; "
            "give it one, or leave such rows out"
        )


def who_has(having: int, lacking: int) -> str:
    """What is said of the rows before one that lacks a column.

    Args:
        having: How many have it, at least one.
        lacking: How many lack it, this row among them.
    """
    said = "the row before has one" if having == 1 else f"{having:,} rows before have one"
    return f"only this row lacks it, {said}" if lacking == 1 else said


def shown(value: Any) -> str:
    """A value for a message: short, however long or deep it is."""
    return _SHORT.repr(value)


def keys(row: Row) -> str:
    """A row's keys for a message."""
    return shown(sorted(row)) if len(row) > 20 else str([shown(k)[1:-1] for k in sorted(row)])


def get(row: Row, column: str, default: Any = None) -> Any:
    """A value by column name; dots reach into nested objects, unless a key has the dots itself."""
    if column in row:
        return row[column]
    if "." not in column:
        return default
    value: Any = row
    for key in column.split("."):
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def named(row: Row, columns: Columns, name: str) -> Any:
    """The value didact calls `name`; None when it is absent or null."""
    return get(row, columns.get(name, name))


def has(row: Row, columns: Columns, *names: str) -> bool:
    """Whether a row has a value under each of didact's names."""
    return all(named(row, columns, name) is not None for name in names)


def require(row: Row, columns: Columns, name: str) -> Any:
    """The value didact calls `name`.

    Raises:
        LacksColumnError: It is absent or null.
    """
    value = named(row, columns, name)
    if value is None:
        raise LacksColumnError(name, columns.get(name, name), row)
    return value


def as_text(value: Any, name: str) -> str:
    """A value that is text.

    Raises:
        RowError: It is none; the message calls it `name`.
    """
    if not isinstance(value, str):
        hint = ""
        if isinstance(value, dict) and "0" in value:
            hint = (
                ": it looks like a column by row number, as pandas writes it; write the frame with "
                "to_json(FILE, orient='records', lines=True)"
            )
        raise RowError(f"{name} is {shown(value)} ({type(value).__name__}); expected text{hint}")
    return value


def require_text(row: Row, columns: Columns, name: str) -> str:
    """The text didact calls `name`.

    Raises:
        RowError: It is absent, null or no text.
    """
    return as_text(require(row, columns, name), columns.get(name, name))


def as_json(value: Any) -> str:
    """A value as JSON text, whatever JSON it came from."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, half surrogate pairs, deep nesting
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError as error:
            raise RowError(f"{shown(value)} is nested too deeply; expected less") from error
