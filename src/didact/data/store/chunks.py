"""Long texts → units of bounded length, cut at sentence or token ends; nothing is lost between."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from didact.core.arrays import Int1D

# After a sentence mark and the space behind it, after a mark of scripts that put no space, or at
# the end of a line.
_SENTENCE_END = re.compile(
    r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\u2019]*\s*|\n+"
)


def cut(
    text: str,
    token_ends: Int1D,
    count: Callable[[str], int],
    *,
    max_tokens: int,
    at_sentences: bool,
) -> list[tuple[int, int]]:
    """Character spans that cover `text` in order.

    Args:
        text: The text, `len(text)` characters.
        token_ends: Character offsets where tokens end, ascending, `(t,)`.
        count: Tokens of a text by itself, which may be more than it has inside a longer one.
        max_tokens: Most tokens of a span; only a single character may have more.
        at_sentences: Cut behind the last sentence end that fits; a sentence that is too long is cut
            at a token end. Otherwise every span is as long as it may be.

    Returns:
        Spans `(start, end)`; the first starts at 0, each starts where the last ended, and the last
        ends at `len(text)`.

    **Cost:** the tokens of the text are counted once, of a span that turns out too long again.
    """
    sentence_ends = np.asarray(
        [m.end() for m in _SENTENCE_END.finditer(text)] if at_sentences else [], dtype=np.int64
    )

    def end_of(start: int, tokens: int) -> int:
        used = int(np.searchsorted(token_ends, start, side="right"))
        if used + tokens >= len(token_ends):
            return len(text)
        end = int(token_ends[used + tokens - 1])
        best = int(np.searchsorted(sentence_ends, end, side="right")) - 1
        return int(sentence_ends[best]) if best >= 0 and sentence_ends[best] > start else end

    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        tokens = max_tokens
        end = max(end_of(start, tokens), start + 1)
        while end > start + 1 and (excess := count(text[start:end]) - max_tokens) > 0:
            tokens -= excess
            shorter = end_of(start, tokens) if tokens > 0 else (start + end) // 2
            end = max(min(shorter, end - 1), start + 1)
        spans.append((start, end))
        start = end
    return spans
