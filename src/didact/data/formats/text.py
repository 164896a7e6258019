"""text: raw text, all of it learned."""

from __future__ import annotations

from typing import Final

from didact.core.render import SHARED
from didact.data.rows.columns import Columns, Row, require_text
from didact.data.rows.format import Format
from didact.data.rows.turns import Turn


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The text as one turn."""
    return [(SHARED, "text", require_text(row, columns, "text"), 1.0)]


_READ_ROW: Final = """
def read_row(row):
    return {"text": column(row, "text")}
"""

FORMAT: Final = Format(kind="text", content=("text",), turns=turns, read_row=_READ_ROW)
