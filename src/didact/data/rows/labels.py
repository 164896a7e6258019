"""How data sets spell whether an answer is good."""

from __future__ import annotations

from typing import Any, Final

SPELLINGS: Final = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "good", "desirable", "chosen", "like"), True),
    **dict.fromkeys(("false", "0", "0.0", "-1", "-1.0", "no", "bad", "undesirable"), False),
    **dict.fromkeys(("rejected", "dislike"), False),
    **dict.fromkeys(("correct", "pass", "passed", "accept", "accepted", "y", "t"), True),
    **dict.fromkeys(("incorrect", "wrong", "fail", "failed", "reject", "n", "f"), False),
    **dict.fromkeys(("thumbs_up", "liked", "+1", "up", "positive", "pos"), True),
    **dict.fromkeys(("thumbs_down", "disliked", "down", "negative", "neg"), False),
}
# Spellings that are as often a class; they are read where the user says which column is the label.
UNSURE: Final = frozenset(("up", "down", "positive", "negative", "pos", "neg"))
NAMES: Final = ("kto_tag", "Label", "KTO_tag")  # columns that are read where there is no `label`


def spelled(value: Any) -> bool | None:
    """Whether a label says good or bad; None when it says neither."""
    if isinstance(value, bool):
        return value
    return (
        SPELLINGS.get(str(value).strip().lower()) if isinstance(value, str | int | float) else None
    )


def surely_spelled(value: Any) -> bool | None:
    """The same of a label in a column that the user did not name."""
    return None if str(value).strip().lower() in UNSURE else spelled(value)
