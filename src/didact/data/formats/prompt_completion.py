"""prompt_completion: a prompt and its completion, each a text, a message or several."""

from __future__ import annotations

from typing import Final

from didact.data.rows.columns import Columns, Row, require
from didact.data.rows.format import Format
from didact.data.rows.reasoning import ROW_KEYS
from didact.data.rows.turns import LEARNED, Turn, earlier, opening, shown_only, side


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The prompt, which is only shown, and the completion."""
    prompt = side(require(row, columns, "prompt"), columns, "prompt", "user")
    answer = side(require(row, columns, "completion"), columns, "completion", LEARNED)
    return opening(row, columns) + shown_only(earlier(row, columns) + prompt) + answer


_READ_ROW: Final = """
def read_row(row):
    prompt, answer = spoken(row, "prompt"), spoken(row, "completion")
    if plain(row, prompt, answer):
        return {"prompt": prompt, "completion": answer}  # as they are, without a chat template
    prompt = shown(opening(row) + side(prompt, "user"))
    return {"prompt": prompt, "completion": side(answer, "assistant")}
"""

FORMAT: Final = Format(
    kind="chat",
    content=("prompt", "completion"),
    turns=turns,
    columns=("system", "history", "tools", "reasoning"),
    fixed_columns=ROW_KEYS,
    read_row=_READ_ROW,
)
