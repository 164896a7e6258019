"""What a JSON object is, wherever it stands, and what is wrong with a text that is none."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from didact.core.nesting import DEEPEST, too_deep
from didact.data.reading.json_faults import remedy
from didact.data.reading.lines import not_utf8
from didact.data.rows.columns import Row, RowError, shown

_KINDS: Final[dict[type, str]] = {
    list: "an array",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def json_row(data: bytes) -> tuple[Row, bytes, bool]:
    """An object, its record, and whether it has what strict JSON has not.

    Raises:
        RowError: It is not JSON, or no object.
    """
    odd = False
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        row, odd = _lenient(data, error), True
    if type(row) is not dict:
        raise RowError(f"{shown(row)} is {_KINDS[type(row)]}; expected a JSON object")
    if too_deep(data, row):
        raise RowError(f"{shown(row)} is nested more than {DEEPEST} deep; expected less")
    return row, data, odd


def _lenient(data: bytes, first: orjson.JSONDecodeError) -> Any:
    """What Python writes though it is no strict JSON: NaN and Infinity, half surrogate pairs."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RowError(not_utf8(data, error)) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(
            f"{shown(text)} is not JSON ({first}); expected one whole object{remedy(text, error)}"
        ) from error
