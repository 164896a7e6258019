"""What a row shows that should be known and that its turns no longer tell, by kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from didact.data.rows import json_text, reasoning
from didact.data.rows.columns import Columns, Row, get
from didact.data.rows.format import Format
from didact.data.rows.json_text import there
from didact.data.rows.labels import NAMES as LABELS
from didact.data.rows.labels import spelled
from didact.data.rows.turns import (
    CALL_PARTS,
    CALL_ROLES,
    CALLS,
    CONTENT_TEXTS,
    FUNCTIONS,
    RESULT_PARTS,
    ROLES,
    TOOLS,
    tools_of,
)

# column of a row, or type of a content's part → the kind of what stands there
MEDIA: Final = {
    **dict.fromkeys(("image", "images", "image_url", "input_image"), "images"),
    **dict.fromkeys(("audio", "audios", "audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("video", "videos", "video_url"), "video"),
}
MEDIA_NAMES: Final = ("images", "audios", "videos")  # columns of them that can be mapped
_MEDIA_KEYS: Final = frozenset(MEDIA)
FILES: Final = ("file", "input_file", "document")  # types of parts
_PART_KEYS: Final = frozenset((*CONTENT_TEXTS, *MEDIA))
_TOOL_PARTS: Final = (*CALL_PARTS, *RESULT_PARTS)
# columns that say whether an answer is good, beside those that are read as labels
VERDICTS: Final = (
    *("label", "kto_tag", "desirable", "is_desirable", "thumbs_up", "thumb_up", "is_good"),
    *("is_chosen", "liked", "accepted", "is_accepted", "is_preferred", "preferred"),
    *("is_correct", "correct", "feedback", "labels", "rating", "Label", "KTO_tag"),
    *("approved", "is_approved", "acceptable", "is_acceptable", "upvoted", "vote"),
)
# columns that say whether it is bad
FAULTS: Final = (
    *("rejected", "is_rejected", "thumbs_down", "thumb_down", "disliked", "downvoted", "is_bad"),
)
_STARS: Final = ("rating", "correct")  # a number in them is a grade, or the place of an option
# roles of tools' results, and the one of their calls, which is read as the assistant's
_TOOL_ROLES: Final = frozenset(
    (*CALL_ROLES, *(name for name, role in ROLES.items() if role == "tool"))
)
_CHATS: Final = ("messages", "conversations")
_PAIR: Final = ("chosen", "rejected")
_HALVES: Final = ("rejected_response", "rejected_messages")  # beside a chat with the chosen one
_ANSWERS: Final = (
    *("chosen", "rejected", "chosen_messages", *_HALVES, "completion"),
    *("preferred_output", "non_preferred_output", "input.messages", "question", "query"),
    *("chosen_response", "response"),
)


@dataclass(frozen=True, slots=True)
class Marks:
    """Tells what rows of a format show.

    Attributes:
        beside: Columns of which a row must have one to show anything, if its messages do not.
        verdicts: Columns that say whether the answer is good, if they are not read.
        label: The column of the label, if it is read; "" if not.
        pair: Columns of the answers of a pair.
        chats: Columns of messages, of which the first that is there is read.
        sides: Columns that hold a text, a message or several.
        named: The user's columns.
        dropped: Whether reasoning is left out of the turns, and with it what tells of it there.
        traces: Columns that may hold a reasoning trace and are not read.
        text: Whether rows are a text, beside which nothing is read.
    """

    beside: frozenset[str]
    verdicts: tuple[str, ...] = ()
    label: str = ""
    pair: tuple[str, ...] = ()
    chats: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    named: Columns = field(default_factory=dict)
    dropped: bool = False
    traces: tuple[str, ...] = ()
    text: bool = False

    def of(self, row: Row) -> list[str]:
        """The kinds that a row shows which could be read, each once.

        Returns:
            Names of `didact.data.rows.sayings.SAYINGS`, or `NAME:COLUMN`.

        **Cost:** about 1 µs for a row of two messages.
        """
        found: list[str] = []
        if not self.beside.isdisjoint(row):
            found += self._beside(row)
        if self.label:
            values = (get(row, self.label), *map(row.get, LABELS))
            if type(next((value for value in values if value is not None), None)) is not bool:
                found.append("label_spelled")
        null = self.pair and row.get("chosen_messages") is None
        if null and None in [get(row, name, row) for name in self.pair]:
            found.append("pair_null")
        for name in self.chats:
            value = get(row, name)
            if type(value) is str:
                found.append("json_text")
                value = json_text.parsed(value, list)
            if type(value) is list:
                found += self._of_messages(value)
                break
        for name in self.sides:
            found += self._of_side(get(row, name))
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def _beside(self, row: Row) -> Iterator[str]:
        """What stands beside the messages of a row."""
        yield from _media(row)
        if tools_of(row, self.named) is not None:
            yield "unread_tools" if self.text else "tools"
        elif not self.text and "tools" not in self.named and there(row.get(FUNCTIONS)):
            yield "unread_functions"
        for name in self.verdicts:
            value = get(row, name)
            if name in _STARS and not isinstance(value, bool) and _is_number(value):
                continue
            if spelled(value) is not None:
                yield f"{'unread_fault' if name in FAULTS else 'unread_label'}:{name}"
        for name in self.traces:
            if isinstance(row.get(name), str | list) and reasoning.trace_of(row[name]):
                kind = "text_reasoning" if self.text else "unread_reasoning"
                yield f"{'pair_reasoning' if self.pair else kind}:{name}"
        if self.dropped and (
            any(reasoning.beside_branch(row, self.named, side) for side in reasoning.BRANCHES)
            if self.pair
            else reasoning.beside_row(row, self.named)
        ):
            yield "reasoning_dropped"

    def _of_side(self, given: Any) -> Iterator[str]:
        value = json_text.as_messages(given)
        if value is not given:
            yield "json_text"
        if type(value) is list or type(value) is dict:
            yield from self._of_messages(value if type(value) is list else [value])
        elif self.dropped and type(value) is str and reasoning.in_text(value):
            yield "reasoning_dropped"

    def _of_messages(self, messages: list[Any]) -> Iterator[str]:
        content = self.named.get("content", "content")
        for message in messages:
            if (
                type(message) is not dict
                or len(message) != 2
                or self.dropped
                or (type(message.get(content)) is not str and type(message.get("value")) is not str)
                or _is_of_tool(message, self.named)
            ):
                yield from _of_message(message, self.named, dropped=self.dropped)


NO_MARKS: Final = Marks(frozenset())


def marks_of(form: Format, columns: Columns, *, dropped: bool = False) -> Marks:
    """What tells what rows of a format show.

    Args:
        form: The format. One of kind "pair" or "labelled" whose content stands in other columns
            than `chosen`, `rejected` and `label` is not asked about these.
        columns: The user's columns.
        dropped: Whether reasoning is left out of the turns.
    """
    kind = form.kind
    dropped = dropped and kind != "text"  # of which no trace is read

    def named(*names: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(columns.get(name, name) for name in names))

    chats: tuple[str, ...] = (*named("messages"), *_CHATS)
    sides: tuple[str, ...] = ("prompt", "completion")
    if kind == "pair":
        sides = ("prompt", *_ANSWERS)
    elif kind == "text":
        chats = sides = ()
    unread = form.label is None and kind == "chat" and columns.get("label") != "-"
    verdicts = (*VERDICTS, *FAULTS) if unread else ()
    label = (*named("label"), *LABELS) if form.label and "label" in form.content else ()
    tools = TOOLS if "tools" not in columns else named("tools")
    traces: tuple[str, ...] = reasoning.LOOSE_KEYS
    own = named("reasoning") if "reasoning" in columns else ()
    if kind in {"pair", "text"}:
        traces = (*own, *reasoning.ROW_KEYS, *traces)
    read = (*own, *reasoning.ROW_KEYS, *reasoning.PAIR_COLUMNS) if dropped else ()
    if columns.get("reasoning") == "-":
        traces = read = ()
    read_so = own if kind not in {"pair", "text"} else named("text") if kind == "text" else ()
    traces = tuple(name for name in dict.fromkeys(traces) if name not in read_so)
    return Marks(
        beside=frozenset(
            name.split(".")[0]
            for name in (*MEDIA, *named(*MEDIA_NAMES), *verdicts, *tools, *label, *traces, *read)
        ),
        verdicts=verdicts,
        label=label[0] if label else "",
        pair=(*named(*_PAIR), *_HALVES) if set(_PAIR) <= set(form.content) else (),
        chats=chats,
        sides=named(*sides),
        named=columns,
        dropped=dropped,
        traces=traces,
        text=kind == "text",
    )


def _media(holder: Row) -> Iterator[str]:
    """Images, audio and video under keys of a row, of a message or of a part of one."""
    if not _MEDIA_KEYS.isdisjoint(holder):
        for name, kind in MEDIA.items():
            if there(holder.get(name)):
                yield kind


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or str(value).lstrip("+-").replace(".", "").isdigit()


def _is_of_tool(message: Row, columns: Columns) -> bool:
    """Whether a message is a tool's result, or a call of one."""
    role = message.get(columns.get("role", "role"))
    role = message.get("from") if role is None else role
    return isinstance(role, str) and role.lower() in _TOOL_ROLES


