"""Turns, what every sample is made of, and how messages become turns.

A turn is `(branch, role, content, weight)`, as in `didact.core.render.TURN`, which calls the branch
of a pair its part.
"""

from __future__ import annotations

from typing import Any, Final

from didact.core.render import REASONING, SHARED
from didact.data.rows import json_text, reasoning
from didact.data.rows.columns import (
    Columns,
    Row,
    RowError,
    as_json,
    as_text,
    get,
    keys,
    named,
    shown,
)

Turn = tuple[int, str, str, float]


class PlainTurns(list[Turn]):
    """Turns of messages of a role and a text and no more, so that nothing else is in them."""


LEARNED: Final = "assistant"  # the role whose turns a trainer teaches unless a weight says else
CALL_ROLES: Final = ("function_call", "tool_call")  # of messages whose content is a call as JSON
ROLES: Final = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
    "prompter": "user",
    **dict.fromkeys(CALL_ROLES, "assistant"),
    "tool_response": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
    **dict.fromkeys(reasoning.ROLES, REASONING),
}
FUNCTIONS: Final = "functions"
TOOLS: Final = ("tools", FUNCTIONS)  # columns of them
CALLS: Final = ("tool_calls", "function_call")  # keys of a message
# keys of a part of a content, the first with a text
CONTENT_TEXTS: Final = ("text", "value", "content", "refusal", "output")
# types of parts that call a tool, and of those that hold what it gave
CALL_PARTS: Final = ("tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call")
RESULT_PARTS: Final = (
    *("tool_result", "mcp_tool_result", "web_search_tool_result", "function_call_output"),
)
WEIGHTS: Final = ("weight", "loss_weight", "loss_scale", "train", "training", "loss")
_MOST_WEIGHT: Final = 1e9


def chat(value: Any, columns: Columns, name: str, branch: int = SHARED) -> list[Turn]:
    """Turns of a list of messages, which may be written as JSON text."""
    value = json_text.parsed(value, list)
    if not isinstance(value, list):
        raise RowError(
            f"{name} is {shown(value)} ({type(value).__name__}); expected a list of messages"
            f"{json_text.why_not(value)}"
        )
    if not value:
        raise RowError(f"{name} is empty; expected at least one message")
    out: list[Turn] = []
    for i, message in enumerate(value):
        out += _message(message, columns, f"{name}[{i}]", branch)
    return out


def side(value: Any, columns: Columns, name: str, role: str, branch: int = SHARED) -> list[Turn]:
    """A prompt or an answer: text, one message, or a list of messages, perhaps as JSON text."""
    name, value = columns.get(name, name), json_text.as_messages(value)
    if isinstance(value, list):
        return chat(value, columns, name, branch)
    if isinstance(value, dict):
        return _message(value, columns, name, branch)
    return [(branch, role, as_text(value, name), 1.0 if role == LEARNED else 0.0)]


def shown_only(turns: list[Turn]) -> list[Turn]:
    """Turns that the trainer shows the model and does not teach."""
    return [(SHARED, role, content, 0.0) for _, role, content, _ in turns]


def opening(row: Row, columns: Columns) -> list[Turn]:
    """System prompt and tools that stand beside the messages, if any."""
    out: list[Turn] = []
    system = named(row, columns, "system")
    if system:
        out.append((SHARED, "system", as_text(system, columns.get("system", "system")), 0.0))
    tools = tools_of(row, columns)
    if tools:
        text = tools if isinstance(tools, str) else as_json(tools)
        out.append((SHARED, "system", text, 0.0))
    return out


def earlier(row: Row, columns: Columns) -> list[Turn]:
    """Exchanges that went before, which stand beside the last one."""
    history = named(row, columns, "history")
    history = json_text.parsed(history, list) if json_text.there(history) else []
    if not isinstance(history, list):
        raise RowError(
            f"history is {shown(history)}; expected a list of [question, answer], or of messages: "
            "map another column with --data columns.history=YOUR_COLUMN (columns.history=- for "
            "none)"
        )
    if history and all(isinstance(message, dict) for message in history):
        return chat(history, columns, "history")
    turns: list[Turn] = []
    for i, exchange in enumerate(history):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise RowError(
                f"history[{i}] is {shown(exchange)}; expected [question, answer]; "
                "columns.history=- reads the rows without"
            )
        turns.append((SHARED, "user", as_text(exchange[0], f"history[{i}][0]"), 0.0))
        turns.append((SHARED, LEARNED, as_text(exchange[1], f"history[{i}][1]"), 1.0))
    return turns


def tools_of(row: Row, columns: Columns) -> Any:
    """The tools that stand beside the messages; None without any.

    Where no column is mapped `functions` is their second name, as `function_call` is of calls; but
    a column of that name may hold anything, code for one, and then is not read.
    """
    mapped = "tools" in columns
    for name in (columns["tools"],) if mapped else TOOLS:
        tools = get(row, name)
        if json_text.there(tools) and (mapped or name != FUNCTIONS or are_tools(items_of(tools))):
            return tools
    return None


