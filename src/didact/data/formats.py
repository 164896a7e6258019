"""What rows look like: detection, and one function per format from a row to turns.

A turn is `(part, role, content, weight)`; see `didact.core.render`. Formats are the ones trainers
read (TRL, Axolotl, LLaMA-Factory): messages, sharegpt, alpaca, prompt/completion, text, preference
pairs, and labelled completions (KTO).
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import orjson

from didact.core.errors import ConfigError, did_you_mean
from didact.core.pool import Kind
from didact.core.render import CHOSEN, REJECTED, SHARED
from didact.data.reading.settings import FormatName

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
_LEARNED: Final = "assistant"
_ROLES: Final = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
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
_PLAIN_ROLES: Final = {"system": 0.0, "user": 0.0, "assistant": 1.0, "tool": 0.0}
_WEIGHTS: Final = ("weight", "loss_weight", "train", "training")
_MOST_WEIGHT: Final = 1e9
COLUMN_NAMES: Final = (
    "id", "source", "task", "messages", "role", "content", "weight", "text", "prompt",
    "completion", "chosen", "rejected", "label", "instruction", "input", "output", "system",
    "history", "tools",
)  # fmt: skip
# columns that are known by one name only
OTHER_COLUMNS: Final = ("conversations", "chosen_messages", "rejected_messages", "kto_tag")
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist = 3, 4, 4


class RowError(ValueError):
    """A row is not what its format expects; the reader adds file and row number."""


def shown(value: Any) -> str:
    """A value for a message: short, however long or deep it is."""
    return _SHORT.repr(value)


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
            raise ConfigError(
                f"data.columns: unknown name {name!r}{did_you_mean(name, COLUMN_NAMES)}"
            )


# -- which format ----------------------------------------------------------------------------------


def detect(row: Row, columns: Columns) -> str:
    """The format of a row; where it could be several, one whose columns are mapped.

    Raises:
        RowError: It is none of them; the message lists the row's keys and the remedy.
    """

    def has(*names: str) -> bool:
        return all(_named(row, columns, n) is not None for n in names)

    chat = has("messages") or row.get("conversations") is not None
    answered = has("prompt", "completion") or has("instruction", "output")
    pair = has("chosen", "rejected") or row.get("chosen_messages") is not None
    possible = {
        "preference": pair,
        "labelled": isinstance(label_of(row, columns), bool) and (chat or answered),
        "sharegpt" if _looks_sharegpt(_messages_of(row, columns)[1]) else "messages": chat,
        "alpaca": has("instruction", "output"),
        "prompt_completion": has("prompt", "completion"),
        "text": has("text"),
    }
    found = [name for name, fits in possible.items() if fits]
    for name in found:
        if any(column in columns for column in _CONTENT[name]):
            return name
    if found:
        return found[0]
    if "input_ids" in row:
        raise RowError(
            "the row is already tokenized (input_ids); expected text or messages: pass the data "
            "from before tokenization, didact keeps its order for the trainer"
        )
    lost = [f"{n}={c}" for n, c in columns.items() if _named(row, columns, n) is None]
    raise RowError(
        f"no known format has the columns {_keys(row)}"
        + (f" (nothing is at {', '.join(lost)})" if lost else "")
        + f"; expected one of {', '.join(FORMATS)}: name the columns, e.g. --data "
        "columns.messages=dialogue or --data columns.text=body"
    )


# columns that hold a format's content: who maps one of them means this format
_CONTENT: Final = {
    "preference": ("chosen", "rejected"),
    "labelled": ("label",),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}


def _looks_sharegpt(messages: Any) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else {}
    return isinstance(first, dict) and "from" in first and "value" in first


def label_of(row: Row, columns: Columns) -> Any:
    """The label of a labelled row; None when it has none."""
    label = _named(row, columns, "label")
    return row.get("kto_tag") if label is None else label


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

    plain = _plain_messages(columns) if function is _messages else None

    def parse(row: Row) -> list[Turn]:
        turns = plain(row) if plain is not None else None
        if turns is None:
            turns = function(row, columns)
        for turn in turns:
            if turn[2]:
                return turns
        raise RowError("the sample has no text at all; expected some content in one turn or more")

    return parse


# -- values ----------------------------------------------------------------------------------------


def _named(row: Row, columns: Columns, name: str) -> Any:
    """The value didact calls `name`; None when it is absent or null."""
    return get(row, columns.get(name, name))


def _keys(row: Row) -> str:
    return shown(sorted(row)) if len(row) > 20 else str([shown(k)[1:-1] for k in sorted(row)])


def _require(row: Row, columns: Columns, name: str) -> Any:
    value = _named(row, columns, name)
    if value is None:
        column = columns.get(name, name)
        state = "missing" if get(row, column, row) is row else "null"
        raise RowError(
            f"column {column!r} is {state}; the row has {_keys(row)}: map another column with "
            f"--data columns.{name}=YOUR_COLUMN"
        )
    return value


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{name} is {shown(value)} ({type(value).__name__}); expected text")
    return value


def _as_json(value: Any) -> str:
    """A value as JSON text, whatever JSON it came from."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, half surrogate pairs, deep nesting
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError as error:
            raise RowError(f"{shown(value)} is nested too deeply; expected less") from error


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
        kind = part.get("type")  # of an image or sound the place is kept, not the bytes
        return f"<{kind if isinstance(kind, str) else 'part'}>"
    raise RowError(f"{name} has the part {shown(part)}; expected text or an object with 'text'")


