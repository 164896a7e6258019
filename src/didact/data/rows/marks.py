"""What a row shows that should be known and that its turns no longer tell, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from didact.core.pool import Kind
from didact.data.rows import json_text, reasoning
from didact.data.rows.columns import Columns, Row, get

# column of a row, or type of a content's part → the kind of what stands there
MEDIA: Final = {
    **dict.fromkeys(("image", "images", "image_url", "input_image"), "images"),
    **dict.fromkeys(("audio", "audios", "audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("video", "videos", "video_url"), "video"),
}
# columns that say whether an answer is good, beside those that are read as labels
VERDICTS: Final = (
    *("label", "kto_tag", "desirable", "is_desirable", "thumbs_up", "thumb_up", "is_good"),
    *("is_chosen", "liked", "accepted", "is_accepted", "is_preferred", "preferred"),
)
_TRUTHS: Final = frozenset(("true", "false", "0", "1", "good", "bad", "desirable", "undesirable"))
_TOOLS: Final = ("tools", "functions")
_CALLS: Final = ("tool_calls", "function_call")
_TOOL_ROLES: Final = frozenset(("tool", "function", "function_call", "observation", "ipython"))
_CHATS: Final = ("messages", "conversations")
_ANSWERS: Final = ("chosen", "rejected", "chosen_messages", "rejected_messages")


@dataclass(frozen=True, slots=True)
class Marks:
    """Tells what rows of a format show.

    Attributes:
        columns: Columns of which a row must have one to show anything, if its messages do not.
        of: A row that could be read → kinds, names of `didact.data.rows.sayings.SAYINGS` or
            `NAME:COLUMN`, each at most once.
    """

    columns: frozenset[str]
    of: Callable[[Row], list[str]]


def marks_of(kind: Kind, columns: Columns, *, labelled: bool, dropped: bool = False) -> Marks:
    """What tells what rows of a format show.

    Args:
        kind: What the samples are.
        columns: The user's columns.
        labelled: Whether the format reads a label.
        dropped: Whether reasoning is left out of the turns, and with it what tells of it there.

    **Cost:** about 1 µs a row of two messages.
    """

    def named(*names: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(columns.get(name, name) for name in names))

    tools = named(*_TOOLS)
    unread = not labelled and kind == "chat" and columns.get("label") != "-"
    verdicts = VERDICTS if unread else ()
    beside = frozenset((*MEDIA, *tools, *verdicts))
    label = columns.get("label", "label")
    chats, sides, pair = (*named("messages"), *_CHATS), named("prompt", "completion"), ()
    if kind == "pair":
        pair, sides = named("chosen", "rejected"), named("prompt", *_ANSWERS)
    elif kind == "text":
        chats = sides = ()
    content, role = (columns.get(name, name) for name in ("content", "role"))

    def of_messages(messages: list[Any]) -> Iterator[str]:
        for message in messages:
            if (
                type(message) is not dict
                or len(message) != 2
                or dropped
                or (type(message.get(content)) is not str and type(message.get("value")) is not str)
                or message.get(role, message.get("from")) in _TOOL_ROLES
            ):
                yield from _of_message(message, columns, dropped=dropped)

    def of(row: Row) -> list[str]:
        found: list[str] = []
        if not beside.isdisjoint(row):
            found += _beside(row, tools, verdicts)
        if labelled and type(row.get(label, row.get("kto_tag"))) is not bool:
            found.append("label_spelled")
        if pair and row.get("chosen_messages") is None and None in [get(row, n) for n in pair]:
            found.append("pair_null")
        for name in chats:
            value = get(row, name)
            if type(value) is str:
                found.append("json_text")
                value = json_text.parsed(value, list)
            if type(value) is list:
                found += of_messages(value)
                break
        for name in sides:
            value = get(row, name)
            if type(value) is list or type(value) is dict:
                found += of_messages(value if type(value) is list else [value])
            elif dropped and type(value) is str and reasoning.in_text(value):
                found.append("reasoning_dropped")
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    return Marks(beside, of)


def there(value: Any) -> bool:
    """Whether a column holds something: no null, no empty text or list, no JSON text of these."""
    return bool(value) and value not in json_text.NOTHING


def _beside(row: Row, tools: tuple[str, ...], verdicts: tuple[str, ...]) -> Iterator[str]:
    """What stands beside the messages of a row."""
    for name, kind in MEDIA.items():
        if there(row.get(name)):
            yield kind
    if any(there(row.get(name)) for name in tools):
        yield "tools"
    for name in verdicts:
        value = row.get(name)
        if value is not None and str(value).strip().lower() in _TRUTHS:
            yield f"unread_label:{name}"


def _of_message(message: Any, columns: Columns, *, dropped: bool) -> Iterator[str]:
    """What a message shows that is more than a role and a text."""
    message = json_text.parsed(message, dict)
    if type(message) is not dict:
        return
    content = message.get(columns.get("content", "content"))
    content = message.get("value") if content is None else content
    calls = any(there(message.get(key)) for key in _CALLS)
    trace = bool(reasoning.beside(message, columns))
    if calls or message.get(columns.get("role", "role"), message.get("from")) in _TOOL_ROLES:
        yield "tools"
    if content is None and not calls and not trace:
        yield "null_turn"
    for piece in content if type(content) is list else ():
        kind = MEDIA.get(piece.get("type")) if type(piece) is dict else None
        if kind is not None:
            yield kind
        trace = trace or reasoning.is_part(piece)
    if dropped and (trace or (type(content) is str and reasoning.in_text(content))):
        yield "reasoning_dropped"
