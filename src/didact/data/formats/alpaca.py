"""alpaca: an instruction, perhaps with an input, and the output."""

from __future__ import annotations

from functools import partial
from typing import Final

from didact.core.render import SHARED
from didact.data.rows.columns import Columns, Row, as_text, named, require_text
from didact.data.rows.format import Format, Quick
from didact.data.rows.reasoning import ROW_KEYS
from didact.data.rows.turns import LEARNED, TOOLS, Turn, earlier, opening


def turns(row: Row, columns: Columns) -> list[Turn]:
    """Earlier exchanges, the question, the answer."""
    turns = opening(row, columns) + earlier(row, columns)
    answer = require_text(row, columns, "output")
    return [*turns, question(row, columns), (SHARED, LEARNED, answer, 1.0)]


def question(row: Row, columns: Columns) -> Turn:
    """An instruction and its input, as one question."""
    text = require_text(row, columns, "instruction")
    extra = named(row, columns, "input")
    if extra:
        text = f"{text}\n{as_text(extra, columns.get('input', 'input'))}"
    return SHARED, "user", text, 0.0


def _quick(columns: Columns) -> Quick | None:
    instruction, extra, output = (columns.get(n, n) for n in ("instruction", "input", "output"))
    if "." in instruction + extra + output:
        return None
    beside = (columns.get(n, n).split(".")[0] for n in ("system", "history", *TOOLS))
    return Quick(frozenset(beside), partial(_plain_turns, instruction, extra, output))


def _plain_turns(instruction: str, extra: str, output: str, row: Row) -> list[Turn] | None:
    question, more, answer = row.get(instruction), row.get(extra), row.get(output)
    if type(question) is not str or type(answer) is not str or not (question or answer):
        return None
    if more:
        if type(more) is not str:
            return None
        question = f"{question}\n{more}"
    return [(SHARED, "user", question, 0.0), (SHARED, LEARNED, answer, 1.0)]


_READ_ROW: Final = """
def read_row(row):
    if column(row, "output") is not None:
        prompt, answer = opening(row) + side(question(row), "user"), column(row, "output")
    else:
        prompt = shown(opening(row) + side(spoken(row, "prompt"), "user"))
        answer = spoken(row, "completion")
    return {"prompt": prompt, "completion": side(answer, "assistant")}
"""

FORMAT: Final = Format(
    kind="chat",
    content=("instruction", "output"),
    turns=turns,
    columns=("input", "history", "system", "tools", "reasoning"),
    fixed_columns=ROW_KEYS,
    read_row=_READ_ROW,
    reads_too=("prompt_completion",),
    quick=_quick,
)
