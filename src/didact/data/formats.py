"""What rows look like: detection, and one function per format from a row to turns.

A turn is `(part, role, content, weight)`; see `didact.core.render`. Formats are the ones trainers
read (TRL, Axolotl, LLaMA-Factory): messages, sharegpt, alpaca, prompt/completion, text, preference
pairs, and labelled completions (KTO).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, get_args

import orjson

from didact.core.errors import ConfigError, did_you_mean
from didact.core.pool import Kind
from didact.core.render import CHOSEN, REJECTED, SHARED
from didact.data.settings import FormatName

Row = dict[str, Any]
Turn = tuple[int, str, str, float]
Columns = Mapping[str, str]

FORMATS: Final[tuple[str, ...]] = tuple(f for f in get_args(FormatName) if f != "auto")
KIND: Final[dict[str, Kind]] = {
    "messages": "chat",
    "sharegpt": "chat",
    "alpaca": "chat",
    "prompt_completion": "chat",
    "text": "text",
    "preference": "pair",
    "labelled": "labelled",
}
_ROLES: Final = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
}
_LEARNED: Final = "assistant"
COLUMN_NAMES: Final = (
    "id", "source", "task", "messages", "role", "content", "weight", "text", "prompt",
    "completion", "chosen", "rejected", "label", "instruction", "input", "output", "system",
    "history", "tools",
)  # fmt: skip
_MISSING: Final = object()


class RowError(ValueError):
    """A row is not what its format expects; the reader adds file and row number."""


def get(row: Row, column: str, default: Any = None) -> Any:
    """A value by column name; dots reach into nested objects, unless a key has the dots itself."""
    if column in row:
        return row[column]
    if "." not in column:
        return default
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


def check_columns(columns: Columns) -> None:
    """Raise ConfigError when a mapping names a column didact does not know."""
    for name in columns:
        if name not in COLUMN_NAMES:
            raise ConfigError(f"data.columns: unknown name {name!r}{did_you_mean(name, COLUMN_NAMES)}")


def detect(row: Row, columns: Columns) -> str:
    """The format of a row.

    Raises:
        RowError: It is none of them; the message lists the row's keys and the remedy.
    """

    def has(*names: str) -> bool:
        return all(get(row, columns.get(n, n), _MISSING) is not _MISSING for n in names)

    labelled = has("label") or "kto_tag" in row
    if "chosen_messages" in row or has("chosen", "rejected"):
        return "preference"
    if labelled and (has("messages") or has("prompt", "completion")):
        return "labelled"
    if has("messages"):
        return "sharegpt" if _looks_sharegpt(get(row, columns.get("messages", "messages"))) else (
            "messages"
        )
    if has("conversations"):
        shares = _looks_sharegpt(row["conversations"])
        return "sharegpt" if shares else "messages"
    if has("instruction", "output"):
        return "alpaca"
    if has("prompt", "completion"):
        return "prompt_completion"
    if has("text"):
        return "text"
    if "input_ids" in row:
        raise RowError(
            "the row is already tokenized (input_ids); expected text or messages: pass the data "
            "from before tokenization, didact keeps its order for the trainer"
        )
    raise RowError(
        f"no known format has the columns {sorted(row)}; expected one of {', '.join(FORMATS)}: "
        "name the columns, e.g. --data columns.messages=dialogue or --data columns.text=body"
    )


def _looks_sharegpt(messages: Any) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else {}
    return isinstance(first, dict) and "from" in first and "value" in first


def turns_of(format_name: str, columns: Columns) -> Callable[[Row], list[Turn]]:
    """The function that turns rows of a format into turns, with the user's column names."""
    function = {
        "messages": _messages,
        "sharegpt": _messages,
        "alpaca": _alpaca,
        "prompt_completion": _prompt_completion,
        "text": _text,
        "preference": _preference,
        "labelled": _labelled,
    }[format_name]

    def parse(row: Row) -> list[Turn]:
        turns = function(row, columns)
        if not any(turn[2] for turn in turns):
            raise RowError("the sample has no text at all; expected some content in at least one turn")
        return turns

    return parse


