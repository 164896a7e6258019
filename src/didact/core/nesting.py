"""How deep values lie in values, and how long their text is; what nobody can walk is no JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

DEEPEST: Final = 512  # levels; whatever walks a value level by level has a stack of 1,000
LONGEST: Final = 64 * 2**20  # bytes of a file of settings; the longest tokenizers have some 40 MiB


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


def read_settings(path: Path, *, longest: int = LONGEST) -> bytes:
    """The bytes of a file that holds settings, not data.

    Raises:
        ValueError: It has more than so many bytes; no more of it were read.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        found = file.read(longest + 1)
    if len(found) > longest:
        raise ValueError(f"more than {longest / 2**20:g} MiB; expected settings, not data")
    return found


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