# -- messages --------------------------------------------------------------------------------------


def _chat(value: Any, columns: Columns, name: str, part: int = SHARED) -> list[Turn]:
    """Turns of a list of messages."""
    if not isinstance(value, list):
        raise RowError(
            f"{name} is {shown(value)} ({type(value).__name__}); expected a list of messages"
        )
    if not value:
        raise RowError(f"{name} is empty; expected at least one message")
    return [_message(m, columns, f"{name}[{i}]", part) for i, m in enumerate(value)]


def _message(message: Any, columns: Columns, name: str, part: int) -> Turn:
    if not isinstance(message, dict):
        raise RowError(f"{name} is {shown(message)}; expected an object with 'role' and 'content'")
    role = message.get(columns.get("role", "role"))
    role = message.get("from") if role is None else role
    if not isinstance(role, str):
        given = f"role {shown(role)}, " if role is not None else ""
        raise RowError(
            f"{name} has {given}the keys {_keys(message)}; expected 'role' (or 'from') with text: "
            "name it with --data columns.role=YOUR_KEY"
        )
    column = columns.get("content", "content")
    value = message.get(column)
    value = message.get("value") if value is None else value
    calls = message.get("tool_calls") or message.get("function_call")
    if value is None and not calls and column not in message and "value" not in message:
        raise RowError(
            f"{name} has the keys {_keys(message)}; expected 'content' (or 'value'): name it with "
            "--data columns.content=YOUR_KEY"
        )
    content = _content(value, f"{name}.content")
    if calls:
        content = "\n".join(filter(None, [content, _as_json(calls)]))
    role = _ROLES.get(role) or _ROLES.get(role.lower(), role)
    return part, role, content, _weight(message, columns, role, name)


def _weight(message: Row, columns: Columns, role: str, name: str) -> float:
    for key in (columns.get("weight", "weight"), *_WEIGHTS):
        value = message.get(key)
        if value is not None:
            if not isinstance(value, int | float) or not 0 <= value <= _MOST_WEIGHT:
                raise RowError(
                    f"{name}.{key} is {shown(value)}; expected a number from 0 to {_MOST_WEIGHT:g}"
                )
            return float(value)
    return 1.0 if role == _LEARNED else 0.0


