"""messages: a list of messages with roles and contents, as chat models take them."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from didact.core.render import SHARED
from didact.data.rows.columns import Columns, Row, get, require
from didact.data.rows.format import Format, Quick
from didact.data.rows.json_text import parsed
from didact.data.rows.reasoning import ROW_KEYS
from didact.data.rows.turns import TOOLS, PlainTurns, Turn, chat, earlier, opening

_BESIDE: Final = frozenset(("system", "history", *TOOLS))
_PLAIN_ROLES: Final = {"system": 0.0, "user": 0.0, "assistant": 1.0, "tool": 0.0}


def find_messages(row: Row, columns: Columns) -> tuple[str, Any]:
    """Name and value of the column of messages, as a list where it is JSON text; or None."""
    name = columns.get("messages", "messages")
    value = get(row, name)
    if value is None and row.get("conversations") is not None:
        name, value = "conversations", row["conversations"]
    return name, parsed(value, list)


def from_and_value(row: Row, columns: Columns) -> bool:
    """Whether the messages of a row are of `from` and `value`, as in ShareGPT."""
    messages = find_messages(row, columns)[1]
    first = messages[0] if isinstance(messages, list) and messages else {}
    return isinstance(first, dict) and "from" in first and "value" in first


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The turns of a row of messages."""
    plain = quick(columns)
    if plain is not None and plain.beside.isdisjoint(row):
        found = plain.turns(row)
        if found is not None:
            return found
    name, value = find_messages(row, columns)
    if value is None:
        value = require(row, columns, "messages")
    return opening(row, columns) + earlier(row, columns) + chat(value, columns, name)


def quick(columns: Columns) -> Quick | None:
    """A quick way for what nearly every chat is, messages of a role and a text and no more.

    Returns:
        None when keys of messages are mapped.
    """
    name, beside = "messages", _BESIDE
    if columns:
        if columns.keys() & {"role", "content", "weight", "reasoning"}:
            return None
        name = columns.get(name, name)
        beside = frozenset(columns.get(n, n).split(".")[0] for n in beside)
    return Quick(beside, partial(_plain_turns, name))


def _plain_turns(name: str, row: Row) -> PlainTurns | None:
    messages = row.get(name)
    if type(messages) is not list:
        return None
    turns, some = PlainTurns(), False
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        text, role = message.get("content"), message.get("role")
        if type(text) is not str or type(role) is not str:
            return None
        weight = _PLAIN_ROLES.get(role)
        if weight is None:
            return None
        turns.append((SHARED, role, text, weight))
        if text:
            some = True
    return turns if some else None


READ_ROW: Final = """
def read_row(row):
    turns = chat(row)
    if turns is None and column(row, "output") is not None:
        turns = side(question(row), "user") + side(column(row, "output"), "assistant")
    elif turns is None:
        prompt = shown(opening(row) + side(spoken(row, "prompt"), "user"))
        return {"messages": prompt + side(spoken(row, "completion"), "assistant")}
    return {"messages": opening(row) + turns}
"""


def _fits(row: Row, columns: Columns) -> bool:
    return find_messages(row, columns)[1] is not None and not from_and_value(row, columns)


FORMAT: Final = Format(
    kind="chat",
    content=("messages",),
    turns=turns,
    fits=_fits,
    columns=("role", "content", "weight", "reasoning", "system", "history", "tools"),
    fixed_columns=("conversations", *ROW_KEYS),
    read_row=READ_ROW,
    reads_too=("sharegpt", "alpaca", "prompt_completion"),
    quick=quick,
)
