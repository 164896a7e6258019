"""Messages and tools written as JSON text, as tables without lists have them."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from didact.core.nesting import too_deep
from didact.data.rows.columns import RowError, shown

MESSAGE_KEYS: Final = ("content", "value", "tool_calls", "function_call")  # a message has one
_PYTHON: Final = re.compile(
    r"(array\()?[\[\s]*\{\s*'(role|from)':\s.*'(content|value)':\s"
    r"|(array\()?[\[\s]*\{\s*'(content|value)':\s.*'(role|from)':\s",
    re.DOTALL,
)
NOTHING: Final = ("", "[]", "{}", "null")  # texts that say there is none


def there(value: Any) -> bool:
    """Whether something is there: no null, no empty text or list, no JSON text of these."""
    return value.strip() not in NOTHING if isinstance(value, str) else bool(value)


def parsed(value: Any, kind: type) -> Any:
    """The list or object that a text is as JSON; any other value as it is.

    A text that is nested deeper than a row may be is no JSON.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("[" if kind is list else "{"):
        return value
    try:
        found = orjson.loads(value)  # strict: no half surrogate pairs, no deep nesting
    except orjson.JSONDecodeError:
        return value
    return found if isinstance(found, kind) and not too_deep(value, found) else value


def as_messages(value: Any) -> Any:
    """The messages, one or several, that a text is as JSON; any other value as it is.

    Raises:
        RowError: It is how Python prints messages, which would be read as a text.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in {"[", "{", "a"}:
        return value
    if _PYTHON.match(value.lstrip()) and value.rstrip()[-1] in "]})":
        raise RowError(
            f"the text {shown(value)} is Python's way to write messages; write them with json.dumps"
        )
    found = parsed(parsed(value, list), dict)
    listed = found if isinstance(found, list) else [found]
    return found if listed and all(map(_is_message, listed)) else value


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    role = value.get("role", value.get("from"))
    return isinstance(role, str) and any(key in value for key in MESSAGE_KEYS)


def why_not(value: Any) -> str:
    """What to do about a text that is no list as JSON; "" about anything else."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return ""
    if value.lstrip()[1:].lstrip().startswith(("{'", "{\n'", "array(")):
        return ": the text is Python's way to write one; write it with json.dumps"
    return ": the text looks like JSON and is not valid, or nested deep; write it with json.dumps"
