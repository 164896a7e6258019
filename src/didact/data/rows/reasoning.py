"""Reasoning traces: where messages have them, and answers without them.

A trace stands beside an answer's content, among its parts, beside a row's answer, or in its text
between marks. All but the last become a turn of their own before the answer; what stands in the
text stays there, as trainers read it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from didact.core.render import CHOSEN, REASONING, REASONING_KEYS, REJECTED
from didact.data.rows.columns import Columns, Row, get

Reasoning = Literal["keep", "drop"]

# columns of a trace beside a row's answer, and keys beside a message's content
ROW_KEYS: Final = (
    *REASONING_KEYS,
    *("reasoning_text", "thinking_content", "thinking_blocks", "reasoning_details"),
    *("chain_of_thought", "cot"),
)
# keys that are one as text beside an answer's content, and may be anything beside a row's
LOOSE_KEYS: Final = ("thoughts", "thought", "rationale", "analysis")
TRACE_KEYS: Final = (*ROW_KEYS, *LOOSE_KEYS)
# what stands under these keys where others have the trace: a switch, or an effort
FLAGS: Final = (
    *("", "on", "off", "true", "false", "yes", "no", "none", "null", "auto"),
    *("minimal", "low", "medium", "high", "enabled", "disabled"),
)
BRANCHES: Final = {"chosen": CHOSEN, "rejected": REJECTED}
PAIR_COLUMNS: Final = tuple(f"{side}_{key}" for side in BRANCHES for key in ROW_KEYS)
_ROW_COLUMNS: Final = frozenset(ROW_KEYS)
_OF_PAIRS: Final = frozenset(PAIR_COLUMNS)

ROLES: Final = ("reasoning", "thinking")  # of messages that are a trace
# types of a content's parts
PARTS: Final = ("thinking", "reasoning", "thought", "reasoning.text", "redacted_thinking")
MARKS: Final = (
    ("<think>", "</think>"),  # templates may write the first into the prompt
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|end|>"),
)
# keys of a part, or of a step, that hold its text
TRACE_TEXTS: Final = (
    *("text", "thinking", "reasoning", "content", "summary", "value", "thought", "steps", "step"),
)


def trace_beside(message: Any, columns: Any) -> str:
    """The trace that stands beside a message's content; "" without one."""
    own = columns.get("reasoning")
    for key in () if own == "-" else (own, *TRACE_KEYS):
        value = message.get(key)
        if key not in LOOSE_KEYS or key == own or isinstance(value, str):
            trace = trace_of(value)
            if trace:
                return trace
    return ""


def is_trace(message: Any) -> bool:
    """Whether an answer is a trace as a whole, which the next answer follows."""
    return message.get("channel") == "analysis" or message.get("thought") is True


def is_trace_part(piece: Any) -> bool:
    """Whether a part of a content is a trace."""
    return isinstance(piece, dict) and (piece.get("type") in PARTS or piece.get("thought") is True)


def trace_of(value: Any) -> str:
    """Text of a trace: a string, a part, or a list of them; "" of anything else.

    Some write true, or how much effort was asked for, where others have the trace.
    """
    if isinstance(value, str):
        return "" if value.strip().lower() in FLAGS else value
    if isinstance(value, list):
        return "\n".join(filter(None, map(trace_of, value)))
    if isinstance(value, dict):
        return next(filter(None, map(trace_of, map(value.get, TRACE_TEXTS))), "")
    return ""


def beside_row(row: Row, columns: Columns) -> str:
    """The trace that stands beside the one answer of a row; "" without one."""
    own = columns.get("reasoning")
    if own == "-" or (own is None and _ROW_COLUMNS.isdisjoint(row)):
        return ""
    found = "" if own is None else trace_of(get(row, own))
    return found or next(filter(None, (trace_of(row.get(key)) for key in ROW_KEYS)), "")


def beside_branch(row: Row, columns: Columns, side: str) -> str:
    """The trace beside one answer of a pair, `chosen` or `rejected`; "" without one."""
    if columns.get("reasoning") == "-" or _OF_PAIRS.isdisjoint(row):
        return ""
    return next(filter(None, (trace_of(row.get(f"{side}_{key}")) for key in ROW_KEYS)), "")


def completed(
    turns: list[tuple[int, str, str, float]], row: Row, columns: Columns, *, pair: bool
) -> list[tuple[int, str, str, float]]:
    """The turns of a row with the traces that stand beside its answers.

    The last answer takes it, unless it has one of its own.
    """
    if not pair:
        trace = beside_row(row, columns)
        return _with(trace, turns, None) if trace else turns
    for side, branch in BRANCHES.items():
        trace = beside_branch(row, columns, side)
        turns = _with(trace, turns, branch) if trace else turns
    return turns


def _with(
    trace: str, turns: list[tuple[int, str, str, float]], branch: int | None
) -> list[tuple[int, str, str, float]]:
    """Turns with a trace before the last answer, of a branch or of all."""
    for i in range(len(turns) - 1, -1, -1):
        of, role, content, weight = turns[i]
        if role == "assistant" and branch in (None, of):
            own = i and turns[i - 1][:2] == (of, REASONING)
            if own or in_text(content) or trace in content:
                return turns
            return [*turns[:i], (of, REASONING, trace, weight), *turns[i:]]
    return turns


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
