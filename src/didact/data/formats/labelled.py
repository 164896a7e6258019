"""labelled: an answer with a label, true when it is good, as KTO learns from."""

from __future__ import annotations

from typing import Any, Final

from didact.data.formats import alpaca, messages, prompt_completion
from didact.data.rows.columns import Columns, Row, RowError, has, named, shown
from didact.data.rows.format import Format
from didact.data.rows.labels import NAMES, spelled, surely_spelled
from didact.data.rows.reasoning import ROW_KEYS
from didact.data.rows.turns import Turn


def given(row: Row, columns: Columns) -> Any:
    """What stands in the label's column; None when there is none, or `label` is mapped to `-`."""
    found = named(row, columns, "label")
    if found is None and columns.get("label") != "-":
        return next((row[name] for name in NAMES if row.get(name) is not None), None)
    return found


def label(row: Row, columns: Columns) -> bool:
    """The label of a row: true when its answer is good.

    Raises:
        RowError: It is none of the spellings.
    """
    value = given(row, columns)
    found = spelled(value)
    if found is None:
        raise RowError(
            f"{columns.get('label', 'label')} is {shown(value)}; expected true or false (or 1 and "
            "0, yes and no, good and bad, or the like) in every row: give it one, map another "
            "column with --data columns.label=YOUR_COLUMN, or read the rows without labels "
            "with columns.label=-"
        )
    return found


def refuse_late(row: Row, columns: Columns) -> None:
    """Raise RowError when a row has a label of KTO's in a file that began without."""
    value = given(row, columns)
    if value is not None and _is_meant(value, columns):
        label(row, columns)
        raise RowError(
            f"the row has the label {shown(value)}, and the file's first row has none like it; "
            "expected every row to have one, as KTO needs, or no row: give the others true or "
            "false, or read all without labels with --data columns.label=-"
        )


def turns(row: Row, columns: Columns) -> list[Turn]:
    """The turns of the row without its label, which may be of three other formats."""
    label(row, columns)
    if messages.find_messages(row, columns)[1] is not None:
        return messages.turns(row, columns)
    if not has(row, columns, "prompt") and has(row, columns, "instruction"):
        return alpaca.turns(row, columns)
    return prompt_completion.turns(row, columns)


def _fits(row: Row, columns: Columns) -> bool:
    """Whether a row has a label in one of the spellings, beside content of another format."""
    value = given(row, columns)
    return value is not None and _is_meant(value, columns) and _has_content(row, columns)


def _is_meant(value: Any, columns: Columns) -> bool:
    """Whether a value is a label of KTO's, or one that the user says is one."""
    return columns.get("label", "-") != "-" or surely_spelled(value) is not None


def _has_content(row: Row, columns: Columns) -> bool:
    return (
        messages.find_messages(row, columns)[1] is not None
        or has(row, columns, "prompt", "completion")
        or has(row, columns, "instruction", "output")
    )


_READ_ROW: Final = """
def read_row(row):
    turns = chat(row)
    if turns is not None:
        prompt, answer = last_answer(opening(row) + turns)
        return {"prompt": prompt, "completion": answer, "label": label_of(row)}
    if column(row, "prompt") is None:
        prompt, answer = question(row), column(row, "output")
    else:
        prompt, answer = spoken(row, "prompt"), spoken(row, "completion")
    if plain(row, prompt, answer):
        return {"prompt": prompt, "completion": answer, "label": label_of(row)}
    prompt, answer = opening(row) + side(prompt, "user"), side(answer, "assistant")
    if answer[-1]["role"] != "assistant":
        prompt, answer = last_answer(prompt + answer)
    return {"prompt": prompt, "completion": answer, "label": label_of(row)}
"""

FORMAT: Final = Format(
    kind="labelled",
    content=("label",),
    turns=turns,
    fits=_fits,
    label=label,
    fixed_columns=(*NAMES, *ROW_KEYS),
    rank=1,  # without its label such a row is of another format
    read_row=_READ_ROW,
)
