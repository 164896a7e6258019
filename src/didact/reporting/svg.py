"""Pieces of a chart: text that is safe, lengths in per cent, ticks, and the frame around it all.

Charts have no view box: horizontal positions are per cent of the plot and vertical ones pixels, so
that a chart is as wide as its place while its letters keep their size, on a phone as on a desk.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import pairwise

from didact.reporting.formatting import visible
from didact.reporting.lettering import (
    LINE,
    NARROW,
    Spot,
    anchor_at,
    clear_of,
    fitted,
    place_labels,
    text_width,
)

_BESIDE = 38.0  # pixels for the texts of a vertical axis on a phone

Tick = tuple[float, str]
"""Where a tick stands, 0-1 along its axis, and what it says."""


def tag(name: str, /, *children: str, **attributes: str | float) -> str:
    """One element. Attribute names write `-` as `_` and may end in `_`; values are escaped."""
    out = [f"<{name}"]
    for key, value in attributes.items():
        shown = trim(value) if isinstance(value, int | float) else escape(value)
        out.append(f' {key.rstrip("_").replace("_", "-")}="{shown}"')
    out.append(f">{''.join(children)}</{name}>" if children else "/>")
    return "".join(out)


def escape(text: str) -> str:
    """User text for an attribute or an element."""
    return html.escape(visible(text))


def label(text: str, **attributes: str | float) -> str:
    """A piece of text."""
    return tag("text", escape(text), **attributes)


def title(text: str) -> str:
    """What a pointer that rests on an element is told."""
    return tag("title", escape(text))


def trim(value: float) -> str:
    """A number with at most two decimals and no zeros behind them."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def across(share: float) -> str:
    """A horizontal position or length, 0-1 of the plot's width."""
    return f"{trim(100 * share)}%"


def tick_distance(low: float, high: float, at_most: int) -> float:
    """The round distance (1, 2 or 5 times a power of ten) that gives at most so many ticks."""
    rough = (high - low) / max(at_most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, at_most: int = 5) -> list[float]:
    """Round values within [low, high], evenly apart; the ends themselves when they are equal."""
    if not high - low > 1e-300:  # no power of ten is that small
        return [low]
    distance = tick_distance(low, high, at_most)
    first, last = math.ceil(low / distance - 1e-9), math.floor(high / distance + 1e-9)
    return [round(i * distance, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], at most eight; 1, 2, 5 times them where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(tens) >= 3:
        return tens[:: math.ceil(len(tens) / 8)]
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    return fine[:: max(1, math.ceil(len(fine) / 6))]


def path(points: Sequence[tuple[float, float | None]], height: float) -> str:
    """A polyline through (x in 0-1, y in pixels) for the stretched layer; None lifts the pen."""
    out, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        out.append(f"{pen}{trim(1000 * x)} {trim(min(max(y, 0), height))}")
        pen = "L"
    return "".join(out)


def areas(
    xs: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None], height: float
) -> str:
    """Closed outlines between two lines, one for each run without a gap."""
    out, run = [], list[int]()
    for i in range(len(xs) + 1):
        if i < len(xs) and lows[i] is not None and highs[i] is not None:
            run.append(i)
            continue
        if run:
            there = [(xs[j], highs[j]) for j in run]
            back = [(xs[j], lows[j]) for j in reversed(run)]
            out.append(path([*there, *back], height) + "Z")
        run = []
    return "".join(out)


