"""Results on stdout, messages on stderr."""

from __future__ import annotations

import sys
from typing import Any, Final

GO_ON: Final = "run the same command again to go on where it stopped"


def say(text: str) -> None:
    """Write a message to stderr."""
    sys.stderr.write(inert(text, kept="\n\t") + "\n")


def inert(text: str, kept: str = "") -> str:
    """Text that cannot steer a terminal: control characters and the like as escapes.

    Messages hold names of files and values of rows, which may come from anybody.

    Args:
        text: The text.
        kept: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return "⏎" if character == "\n" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def print_json(value: Any) -> None:
    """Write a result to stdout as JSON."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(value, option=options).decode() + "\n")
