"""How much room letters take in a chart, and where labels go so that none lies on another.

A chart is as wide as its place while its letters keep their size, so what fits the narrowest plot,
a phone's, fits every other: the distances between anchors only grow.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

from didact.reporting.formatting import visible

NARROW: Final = 290.0  # pixels of the narrowest plot, on a page of 390
SIZE: Final = 12.0  # pixels of a letter's height
ROW_SIZE: Final = 13.0  # of the name of a row
BESIDE: Final = 220.0  # pixels for the name of a row, left of the plot or above its line
LINE: Final = 15.0  # pixels from one line of letters to the next
_LEAST: Final = 8  # characters of a label; fewer say nothing
_ROOM: Final = 6.0  # pixels between two labels
_DOT: Final = 6.0  # half the side of a mark with its rim
_THIN: Final = frozenset(" .,:;'|ijlI!()[]-\u2019")
_BROAD: Final = frozenset("mwMW%@")

Anchor = Literal["start", "end"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A mark that wants a label.

    Attributes:
        x: 0-1 of the plot's width.
        y: Pixels from its top.
        text: What the label says; any length.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the label of a spot stands.

    Attributes:
        text: What it says, shortened where the plot is narrower.
        y: Pixels from the plot's top to its baseline.
        anchor: Which end of it is at the spot.
    """

    text: str
    y: float
    anchor: Anchor


def text_width(text: str, size: float = SIZE) -> float:
    """Pixels that a text takes, rather too many than too few: by the widest of common faces."""
    out = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in {"W", "F"}:
            out += 1.0
        elif unicodedata.combining(char):
            continue
        else:
            out += 0.42 if char in _THIN else 0.98 if char in _BROAD else 0.65
    return size * out


def fitted(text: str, room: float, size: float = SIZE) -> str:
    """The text, with '…' in place of its middle where it takes more than so many pixels.

    Names that begin alike differ at their ends: both stay.
    """
    text = visible(text)
    if text_width(text, size) <= room:
        return text
    kept = min(len(text) - 1, int(room / (0.3 * size)))
    while kept > 1:
        tail = kept * 2 // 5
        shown = f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
        if text_width(shown, size) <= room:
            return shown
        kept -= 1
    return "…"


def place_labels(
    spots: Sequence[Spot], marks: Sequence[tuple[float, float]], height: float
) -> list[Placed | None]:
    """Places for labels beside their spots: no two lie on each other, on a mark, or off the plot.

    Args:
        spots: The marks that want one; earlier ones choose first.
        marks: All marks, x 0-1 and y in pixels; the spots are among them.
        height: Pixels of the plot.

    Returns:
        One for each spot; None where there is no place left. Good for plots from `NARROW` on.
    """
    taken: list[Box] = []
    dots = [_dot(x, y) for x, y in marks]
    out: list[Placed | None] = []
    for spot in spots:
        found = next(
            (
                (placed, box)
                for placed, box in _places(spot, height)
                if not any(map(box_meets, [box] * len(taken), taken))
                and not any(map(box_meets, [box] * len(dots), dots))
            ),
            None,
        )
        out.append(found[0] if found else None)
        if found:
            taken.append(found[1])
    return out


def _places(spot: Spot, height: float) -> list[tuple[Placed, Box]]:
    """Where a label may stand, the closest first."""
    x = NARROW * spot.x
    out = []
    for step in range(1, int(height / LINE) + 1):
        for anchor, room in (("start", NARROW - x), ("end", x)):
            text = fitted(spot.text, min(max(room, 0.0), NARROW * 0.55))
            width = text_width(text)
            if width > room or len(text) < min(_LEAST, len(spot.text)):
                continue
            left = x if anchor == "start" else x - width
            for y in (spot.y - 9 - LINE * (step - 1), spot.y + 18 + LINE * (step - 1)):
                box = (left - _ROOM / 2, y - SIZE + 1, left + width + _ROOM / 2, y + 3)
                if box[1] >= 0 and box[3] <= height:
                    out.append((abs(y - spot.y), -room, Placed(text, y, anchor), box))  # type: ignore[arg-type]
    return [each[2:] for each in sorted(out, key=lambda each: each[:2])]


def _dot(x: float, y: float) -> Box:
    return (NARROW * x - _DOT, y - _DOT, NARROW * x + _DOT, y + _DOT)


def box_meets(one: Box, other: Box) -> bool:
    """Whether two boxes share more than an edge."""
    return (
        one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    )  # fmt: skip


def clear_of(texts: Sequence[tuple[float, str]]) -> list[bool]:
    """Which texts along a line leave each other room on the narrowest plot.

    Args:
        texts: Where each stands, 0-1, ascending, and what it says; those at the ends are written
            inwards.

    Returns:
        True for those that stand; the first and the last do where they can.
    """
    boxes = [_along(at, text) for at, text in texts]
    out = [False] * len(texts)
    order = chain(dict.fromkeys([0, len(texts) - 1]) if texts else (), range(1, len(texts) - 1))
    kept: list[tuple[float, float]] = []
    for i in order:
        a, b = boxes[i]
        if all(b + _ROOM <= c or d + _ROOM <= a for c, d in kept):
            kept.append((a, b))
            out[i] = True
    return out


def _along(at: float, text: str) -> tuple[float, float]:
    """The pixels that the text of a tick takes."""
    width, x = text_width(text), NARROW * at
    side = anchor_at(at)
    left = x if side == "start" else x - width if side == "end" else x - width / 2
    return left, left + width


def anchor_at(at: float) -> Literal["start", "middle", "end"]:
    """How the text of a tick stands to it, so that none runs off the plot."""
    return "start" if at < 0.03 else "end" if at > 0.93 else "middle"
