"""What is wrong with a text that is not JSON, by what people write instead of it."""

from __future__ import annotations

import json
import re
from typing import Final

_LITERALS: Final = re.compile(r"(True|False|None|undefined|NULL|TRUE|FALSE)\b")
_BARE_KEY: Final = re.compile(r"[A-Za-z_$][\w$]*\s*:")
_COMMENTS: Final = ("//", "/*", "#")
# what json.loads says: what to do about it
_MESSAGES: Final = {
    "Invalid control character": "{mark} stands inside a text, where JSON has an escape: write it "
    "with json.dumps",
    "Invalid \\escape": "a backslash begins no escape: double it, or write it with json.dumps",
    "Expecting ',' delimiter": "a comma is missing before {at}",
    "Expecting ':' delimiter": "a colon is missing before {at}",
}
TRAILING_COMMA: Final = "a comma stands before {mark!r}; JSON has none there: remove it"


def remedy(text: str, error: ValueError | RecursionError) -> str:
    """What to change, as the end of a sentence; "" where nothing is known.

    Args:
        text: The text.
        error: What `json.loads` says of it.
    """
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return ""
    return next((f": {found}" for found in (_by_place(text, error), _by_end(text)) if found), "")


def _by_place(text: str, error: json.JSONDecodeError) -> str:
    """By what stands where the text stops being JSON."""
    at = text[error.pos :].lstrip()
    if error.msg == "Extra data":
        return _extra(text, error.pos, at)
    if text[: error.pos].rstrip().endswith(",") and at[:1] in ("}", "]", ","):
        if at[0] == ",":
            return "two commas stand in a row: remove one"
        return TRAILING_COMMA.format(mark=at[0])
    if found := _instead(at):
        return found
    for message, what in _MESSAGES.items():
        if error.msg.startswith(message):
            return what.format(at=repr(at[:20]), mark=repr(text[error.pos : error.pos + 1]))
    return ""


def _instead(at: str) -> str:
    """What other languages write where JSON has something else."""
    if at.startswith("'"):
        return "single quotes are Python's; JSON has double quotes: write it with json.dumps"
    if at.startswith(_COMMENTS):
        return f"{at[:20]!r} is a comment; JSON has none: remove it"
    if (literal := _LITERALS.match(at)) is not None:
        return f"{literal[0]} is not JSON's true, false or null: write it with json.dumps"
    if _BARE_KEY.match(at) is not None:
        return f"the key {at.partition(':')[0].strip()[:40]!r} has no double quotes"
    return ""


def _extra(text: str, place: int, at: str) -> str:
    """What stands behind a whole value."""
    between = text[place - 1 : len(text) - len(at)]
    if "\r" in text[:place] + between and at[:1] in ("{", "["):
        return (
            "the rows are parted by carriage returns (\\r); expected line feeds: convert the file, "
            "e.g. tr '\\r' '\\n' < FILE > NEW.jsonl"
        )
    if at.startswith("{"):
        return "two objects stand here with neither a comma nor a line end between them"
    if at.startswith(","):
        return "a comma stands behind the object; lines of JSON have none: remove it"
    return _instead(at) or f"{at[:20]!r} stands behind it"


def _by_end(text: str) -> str:
    """By how the text ends."""
    if text.rstrip().endswith(("{", "[", ",")):
        return "an object over several lines belongs into an array, or on one line"
    return ""
