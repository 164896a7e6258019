"""alpaca: an instruction, perhaps with an input, and the output."""

from __future__ import annotations

from typing import Final

from didact.core.render import SHARED
from didact.data.rows import json_text
from didact.data.rows.columns import Columns, Row, RowError, as_text, named, require_text, shown
from didact.data.rows.format import Format
from didact.data.rows.reasoning import ROW_KEYS
from didact.data.rows.turns import LEARNED, Turn, opening


def turns(row: Row, columns: Columns) -> list[Turn]:
    """Earlier exchanges, the question, the answer."""
    turns = opening(row, columns)
    history = json_text.parsed(named(row, columns, "history"), list) or []
    if not isinstance(history, list):
        raise RowError(f"history is {shown(history)}; expected a list of [question, answer]")
    for i, exchange in enumerate(history):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise RowError(f"history[{i}] is {shown(exchange)}; expected [question, answer]")
        turns.append((SHARED, "user", as_text(exchange[0], f"history[{i}][0]"), 0.0))
        turns.append((SHARED, LEARNED, as_text(exchange[1], f"history[{i}][1]"), 1.0))
    answer = require_text(row, columns, "output")
    return [*turns, question(row, columns), (SHARED, LEARNED, answer, 1.0)]


def question(row: Row, columns: Columns) -> Turn:
    """An instruction and its input, as one question."""
    text = require_text(row, columns, "instruction")
    extra = named(row, columns, "input")
    if extra:
        text = f"{text}\n{as_text(extra, columns.get('input', 'input'))}"
    return SHARED, "user", text, 0.0


_READ_ROW: Final = """
def read_row(row):
    if column(row, "output") is not None:
        prompt, answer = history(row) + side(question(row), "user"), column(row, "output")
    else:
        prompt, answer = shown(side(spoken(row, "prompt"), "user")), spoken(row, "completion")
    return {"prompt": opening(row) + prompt, "completion": side(answer, "assistant")}
"""

FORMAT: Final = Format(
    kind="chat",
    content=("instruction", "output"),
    turns=turns,
    columns=("input", "history", "system", "tools", "reasoning"),
    fixed_columns=ROW_KEYS,
    read_row=_READ_ROW,
    reads_too=("prompt_completion",),
)
