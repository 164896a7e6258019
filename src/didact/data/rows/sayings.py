"""What is said of rows that should be known of, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Saying:
    """A sentence and a setting.

    Attributes:
        text: The sentence; `{rows}` is "1 row" or "12 rows".
        remedy: The setting that changes it; "" where none does.
    """

    text: str
    remedy: str = ""


SAYINGS: Final[dict[str, Saying]] = {}
