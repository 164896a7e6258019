"""sharegpt: messages of `from` and `value`, usually in the column `conversations`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from didact.data.formats import messages

FORMAT: Final = replace(
    messages.FORMAT,
    fits=messages.from_and_value,
    reads_too=("messages", "alpaca", "prompt_completion"),
)