def _opening(row: Row, columns: Columns) -> list[Turn]:
    """System prompt and tools that stand beside the messages, if any."""
    out: list[Turn] = []
    system = _named(row, columns, "system")
    if system:
        out.append((SHARED, "system", _string(system, columns.get("system", "system")), 0.0))
    tools = _named(row, columns, "tools")
    if tools and tools not in ("[]", "{}"):
        text = tools if isinstance(tools, str) else _as_json(tools)
        out.append((SHARED, "system", text, 0.0))
    return out


def _plain_messages(columns: Columns) -> Callable[[Row], list[Turn] | None] | None:
    """A quick way for what nearly every chat is, messages of a role and a text and no more.

    Returns:
        A function that gives None for any other row; None when keys of messages are mapped.
    """
    if columns.keys() & {"role", "content", "weight"}:
        return None
    name, *others = (columns.get(n, n) for n in ("messages", "system", "tools"))
    system, tools = (other.split(".")[0] for other in others)

    def plain(row: Row) -> list[Turn] | None:
        messages = row.get(name)
        if type(messages) is not list or not messages or system in row or tools in row:
            return None
        turns = []
        for message in messages:
            if type(message) is not dict or len(message) != 2:
                return None
            text, role = message.get("content"), message.get("role")
            if type(text) is not str or type(role) is not str or role not in _PLAIN_ROLES:
                return None
            turns.append((SHARED, role, text, _PLAIN_ROLES[role]))
        return turns

    return plain


def _messages_of(row: Row, columns: Columns) -> tuple[str, Any]:
    """Name and value of the column of messages; None when there is none."""
    name = columns.get("messages", "messages")
    value = get(row, name)
    if value is None and row.get("conversations") is not None:
        return "conversations", row["conversations"]
    return name, value


def _messages(row: Row, columns: Columns) -> list[Turn]:
    name, value = _messages_of(row, columns)
    if value is None:
        value = _require(row, columns, "messages")
    return _opening(row, columns) + _chat(value, columns, name)


# -- question and answer ---------------------------------------------------------------------------


def _alpaca(row: Row, columns: Columns) -> list[Turn]:
    turns = _opening(row, columns)
    history = _named(row, columns, "history") or []
    if not isinstance(history, list):
        raise RowError(f"history is {shown(history)}; expected a list of [question, answer]")
    for i, exchange in enumerate(history):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise RowError(f"history[{i}] is {shown(exchange)}; expected [question, answer]")
        turns.append((SHARED, "user", _string(exchange[0], f"history[{i}][0]"), 0.0))
        turns.append((SHARED, _LEARNED, _string(exchange[1], f"history[{i}][1]"), 1.0))
    answer = _string(_require(row, columns, "output"), columns.get("output", "output"))
    return [*turns, _question(row, columns), (SHARED, _LEARNED, answer, 1.0)]


def _question(row: Row, columns: Columns) -> Turn:
    """An instruction and its input, as one question."""
    name = columns.get("instruction", "instruction")
    question = _string(_require(row, columns, "instruction"), name)
    extra = _named(row, columns, "input")
    if extra:
        question = f"{question}\n{_string(extra, columns.get('input', 'input'))}"
    return SHARED, "user", question, 0.0


def _side(value: Any, columns: Columns, name: str, role: str, part: int = SHARED) -> list[Turn]:
    """A prompt or an answer: text, one message, or a list of messages."""
    name = columns.get(name, name)
    if isinstance(value, list):
        return _chat(value, columns, name, part)
    if isinstance(value, dict):
        return [_message(value, columns, name, part)]
    return [(part, role, _string(value, name), 1.0 if role == _LEARNED else 0.0)]


def _prompt_completion(row: Row, columns: Columns) -> list[Turn]:
    prompt = _side(_require(row, columns, "prompt"), columns, "prompt", "user")
    answer = _side(_require(row, columns, "completion"), columns, "completion", _LEARNED)
    return _opening(row, columns) + _shown_only(prompt) + answer


