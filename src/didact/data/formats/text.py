"""text: raw text, all of it learned."""

from __future__ import annotations

from functools import partial
from typing import Final

from didact.core.render import SHARED
from didact.data.rows.columns import Columns, Row, require_text
from didact.data.rows.format import Format, Quick
from didact.data.rows.turns import Turn


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The text as one turn."""
    return [(SHARED, "text", require_text(row, columns, "text"), 1.0)]


def _quick(columns: Columns) -> Quick | None:
    name = columns.get("text", "text")
    return None if "." in name else Quick(frozenset(), partial(_plain_turns, name))


def _plain_turns(name: str, row: Row) -> list[Turn] | None:
    text = row.get(name)
    return [(SHARED, "text", text, 1.0)] if type(text) is str and text else None


_READ_ROW: Final = """
def read_row(row):
    return {"text": column(row, "text")}
"""

FORMAT: Final = Format(
    kind="text", content=("text",), turns=turns, read_row=_READ_ROW, quick=_quick
)
