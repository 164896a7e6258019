"""How data sets spell whether an answer is good."""

from __future__ import annotations

from typing import Any, Final

SPELLINGS: Final = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "good", "desirable", "chosen", "like"), True),
    **dict.fromkeys(("false", "0", "0.0", "-1", "-1.0", "no", "bad", "undesirable"), False),
    **dict.fromkeys(("rejected", "dislike"), False),
}


def spelled(value: Any) -> bool | None:
    """Whether a label says good or bad; None when it says neither."""
    if isinstance(value, bool):
        return value
    return (
        SPELLINGS.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None
    )