def _of_message(message: Any, columns: Columns, *, dropped: bool) -> Iterator[str]:
    """What a message shows that is more than a role and a text."""
    message = json_text.parsed(message, dict)
    if type(message) is not dict:
        return
    content = message.get(columns.get("content", "content"))
    content = message.get("value") if content is None else content
    calls = any(there(message.get(key)) for key in CALLS)
    trace = bool(reasoning.trace_beside(message, columns)) or reasoning.is_trace(message)
    if calls or _is_of_tool(message, columns):
        yield "tools"
    if content is None and not calls and not trace:
        yield "null_turn"
    yield from _media(message)
    for piece in content if type(content) is list else ():
        if type(piece) is dict:
            yield from _of_part(piece)
            if piece.get("type") in RESULT_PARTS and not _is_of_tool(message, columns):
                yield "result_in_turn"
        trace = trace or reasoning.is_trace_part(piece)
    if dropped and (trace or (type(content) is str and reasoning.in_text(content))):
        yield "reasoning_dropped"


def _of_part(piece: Row) -> Iterator[str]:
    """What a part of a content shows."""
    yield from _media(piece)
    kind = piece.get("type")
    if isinstance(kind, str) and kind in MEDIA:
        yield MEDIA[kind]
    elif kind in FILES:
        yield "files"
    elif kind in _TOOL_PARTS:
        yield "tools"
    elif not (reasoning.is_trace_part(piece) or _PART_KEYS.intersection(piece)):
        yield "unread_part"
