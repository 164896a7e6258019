"""What a row shows that should be known and that its turns no longer tell, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from didact.core.pool import Kind
from didact.data.rows import json_text, reasoning
from didact.data.rows.columns import Columns, Row, get

Marks = Callable[[Row], list[str]]

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


def marks_of(
    kind: Kind, columns: Columns, *, labelled: bool, dropped: bool = False
) -> Marks:
    """The function that tells what a row shows, of one that could be read.

    Args:
        kind: What the samples are.
        columns: The user's columns.
        labelled: Whether the format reads a label.
        dropped: Whether reasoning is left out of the turns, and with it what tells of it there.

    Returns:
        Row → kinds, names of `didact.data.rows.sayings.SAYINGS`, each at most once.

    **Cost:** about 0.4 µs for a plain chat of two turns.
    """
    tools = tuple(dict.fromkeys(columns.get(name, name) for name in _TOOLS))
    unread = not labelled and kind == "chat" and columns.get("label") != "-"
    verdicts = VERDICTS if unread else ()
    watched = frozenset((*MEDIA, *tools, *verdicts))
    label = columns.get("label", "label")
    chats = tuple(dict.fromkeys((columns.get("messages", "messages"), *_CHATS)))
    chats = chats if kind != "text" else ()
    texts = ("prompt", "completion", *(_ANSWERS if kind == "pair" else ()))
    sides = tuple(columns.get(name, name) for name in texts) if kind != "text" else ()
    pair = tuple(columns.get(n, n) for n in ("chosen", "rejected")) if kind == "pair" else ()
    content, role = (columns.get(name, name) for name in ("content", "role"))

    def plain(message: Any) -> bool:
        """Whether a message is of a role and a text and no more; most are."""
        return (
            type(message) is dict
            and len(message) == 2
            and (type(message.get(content)) is str or type(message.get("value")) is str)
            and message.get(role, message.get("from")) not in _TOOL_ROLES
            and not dropped
        )

    def marks(row: Row) -> list[str]:
        found: list[str] = []
        if not watched.isdisjoint(row):
            found += _beside(row, tools, verdicts)
        if pair and row.get("chosen_messages") is None and None in [get(row, n) for n in pair]:
            found.append("pair_null")
        if labelled and type(row.get(label, row.get("kto_tag"))) is not bool:
            found.append("label_spelled")
        for name in chats:
            value = row.get(name) if "." not in name else get(row, name)
            if type(value) is str:
                found.append("json_text")
                value = json_text.parsed(value, list)
            if type(value) is list:
                for message in value:
                    if not plain(message):
                        found += _of_message(message, columns, dropped=dropped)
        for name in sides:
            value = row.get(name) if "." not in name else get(row, name)
            if type(value) is list or type(value) is dict:
                for message in value if type(value) is list else [value]:
                    if not plain(message):
                        found += _of_message(message, columns, dropped=dropped)
            elif dropped and type(value) is str and reasoning.in_text(value):
                found.append("reasoning_dropped")
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    return marks


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
