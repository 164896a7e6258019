"""Reasoning traces: where messages have them, and answers without them.

A trace stands beside an answer's content, among its parts, or in its text between marks. The first
two become a turn of their own before the answer; what stands in the text stays there, as trainers
read it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from didact.core.render import REASONING, REASONING_KEYS
from didact.data.rows.columns import Columns, Row

Reasoning = Literal["keep", "drop"]

ROLES: Final = ("reasoning", "thinking")  # of messages that are a trace
PARTS: Final = ("thinking", "reasoning")  # types of a content's parts
MARKS: Final = (
    ("<think>", "</think>"),  # templates may write the first into the prompt
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
TEXTS: Final = ("text", "thinking", "reasoning", "content", "summary", "value")  # of a part


def beside(message: Row, columns: Columns) -> str:
    """The trace that stands beside a message's content; "" without one."""
    own = columns.get("reasoning")
    found = (text_of(message.get(key)) for key in (REASONING_KEYS if own is None else (own,)))
    return next(filter(None, found), "")


def is_part(piece: Any) -> bool:
    """Whether a part of a content is a trace."""
    return isinstance(piece, dict) and piece.get("type") in PARTS


def text_of(value: Any) -> str:
    """Text of a trace: a string, a part, or a list of them; "" of anything else.

    Some write true, or how much effort was asked for, where others have the trace.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(text_of, value)))
    if isinstance(value, dict):
        return next((text_of(value[key]) for key in TEXTS if value.get(key) is not None), "")
    return ""


def in_text(text: str) -> bool:
    """Whether an answer's text begins with a trace between marks."""
    return without_marked(text) != text


def without_marked(text: str) -> str:
    """An answer's text without the trace it begins with, if any.

    Of a trace that never ends nothing is left; one may also begin in the prompt, and so without its
    opening mark.
    """
    for opening, closing in MARKS:
        head, found, tail = text.partition(closing)
        if head.lstrip().startswith(opening):
            return tail.lstrip()
        if found and opening == MARKS[0][0] and opening not in head:
            return tail.lstrip()
    return text


def dropped(turns: list[tuple[int, str, str, float]]) -> list[tuple[int, str, str, float]]:
    """The turns of a sample without reasoning traces."""
    return [
        (branch, role, without_marked(content) if role == "assistant" else content, weight)
        for branch, role, content, weight in turns
        if role != REASONING
    ]
