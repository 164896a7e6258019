"""How deep values lie in values; JSON that nobody can walk is no JSON."""

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


def parse_json(text: str | bytes, *, levels: int = DEEPEST) -> Any:
    """`json.loads`, for which too deep is a ValueError as well.

    Raises:
        ValueError: It is not JSON, or has more than so many levels.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if raw.count(b"{") + raw.count(b"[") > levels and deeper_than(value, levels):
        raise ValueError(f"nested more than {levels} deep")
    return value
