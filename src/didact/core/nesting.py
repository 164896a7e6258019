"""How deep values lie in values: what nobody can walk is no JSON."""

from __future__ import annotations

import json
from typing import Any, Final

DEEPEST: Final = 512  # levels; whatever walks a value level by level has a stack of 1,000


def deeper_than(value: Any, levels: int) -> bool:
    """Whether a JSON value has more than so many levels of objects and arrays; 0 for a scalar.

    **Cost:** every value once, some 50 ns each; no stack.
    """
    level = [value]
    for _ in range(levels + 1):
        level = [v for v in level if type(v) is dict or type(v) is list]
        if not level:
            return False
        level = [v for each in level for v in (each.values() if type(each) is dict else each)]
    return True


def too_deep(text: str | bytes, value: Any, levels: int = DEEPEST) -> bool:
    """Whether the value of a JSON text has more than so many levels.

    **Cost:** of a text that is short, or has few brackets, next to nothing.
    """
    if len(text) <= 2 * levels:  # a bracket and its end for every level
        return False
    raw: Any = text
    brackets = ("{", "[") if isinstance(text, str) else (b"{", b"[")
    return sum(map(raw.count, brackets)) > levels and deeper_than(value, levels)


def parse_json(text: str | bytes, *, levels: int = DEEPEST) -> Any:
    """`json.loads`, for which too deep is a ValueError as well.

    Raises:
        ValueError: It is not JSON, or has more than so many levels.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if too_deep(text, value, levels):
        raise ValueError(f"nested more than {levels} deep")
    return value
