"""What is said of rows that should be known of, by kind."""

from __future__ import annotations

from typing import Final, Literal, get_args

# Kinds of rows that `data.drop` leaves out.
Droppable = Literal[
    "empty_answer",
    "empty_turn",
    "no_answer",
    "only_system",
    "untrained",
    "blank_text",
    "null_turn",
    "pair_equal",
    "pair_empty",
    "pair_null",
    "images",
    "audio",
    "video",
    "files",
    "tools",
    "unread_tools",
]
DROPPABLE: Final[tuple[str, ...]] = get_args(Droppable)


_ONE: Final = {"has": "has", "is": "is", "holds": "holds", "says": "says", "its": "its", "it": "it"}
_MANY: Final = {"has": "have", "is": "are", "holds": "hold", "says": "say", "its": "their",
                "it": "them"}  # fmt: skip
_MEDIA: Final = "only the text beside it is read and judged"

# kind → what is said behind "1 row" or "12 rows", and the setting that changes it, if `data.drop`
# does not; `{name}` is the column of a kind that is `KIND:COLUMN`.
SAYINGS: Final[dict[str, tuple[str, str]]] = {
    "empty_answer": ("{has} an answer without text: nothing to learn", ""),
    "empty_turn": ("{has} a question or an answer without text among its turns", ""),
    "no_answer": ("{has} no turn of the assistant: nothing to learn", ""),
    "only_system": ("{is} a system prompt alone: nothing to learn", ""),
    "untrained": ("{has} answers of weight 0 alone: nothing to learn", ""),
    "blank_text": ("{has} no visible character: nothing to learn", ""),
    "null_turn": ("{has} a turn whose text is null, read as empty", ""),
    "pair_equal": (
        "{has} chosen and rejected answers that are equal, or but for spaces around them",
        "",
    ),
    "pair_empty": ("{has} a chosen or rejected answer without text", ""),
    "pair_null": (
        "{has} a chosen or rejected answer that is null, read as empty: other readers stop there",
        "",
    ),
    "pair_unasked": (
        "{has} two answers and no prompt: none in a known column, no beginning that both share",
        "data.columns.prompt: YOUR_COLUMN reads it",
    ),
    "unknown_role": (
        "{has} a turn of a role that is none of system, user, assistant, tool: shown, not learned",
        "",
    ),
    "images": (f"{{holds}} an image: {_MEDIA}", ""),
    "audio": (f"{{holds}} audio: {_MEDIA}", ""),
    "video": (f"{{holds}} a video: {_MEDIA}", ""),
    "files": (f"{{holds}} a file or a document: {_MEDIA}", ""),
    "tools": ("{has} tools or tool calls, which are read as JSON text", ""),
    "unread_tools": ("{has} tools beside a text, which are not read", ""),
    "unread_functions": (
        "{has} a column functions that holds no tools (objects with a name), which is not read",
        "data.columns.tools: functions reads it, whatever it is",
    ),
    "result_in_turn": (
        "{has} what a tool gave as part of a turn that is none of a tool: it stays in that turn",
        "",
    ),
    "weighted": (
        "{has} answers of a weight other than 0 and 1: `train` weighs them so, other trainers not",
        "",
    ),
    "reasoning": (
        "{has} a reasoning trace, which is part of the text, of token counts and of scores",
        "data.reasoning: drop leaves it out",
    ),
    "reasoning_dropped": (
        "{has} a reasoning trace, which is left out of the text, of token counts and of scores",
        "data.reasoning: keep reads it",
    ),
    "unread_reasoning": (
        "{has} text in {name!r} that may be a reasoning trace, which is not read",
        "data.columns.reasoning: {name} reads it before the answer",
    ),
    "pair_reasoning": (
        "{has} a text in {name!r} beside a pair, which is not read: that in chosen_{name} would be",
        "data.columns.reasoning: '-' says that it is none",
    ),
    "text_reasoning": (
        "{has} text in {name!r} that may be a reasoning trace, beside a text, and is not read",
        "data.columns: prompt and completion, or messages, have it read with the answer",
    ),
    "unread_part": (
        "{has} a part of a message that has no text and is of no known type: it is not read",
        "",
    ),
    "json_text": ("{has} {its} messages as JSON text, which is read as messages", ""),
    "label_spelled": (
        "{has} a label in numbers or words, read as true or false, as KTO learns",
        "data.columns.label: '-' reads plain chats",
    ),
    "unread_label": (
        "{says} in {name!r} whether the answer is good, which is not read: bad ones are learned",
        "data.columns.label: {name} reads KTO's labels",
    ),
    "unread_fault": (
        "{says} in {name!r} whether the answer is bad, which is not read: bad ones are learned",
        "data.columns.label names a column that says whether it is good, for KTO",
    ),
}


def dropping(kind: str) -> str:
    """Why a row of a kind is not in the pool."""
    text, _ = SAYINGS[kind]
    return f"data.drop: {kind}: the row {text.format_map(_ONE)}"


def sentence(kind: str, rows: int) -> tuple[str, str]:
    """What is said of some rows of a kind, and the setting that changes it."""
    known, _, name = kind.partition(":")
    text, remedy = SAYINGS[known]
    words = {**(_ONE if rows == 1 else _MANY), "name": name}
    if known in DROPPABLE:
        remedy = f"data.drop: [{known}] leaves {{it}} out"
    said = f"{rows:,} row{'' if rows == 1 else 's'} {text}"
    return said.format_map(words), remedy.format_map(words)
