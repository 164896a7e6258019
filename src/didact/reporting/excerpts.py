"""Excerpts of long texts: where to cut in every script, and what is left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.reporting.formatting import shorten

TURN_CAP: Final = 40
ROLE_WIDTH: Final = 40
# Of the room: an earlier end of a sentence, or of a word, is passed over.
_LEAST_SENTENCE, _LEAST_WORD = 0.3, 0.5
# Full stops of scripts that write a space behind them, quotes and brackets that may follow, and
# those of scripts that do not: Chinese and Japanese, Devanagari, Khmer, Myanmar, Tibetan, Ethiopic.
_SENTENCE: Final = re.compile(
    r"[.!?\u061f\u06d4\u0589\u05c3\u2026]+[\"')\]\u00bb\u201d\u2019]*(?=\s|$)\s*"
    r"|[\u3002\uff01\uff1f\uff61\u0964\u0965\u17d4\u17d5\u104a\u104b\u0f0d\u0f0e\u1362\u1367]"
    r"[\"')\]\u00bb\u201d\u2019\u300d\u300f\uff09]*\s*"
    r"|\s*\n\s*"
)
_WORD: Final = re.compile(r"\s+|[\u3001\uff0c\u060c\u200b]\s*")
_ZWJ: Final = "\u200d"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a sample; the role of raw text is empty."""

    role: str
    text: str

    @property
    def length(self) -> int:
        """Characters of its text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a sample.

    Attributes:
        turns: Its turns, the last one cut where need be.
        characters: Length of the whole text.
        shown: Characters in `turns`.
    """

    turns: tuple[Turn, ...]
    characters: int
    shown: int


def place_to_cut(text: str, at_most: int) -> int:
    """Where a text may end without tearing what is read as one.

    After the last sentence, unless it ends in the first third of the room; else after the last
    word; else between two characters as a reader sees them, so that no accent, joined emoji or flag
    is torn (in scripts that write no spaces a word may be).

    Args:
        text: Any text.
        at_most: Characters there is room for, > 0.

    Returns:
        A length, 1 to `at_most`; that of the text where it fits.
    """
    if len(text) <= at_most:
        return len(text)
    for boundary, least in ((_SENTENCE, _LEAST_SENTENCE), (_WORD, _LEAST_WORD)):
        ends = [m.end() for m in boundary.finditer(text, 0, at_most + 1)]
        at = max((e for e in ends if e <= at_most), default=0)
        if at >= least * at_most:
            return at
    at = at_most
    while at > 1 and _joined(text, at):
        at -= 1
    return at if at > 1 else at_most


def _joined(text: str, at: int) -> bool:
    """Whether the characters on both sides of a place are read as one."""
    before, after = text[at - 1], text[at]
    if unicodedata.category(after)[0] == "M" or _ZWJ in {before, after}:
        return True
    if 0x1F3FB <= ord(after) <= 0x1F3FF:  # skin tones
        return True
    if not _is_flag(before) or not _is_flag(after):
        return False
    run = at
    while run and _is_flag(text[run - 1]):
        run -= 1
    return (at - run) % 2 == 1


def _is_flag(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def read_turns(pool: Pool, rows: Sequence[int] | Int1D, step: int = 16) -> list[list[Turn]]:
    """The turns of some rows; only `step` whole samples are in memory together.

    **Cost:** reads the pages of the store that the rows lie on.
    """
    columns = {"text": ["text"], "pair": ["messages", "chosen", "rejected"]}.get(
        pool.kind, ["messages"]
    )
    out = []
    for at in range(0, len(rows), step):
        out += [_turns(found) for found in pool.read(rows[at : at + step], columns).to_pylist()]
    return out


def _turns(found: Mapping[str, Any]) -> list[Turn]:
    """The turns of one row as `Pool.read` gives them."""
    if "text" in found:
        return [Turn("", found["text"] or "")]
    out = [Turn(m["role"] or "", m["content"] or "") for m in found["messages"]]
    return out + [Turn(k, found[k] or "") for k in ("chosen", "rejected") if k in found]


def excerpt(turns: Sequence[Turn], at_most: int) -> Excerpt:
    """The turns within so many characters, at most `TURN_CAP` of them."""
    out, room = [], at_most
    for turn in turns[:TURN_CAP]:
        if room <= 0:
            break
        text = turn.text[: place_to_cut(turn.text, room)]
        out.append(Turn(shorten(turn.role, ROLE_WIDTH), text))
        room = room - len(text) if len(text) == len(turn.text) else 0
    shown = sum(len(turn.text) for turn in out)
    return Excerpt(tuple(out), sum(len(turn.text) for turn in turns), shown)


def parted(turns: Sequence[Turn], room: int, spare: int) -> tuple[list[Turn], list[Turn]]:
    """What of a sample is seen at once, and what a reader has to open.

    Args:
        turns: The turns.
        room: Characters that are seen at once.
        spare: A rest of at most so many is not worth a click.
    """
    head: list[Turn] = []
    tail: list[Turn] = []
    for turn in turns:
        if tail or room <= 0:
            tail.append(turn)
            continue
        whole = len(turn.text) <= room + spare
        cut = len(turn.text) if whole else place_to_cut(turn.text, room)
        head.append(Turn(turn.role, turn.text[:cut]))
        if cut < len(turn.text):
            tail.append(Turn("", turn.text[cut:]))
        room -= cut
    return head, tail