def items_of(value: Any) -> list[Any]:
    """What a list holds, or a value alone, each perhaps as JSON text."""
    value = json_text.parsed(value, list)
    listed = value if isinstance(value, list) else [value]
    return [json_text.parsed(item, dict) for item in listed]


def are_tools(items: Any) -> bool:
    """Whether some objects describe tools: each has a name, or a function that has one."""
    inside = [i.get("function", i) if isinstance(i, dict) else None for i in items]
    return all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in inside)


def _message(message: Any, columns: Columns, name: str, branch: int) -> list[Turn]:
    """A message as one turn, or as its reasoning trace and its answer."""
    message = json_text.parsed(message, dict)
    if not isinstance(message, dict):
        raise RowError(f"{name} is {shown(message)}; expected an object with 'role' and 'content'")
    role = message.get(columns.get("role", "role"))
    role = message.get("from") if role is None else role
    if not isinstance(role, str):
        given = f"role {shown(role)}, " if role is not None else ""
        raise RowError(
            f"{name} has {given}the keys {keys(message)}; expected 'role' (or 'from') with text: "
            "name it with --data columns.role=YOUR_KEY"
        )
    role = ROLES.get(role) or ROLES.get(role.lower(), role)
    if role == LEARNED and reasoning.is_trace(message):
        role = REASONING
    trace = reasoning.trace_beside(message, columns) if role == LEARNED else ""
    column = columns.get("content", "content")
    value = message.get(column)
    value = message.get("value") if value is None else value
    calls, value = _calls(message, value)
    if value is None and not (calls or trace or column in message or "value" in message):
        raise RowError(
            f"{name} has the keys {keys(message)}; expected 'content' (or 'value'): name it with "
            "--data columns.content=YOUR_KEY"
        )
    if isinstance(value, list) and role == LEARNED:
        parts = [piece for piece in value if reasoning.is_trace_part(piece)]
        if parts:
            value = [piece for piece in value if not reasoning.is_trace_part(piece)]
            trace = trace or reasoning.trace_of(parts)
    content = _content(value, f"{name}.content")
    if calls:
        content = "\n".join(filter(None, [content, calls]))
    weight = _weight(message, columns, role, name)
    answer = (branch, role, content, weight)
    return [(branch, REASONING, trace, weight), answer] if trace else [answer]


def _calls(message: Row, content: Any) -> tuple[str, Any]:
    """The tool calls of a message as JSON text, "" without any, and its content without them."""
    found: list[str] = []
    if isinstance(content, list):
        parts = [piece for piece in content if is_call_part(piece)]
        if parts:
            found.append(as_json(parts))
            content = [piece for piece in content if not is_call_part(piece)]
    calls = next(filter(json_text.there, map(message.get, CALLS)), "")
    if calls:
        found.append(calls if isinstance(calls, str) else as_json(calls))
    return "\n".join(found), content


def is_call_part(piece: Any) -> bool:
    """Whether a part of a content calls a tool; one that is written as text stays where it is."""
    if not isinstance(piece, dict) or piece.get("type") not in CALL_PARTS:
        return False
    return not any(isinstance(piece.get(key), str) for key in CONTENT_TEXTS)


def _content(value: Any, name: str) -> str:
    """Text of a message: a string, nothing (a pure tool call), or a list of typed pieces."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_piece(piece, name) for piece in value)
    return as_text(value, name)


def _piece(piece: Any, name: str, *, inside: bool = False) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, dict):
        for key in CONTENT_TEXTS:
            value = piece.get(key)
            if isinstance(value, dict) and isinstance(value.get("value"), str):
                value = value["value"]
            if isinstance(value, str):
                return value
            if isinstance(value, list) and not inside:  # what a tool gave has parts of its own
                return "\n".join(_piece(part, name, inside=True) for part in value)
        trace = reasoning.trace_of(piece) if reasoning.is_trace_part(piece) else ""
        kind = piece.get("type")  # of an image or sound the place is kept, not the bytes
        mark = f"<{kind if isinstance(kind, str) else 'part'}>"
        return trace or (as_json(piece) if kind in RESULT_PARTS else mark)
    if inside:
        return as_json(piece)
    raise RowError(f"{name} has the part {shown(piece)}; expected text or an object with 'text'")


def _weight(message: Row, columns: Columns, role: str, name: str) -> float:
    key, value = weight_beside(message, columns)
    if value is None:
        return 1.0 if role in (LEARNED, REASONING) else 0.0
    if not isinstance(value, int | float) or not 0 <= value <= _MOST_WEIGHT:
        raise RowError(
            f"{name}.{key} is {shown(value)}; expected a number from 0 to {_MOST_WEIGHT:g}"
        )
    return float(value)


def weight_beside(message: Any, columns: Any) -> tuple[str, Any]:
    """The key and the value of a message's weight; the value is None where it has none.

    A number under `loss` may be what a model's loss was, and is none unless the key is mapped.
    """
    own = columns.get("weight", "weight")
    for key in (own, *WEIGHTS):
        value = message.get(key)
        if value is not None and (key != "loss" or key == own or isinstance(value, bool)):
            return key, value
    return own, None
