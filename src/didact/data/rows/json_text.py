"""Messages and tools written as JSON text, as tables without lists have them."""

from __future__ import annotations

from typing import Any, Final

import orjson

NOTHING: Final = ("", "[]", "{}", "null")  # texts that say there is none


def parsed(value: Any, kind: type) -> Any:
    """The list or object that a text is as JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("[" if kind is list else "{"):
        return value
    try:
        found = orjson.loads(value)  # strict: no half surrogate pairs, no deep nesting
    except orjson.JSONDecodeError:
        return value
    return found if isinstance(found, kind) else value


def why_not(value: Any) -> str:
    """What to do about a text that is no list as JSON; "" about anything else."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return ""
    if value.lstrip()[1:].lstrip().startswith(("{'", "{\n'", "array(")):
        return ": the text is Python's way to write one; write it with json.dumps"
    return ": the text looks like JSON and is not valid; write it with json.dumps"