def step_line(edges: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """The corners of a step line: each value over its own interval."""
    return [(x, v) for (a, b), v in zip(pairwise(edges), values, strict=True) for x in (a, b)]


def stretched(*children: str, height: float) -> str:
    """A layer that is 1000 units wide whatever the plot's width; strokes keep theirs."""
    return tag(
        "svg", *children, width="100%", height=height, viewBox=f"0 0 1000 {trim(height)}",
        preserveAspectRatio="none", overflow="visible",
    )  # fmt: skip


def frame(
    *marks: str,
    described: str,
    height: float,
    x_ticks: Sequence[Tick],
    y_ticks: Sequence[Tick],
    x_label: str,
    y_label: str,
    kind: str,
    second_ticks: Sequence[Tick] = (),
) -> str:
    """A chart: grid, axes with units, marks.

    Args:
        marks: What is drawn, in order.
        described: The chart in a sentence, for who cannot see it.
        height: Height of the plot, pixels; axes and labels stand around it.
        x_ticks: Ticks of the horizontal axis, 0 at the left.
        y_ticks: Ticks of the vertical axis, 0 at the bottom.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis; written above the plot.
        kind: CSS class.
        second_ticks: Ticks of another quantity along the horizontal axis, a line below the first;
            the label names both.
    """
    out = []
    for at, text in y_ticks:
        y = height * (1 - at)
        out.append(tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y))
        if text_width(text) <= _BESIDE:
            out.append(label(text, class_="tick", x=-8, y=y + 4, text_anchor="end"))
    out.extend(marks)
    for at, text in y_ticks:  # too long for the place beside the plot: inside, on its line
        if text_width(text) > _BESIDE:
            out.append(label(text, class_="tick inside", x=3, y=height * (1 - at) - 3))
    out.append(tag("line", class_="axis", x1="0", x2="100%", y1=height, y2=height))
    for at, _ in x_ticks:
        x = across(at)
        out.append(tag("line", class_="axis", x1=x, x2=x, y1=height, y2=height + 5))
    out.extend(_tick_texts(x_ticks, height + 19))
    out.extend(_tick_texts(second_ticks, height + 36))
    if x_label:
        y = height + (56 if second_ticks else 38)
        out.append(_name(x_label, x="100%", y=y, text_anchor="end"))
    if y_label:
        out.append(_name(y_label, x=-44, y=-14))
    return tag(
        "svg", *out, class_=f"chart {kind}", role="img", width="100%", height=height,
        aria_label=described,
    )  # fmt: skip


def named(spots: Sequence[Spot], marks: Sequence[tuple[float, float]], height: float) -> list[str]:
    """Labels beside their marks, with a line to those that had to move away.

    Args:
        spots: The marks that want one; earlier ones choose first, and one may go without.
        marks: All marks, x 0-1 and y in pixels.
        height: Pixels of the plot.
    """
    out = []
    for spot, placed in zip(spots, place_labels(spots, marks, height), strict=True):
        if placed is None:
            continue
        x, far = across(spot.x), placed.y - spot.y
        if abs(far) > 2 * LINE:
            end = placed.y + 3 if far < 0 else placed.y - 11
            out.append(tag("line", class_="leader", x1=x, x2=x, y1=spot.y, y2=end))
        out.append(
            label(placed.text, class_="tick mark", x=x, y=placed.y, text_anchor=placed.anchor)
        )
    return out


def _tick_texts(ticks: Sequence[Tick], y: float) -> list[str]:
    """Texts of ticks along the axis; a phone shows those that leave each other room."""
    return [
        label(text, class_="tick" if clear else "tick wide", x=across(at), y=y,
              text_anchor=anchor_at(at))
        for (at, text), clear in zip(ticks, clear_of(ticks), strict=True)
    ]  # fmt: skip


def _name(text: str, **attributes: str | float) -> str:
    """The name of an axis; what a phone has no room for is shown on wider pages."""
    room = NARROW + _BESIDE
    if text_width(text) <= room:
        return label(text, class_="name", **attributes)
    ends = [i for i, char in enumerate(text) if char == " " and text_width(text[:i]) <= room]
    cut = ends[-1] if ends else 0
    comma = text.rfind(",", 0, cut + 1)
    cut = comma if comma > cut // 2 else cut
    if not cut:
        return label(fitted(text, room), class_="name", **attributes)
    rest = tag("tspan", escape(text[cut:]), class_="wide")
    return tag("text", escape(text[:cut]), rest, class_="name", **attributes)