def _require(row: Row, columns: Columns, name: str) -> Any:
    column = columns.get(name, name)
    value = get(row, column, _MISSING)
    if value is _MISSING or value is None:
        raise RowError(
            f"column {column!r} is missing; the row has {sorted(row)}: map it with "
            f"--data columns.{name}=YOUR_COLUMN"
        )
    return value


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        shown = repr(value)
        raise RowError(f"{name} is {shown[:80]} ({type(value).__name__}); expected text")
    return value


def _content(value: Any, name: str) -> str:
    """Text of a message: a string, nothing (a pure tool call), or a list of typed parts."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_part(part, name) for part in value)
    return _string(value, name)


def _part(part: Any, name: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        for key in ("text", "value", "content"):
            if isinstance(part.get(key), str):
                return str(part[key])
        return f"<{part.get('type', 'part')}>"  # an image or sound: its place is kept, not its bytes
    raise RowError(f"{name} has the part {part!r:.80}; expected text or an object with 'text'")


def _chat(value: Any, columns: Columns, name: str, part: int = SHARED) -> list[Turn]:
    """Turns of a list of messages."""
    if not isinstance(value, list):
        shown = f"{value!r:.80}"
        raise RowError(f"{name} is {shown} ({type(value).__name__}); expected a list of messages")
    if not value:
        raise RowError(f"{name} is empty; expected at least one message")
    try:
        return [_message(m, columns, name, part) for m in value]
    except RowError:  # once more, to name the message
        return [_message(m, columns, f"{name}[{i}]", part) for i, m in enumerate(value)]


def _message(message: Any, columns: Columns, name: str, part: int) -> Turn:
    if type(message) is dict and len(message) == 2 and not columns:  # what nearly every turn is
        role, text = message.get("role"), message.get("content")
        if type(role) is str and type(text) is str:
            role = _ROLES.get(role, role)
            return part, role, text, 1.0 if role == _LEARNED else 0.0
    if not isinstance(message, dict):
        shown = f"{message!r:.80}"
        raise RowError(f"{name} is {shown}; expected an object with 'role' and 'content'")
    role = message.get(columns.get("role", "role"), message.get("from"))
    if not isinstance(role, str):
        raise RowError(f"{name} has the keys {sorted(message)}; expected 'role' (or 'from')")
    value = message.get(columns.get("content", "content"), _MISSING)
    if value is _MISSING:
        value = message.get("value", _MISSING)
    calls = message.get("tool_calls")
    if value is _MISSING and not calls:
        raise RowError(f"{name} has the keys {sorted(message)}; expected 'content' (or 'value')")
    content = _content(None if value is _MISSING else value, f"{name}.content")
    if calls:
        content = "\n".join(filter(None, [content, orjson.dumps(calls).decode()]))
    role = _ROLES.get(role, role)
    return part, role, content, _weight(message, columns, role, name)


def _weight(message: Row, columns: Columns, role: str, name: str) -> float:
    for key in (columns.get("weight", "weight"), "loss_weight", "train", "training"):
        if message.get(key) is not None:
            value = message[key]
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise RowError(f"{name}.{key} is {value!r}; expected a number of 0 or more")
            return float(value)
    return 1.0 if role == _LEARNED else 0.0


def _opening(row: Row, columns: Columns) -> list[Turn]:
    """System prompt and tools that stand beside the messages, if any."""
    out: list[Turn] = []
    system = get(row, columns.get("system", "system"))
    if system:
        out.append((SHARED, "system", _string(system, "system"), 0.0))
    tools = get(row, columns.get("tools", "tools"))
    if tools:
        text = tools if isinstance(tools, str) else orjson.dumps(tools).decode()
        out.append((SHARED, "system", text, 0.0))
    return out


def _messages(row: Row, columns: Columns) -> list[Turn]:
    name = columns.get("messages", "messages")
    if get(row, name, _MISSING) is _MISSING and "conversations" in row:
        name = "conversations"
    value = get(row, name, _MISSING)
    if value is _MISSING:
        _require(row, columns, "messages")
    return _opening(row, columns) + _chat(value, columns, name)


def _alpaca(row: Row, columns: Columns) -> list[Turn]:
    turns = _opening(row, columns)
    history = get(row, columns.get("history", "history")) or []
    if not isinstance(history, list):
        raise RowError(f"history is {history!r:.80}; expected a list of [question, answer]")
    for i, exchange in enumerate(history):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise RowError(f"history[{i}] is {exchange!r:.80}; expected [question, answer]")
        turns.append((SHARED, "user", _string(exchange[0], f"history[{i}][0]"), 0.0))
        turns.append((SHARED, "assistant", _string(exchange[1], f"history[{i}][1]"), 1.0))
    answer = _string(_require(row, columns, "output"), "output")
    return [*turns, _question(row, columns), (SHARED, "assistant", answer, 1.0)]


def _question(row: Row, columns: Columns) -> Turn:
    """An instruction and its input, as one question."""
    question = _string(_require(row, columns, "instruction"), "instruction")
    extra = get(row, columns.get("input", "input"))
    if extra:
        question = f"{question}\n{_string(extra, 'input')}"
    return SHARED, "user", question, 0.0


def _side(value: Any, columns: Columns, name: str, role: str, part: int = SHARED) -> list[Turn]:
    """A prompt or an answer: text, one message, or a list of messages."""
    if isinstance(value, list):
        return _chat(value, columns, name, part)
    if isinstance(value, dict):
        return [_message(value, columns, name, part)]
    text = _string(value, name)
    return [(part, role, text, 1.0 if role == _LEARNED else 0.0)]


def _prompt_completion(row: Row, columns: Columns) -> list[Turn]:
    prompt = _side(_require(row, columns, "prompt"), columns, "prompt", "user")
    answer = _side(_require(row, columns, "completion"), columns, "completion", "assistant")
    shown = [(part, role, content, 0.0) for part, role, content, _ in prompt]
    return _opening(row, columns) + shown + answer


def _text(row: Row, columns: Columns) -> list[Turn]:
    name = columns.get("text", "text")
    return [(SHARED, "text", _string(_require(row, columns, "text"), name), 1.0)]


def _labelled(row: Row, columns: Columns) -> list[Turn]:
    label = get(row, columns.get("label", "label"), row.get("kto_tag", _MISSING))
    if not isinstance(label, bool):
        raise RowError(f"label is {label!r:.80}; expected true or false")
    has_chat = get(row, columns.get("messages", "messages"), _MISSING) is not _MISSING
    return _messages(row, columns) if has_chat else _prompt_completion(row, columns)


def _preference(row: Row, columns: Columns) -> list[Turn]:
    if "chosen_messages" in row:
        columns = {**columns, "chosen": "chosen_messages", "rejected": "rejected_messages"}
    sides = [
        _side(_require(row, columns, name), columns, name, "assistant", part)
        for name, part in (("chosen", CHOSEN), ("rejected", REJECTED))
    ]
    shared = _opening(row, columns)
    prompt = get(row, columns.get("prompt", "prompt"))
    messages = get(row, columns.get("messages", "messages"), row.get("conversations"))
    if prompt is not None:
        shared += _side(prompt, columns, "prompt", "user")
    elif get(row, columns.get("instruction", "instruction")) is not None:
        shared.append(_question(row, columns))
    elif messages is not None:
        shared += _chat(messages, columns, columns.get("messages", "messages"))
    else:  # the prompt is implicit: what both sides begin with
        same = 0
        for a, b in zip(*sides, strict=False):
            if a[1:3] != b[1:3] or a[1] == _LEARNED and same == min(map(len, sides)) - 1:
                break
            same += 1
        shared += [(SHARED, *turn[1:]) for turn in sides[0][:same]]
        sides = [side[same:] for side in sides]
    shown = [(SHARED, role, content, 0.0) for _, role, content, _ in shared]
    return shown + [turn for side in sides for turn in side]


def kinds(formats: Iterable[str]) -> set[Kind]:
    """The kinds of some formats."""
    return {KIND[f] for f in formats}
