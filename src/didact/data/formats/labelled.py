"""labelled: an answer with a label, true when it is good, as KTO learns from."""

from __future__ import annotations

from typing import Any, Final

from didact.data.formats import alpaca, messages, prompt_completion
from didact.data.rows.columns import Columns, Row, RowError, has, named, shown
from didact.data.rows.format import Format
from didact.data.rows.turns import Turn


def label(row: Row, columns: Columns) -> Any:
    """The label of a row; None when it has none."""
    found = named(row, columns, "label")
    return row.get("kto_tag") if found is None else found


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The turns of the row without its label, which may be of three other formats."""
    given = label(row, columns)
    if not isinstance(given, bool):
        raise RowError(
            f"label is {shown(given)}; expected true or false: map another column with "
            "--data columns.label=YOUR_COLUMN"
        )
    if messages.find_messages(row, columns)[1] is not None:
        return messages.turns(row, columns)
    if not has(row, columns, "prompt") and has(row, columns, "instruction"):
        return alpaca.turns(row, columns)
    return prompt_completion.turns(row, columns)


def _fits(row: Row, columns: Columns) -> bool:
    return isinstance(label(row, columns), bool) and (
        messages.find_messages(row, columns)[1] is not None
        or has(row, columns, "prompt", "completion")
        or has(row, columns, "instruction", "output")
    )


_READ_ROW: Final = """
def read_row(row):
    turns = chat(row)
    if turns is not None:
        turns = opening(row) + turns
        return {"prompt": turns[:-1], "completion": turns[-1:], "label": label_of(row)}
    if column(row, "prompt") is None:
        prompt, answer = question(row), column(row, "output")
    else:
        prompt, answer = column(row, "prompt"), column(row, "completion")
    if plain(row, prompt, answer):
        return {"prompt": prompt, "completion": answer, "label": label_of(row)}
    prompt = opening(row) + side(prompt, "user")
    return {"prompt": prompt, "completion": side(answer, "assistant"), "label": label_of(row)}
"""

FORMAT: Final = Format(
    kind="labelled",
    content=("label",),
    turns=turns,
    fits=_fits,
    label=label,
    fixed_columns=("kto_tag",),
    rank=1,  # without its label such a row is of another format
    read_row=_READ_ROW,
)
