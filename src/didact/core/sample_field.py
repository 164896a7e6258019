"""Which part of a sample a text scorer looks at."""

from __future__ import annotations

from typing import Literal

from didact.core.errors import ConfigError
from didact.core.pool import Pool

Part = Literal["text", "prompt", "completion"]


def check_part(pool: Pool, part: Part, setting: str, *, what: str = "pool") -> None:
    """Raise ConfigError when the pool's samples have no such part.

    Args:
        pool: The pool or target set.
        part: `text` is every turn, `prompt` what a trainer shows, `completion` what it learns.
        setting: The setting that asked for it, e.g. "score.length.field".
        what: "pool" or "target set", for the message.
    """
    if part != "text" and pool.kind == "text":
        raise ConfigError(
            f"{setting}={part}: the {what} is raw text, which has no {part}; use {setting}=text, "
            "or map prompt and completion columns with data.columns"
        )
