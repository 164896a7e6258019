"""Long texts → units of bounded length, cut at sentence or token ends; nothing is lost between."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

# After a sentence mark and the space behind it, after a mark of scripts that put no space, or at
# the end of a line.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？｡]+[」』”’]*\s*|\n+")


def cut(
    text: str, token_ends: npt.NDArray[np.int64], *, max_tokens: int, at_sentences: bool
) -> list[tuple[int, int]]:
    """Character spans that cover `text` in order.

    Args:
        text: The text, `len(text)` characters.
        token_ends: Character offsets where tokens end, ascending, `(t,)`.
        max_tokens: Most tokens of a span.
        at_sentences: Cut behind the last sentence end that fits; a sentence that is too long is cut
            at a token end. Otherwise every span is as long as it may be.

    Returns:
        Spans `(start, end)`; the first starts at 0, each starts where the last ended, and the last
        ends at `len(text)`.
    """
    sentence_ends = np.asarray(
        [m.end() for m in _SENTENCE_END.finditer(text)] if at_sentences else [], dtype=np.int64
    )
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        used = int(np.searchsorted(token_ends, start, side="right"))
        if used + max_tokens >= len(token_ends):
            end = len(text)
        else:
            end = int(token_ends[used + max_tokens - 1])
            best = int(np.searchsorted(sentence_ends, end, side="right")) - 1
            if best >= 0 and sentence_ends[best] > start:
                end = int(sentence_ends[best])
        end = max(end, start + 1)  # a token may cover no character of its own
        spans.append((start, end))
        start = end
    return spans