def _shown_only(turns: list[Turn]) -> list[Turn]:
    """Turns that the trainer shows the model and does not teach."""
    return [(SHARED, role, content, 0.0) for _, role, content, _ in turns]


def _text(row: Row, columns: Columns) -> list[Turn]:
    text = _string(_require(row, columns, "text"), columns.get("text", "text"))
    return [(SHARED, "text", text, 1.0)]


# -- preferences -----------------------------------------------------------------------------------


def _labelled(row: Row, columns: Columns) -> list[Turn]:
    label = label_of(row, columns)
    if not isinstance(label, bool):
        raise RowError(
            f"label is {shown(label)}; expected true or false: map another column with "
            "--data columns.label=YOUR_COLUMN"
        )
    if _messages_of(row, columns)[1] is not None:
        return _messages(row, columns)
    if _named(row, columns, "prompt") is None and _named(row, columns, "instruction") is not None:
        return _alpaca(row, columns)
    return _prompt_completion(row, columns)


def _preference(row: Row, columns: Columns) -> list[Turn]:
    if row.get("chosen_messages") is not None:
        columns = {**columns, "chosen": "chosen_messages", "rejected": "rejected_messages"}
    answers = [_require(row, columns, name) for name in ("chosen", "rejected")]
    if all(isinstance(answer, str) for answer in answers) and not _has_prompt(row, columns):
        cut = _shared_words(answers)
        answers = [answer[cut:] for answer in answers]
        shared = [(SHARED, "user", _require(row, columns, "chosen")[:cut], 0.0)] if cut else []
    else:
        shared = _prompt(row, columns)
    chosen, rejected = (
        _side(answer, columns, name, _LEARNED, part)
        for answer, name, part in zip(
            answers, ("chosen", "rejected"), (CHOSEN, REJECTED), strict=True
        )
    )
    said = [turn[1:3] for turn in shared]
    if shared and all([t[1:3] for t in side[: len(said)]] == said for side in (chosen, rejected)):
        chosen, rejected = chosen[len(said) :], rejected[len(said) :]  # the sides repeat the prompt
    elif not shared:  # the prompt is implicit: what both sides begin with
        same = _shared_turns(chosen, rejected)
        shared = chosen[:same]
        chosen, rejected = chosen[same:], rejected[same:]
    if not chosen or not rejected:
        raise RowError(
            "chosen and rejected are the same dialogue, or one is the beginning of the other; "
            "expected an answer of its own in each"
        )
    return _opening(row, columns) + _shown_only(shared) + chosen + rejected


def _has_prompt(row: Row, columns: Columns) -> bool:
    names = ("prompt", "instruction")
    found = any(_named(row, columns, name) is not None for name in names)
    return found or _messages_of(row, columns)[1] is not None


def _prompt(row: Row, columns: Columns) -> list[Turn]:
    """The prompt that stands beside a pair; nothing when it is implicit."""
    prompt = _named(row, columns, "prompt")
    if prompt is not None:
        return _side(prompt, columns, "prompt", "user")
    if _named(row, columns, "instruction") is not None:
        return [_question(row, columns)]
    name, messages = _messages_of(row, columns)
    return [] if messages is None else _chat(messages, columns, name)


def _shared_turns(chosen: list[Turn], rejected: list[Turn]) -> int:
    """How many turns both sides begin with; equal last answers are answers."""
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        last = same == min(len(chosen), len(rejected)) - 1
        if a[1:3] != b[1:3] or (a[1] == _LEARNED and last):
            break
        same += 1
    return same


def _shared_words(answers: list[str]) -> int:
    """Where two texts part, after a space; TRL's `extract_prompt` may cut inside a word."""
    same = len(os.path.commonprefix(answers))  # noqa: RUF071 - characters are what is meant
    while same and not answers[0][same - 1].isspace():
        same -= 1
    return same
