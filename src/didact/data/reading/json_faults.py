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
_CUT: Final = (
    "it ends before the object does: the file was cut short there (copy or download it again), or "
    "an object over several lines belongs into an array, or on one line"
)
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
    found = _by_place(text, error)
    return f": {found}" if found else ""


def _by_place(text: str, error: json.JSONDecodeError) -> str:
    """By what stands where the text stops being JSON."""
    at = text[error.pos :].lstrip()
    if not at or error.msg.startswith("Unterminated string"):
        return _CUT
    if error.msg == "Extra data":
        return _extra(text, error.pos, at)
    if text[: error.pos].rstrip().endswith(",") and at[:1] in ("}", "]", ","):
        twice = "two commas stand in a row: remove one"
        return twice if at[0] == "," else TRAILING_COMMA.format(mark=at[0])
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
