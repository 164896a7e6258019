"""Results on stdout, messages on stderr."""

from __future__ import annotations

import sys
from typing import Any


def say(text: str) -> None:
    """Write a message to stderr."""
    sys.stderr.write(text + "\n")


def print_json(value: Any) -> None:
    """Write a result to stdout as JSON."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(value, option=options).decode() + "\n")
