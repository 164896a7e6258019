"""Curves over the steps of a training → SVG: lines, the raw values behind them, joints marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from didact.reporting import svg
from didact.reporting.charts import Values, nothing, probe, vertical
from didact.reporting.formatting import compact, count, number, scale
from didact.reporting.joints import Joint
from didact.reporting.lettering import fitted

NAME: Final = 170.0  # pixels of a name at the end of a line
_LETTERS: Final = 15  # pixels from one line of letters to the next
_WIDE: Final = 0.18  # what the name of a joint takes of the plot's width on a phone, at most


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        name: What stands at its end, behind its number; "" for a line that needs no name.
        values: One value for each bin; None where it has none.
    """

    name: str
    values: Values


def curve(
    edges: Sequence[int],
    lines: Sequence[Line],
    *,
    described: str,
    x_label: str,
    y_label: str,
    said: Sequence[str] = (),
    points: Values = (),
    low: Values = (),
    high: Values = (),
    joints: Sequence[Joint] = (),
    second_ticks: Sequence[svg.Tick] = (),
    from_zero: bool = False,
    share_of: float | None = None,
    log: bool = False,
    height: float = 240,
) -> str:
    """Quantities over the steps of a training.

    Args:
        edges: `b + 1` ascending counts of steps; bin i holds the steps behind edges[i] up to
            edges[i + 1], counted from 1.
        lines: What is drawn, the most important first; each is broken where it has no value.
        described: The chart in a sentence.
        x_label: What the steps are called.
        y_label: Name and unit of the quantity.
        said: What a pointer that rests on a bin is told; `b` of them, or none.
        points: Faint points behind the lines, one for each bin, or none.
        low: Lower edge of a faint band behind the lines, one for each bin, or none.
        high: Upper edge of the band.
        joints: Places in steps where a part of the order ends, with what begins there.
        second_ticks: Ticks of another quantity along the steps, 0 at the left.
        from_zero: Whether the vertical axis starts at 0.
        share_of: The value that the vertical axis calls 100 %; None for the values themselves.
        log: Whether the vertical axis is logarithmic; then every value is positive.
        height: Pixels of the plot.
    """
    drawn = (*(v for line in lines for v in line.values), *points, *low, *high)
    known = [v for v in drawn if v is not None]
    if not known:
        return nothing("no values to draw")
    _, floor, ceiling, y_of = vertical(known, from_zero=from_zero, log=log, height=height)
    top = max(known)
    start, length = edges[0], edges[-1] - edges[0]
    middles = [((a + b) / 2 - start) / length for a, b in pairwise(edges)]
    out = [_joint((joint.at - start) / length, height) for joint in joints]
    out.extend(
        svg.tag("circle", class_="raw", cx=svg.across(x), cy=y_of(v) or 0, r=1.6)
        for x, v in zip(middles, points, strict=bool(points))
        if v is not None
    )
    marks = []
    if low:
        band = svg.areas(middles, [y_of(v) for v in low], [y_of(v) for v in high], height)
        marks.append(svg.tag("path", class_="spread", d=band))
    for i, line in reversed(list(enumerate(lines))):
        d = svg.path(_dotted(middles, [y_of(v) for v in line.values]), height)
        marks.append(svg.tag("path", class_=f"line line-{i}" if len(lines) > 1 else "line", d=d))
    out.append(svg.stretched(*marks, height=height))
    out.extend(_joint_names(joints, start, length))
    out.extend(_ends(lines, middles, y_of, height))
    for (a, b), text in zip(pairwise(edges), said, strict=bool(said)):
        out.append(probe((a - start) / length, (b - start) / length, height, text))
    return svg.frame(
        *out, described=described, height=height, kind="curve", x_label=x_label, y_label=y_label,
        x_ticks=_steps(start, length), second_ticks=second_ticks,
        y_ticks=_y_ticks(floor, ceiling, top, share_of=share_of, log=log, height=height),
    )  # fmt: skip


def along(edges: Sequence[int], amounts: Sequence[float]) -> list[svg.Tick]:
    """Ticks of a quantity that grows along the steps: round amounts, where they are reached.

    Args:
        edges: `b + 1` ascending counts of steps.
        amounts: The quantity at each of them, ascending from 0.
    """
    total, start, length = amounts[-1], edges[0], edges[-1] - edges[0]
    if not total > 0:
        return []
    values = svg.ticks(0, total, 6)
    out: list[svg.Tick] = []
    i = 0
    for value, text in zip(values, scale(values), strict=True):
        while i < len(amounts) - 2 and amounts[i + 1] < value:
            i += 1
        a, b = amounts[i], amounts[i + 1]
        inside = (value - a) / (b - a) if b > a else 0.0
        at = (edges[i] + inside * (edges[i + 1] - edges[i]) - start) / length
        if not out or at - out[-1][0] >= 0.13:
            out.append((at, text))
    return out


def _y_ticks(
    floor: float, ceiling: float, top: float, *, share_of: float | None, log: bool, height: float
) -> list[svg.Tick]:
    """Ticks of the vertical axis; `floor` and `ceiling` are logarithms where it is logarithmic."""
    warp: Callable[[float], float] = math.log if log else float
    at_most = 7 if height > 120 else 3
    if share_of is not None:
        values = [share_of * share for share in (0, 0.5, 1) if share_of * share <= top]
        texts = [f"{100 * value / share_of:.0f}%" for value in values]
    elif log:
        values = svg.log_ticks(math.exp(floor), math.exp(ceiling))
        texts = [compact(t) if t >= 1 else number(t) for t in values]
    else:
        values = svg.ticks(floor, ceiling, at_most)
        texts = scale(values)
    span = ceiling - floor
    return [((warp(t) - floor) / span, text) for t, text in zip(values, texts, strict=True)]


def _steps(start: int, length: int) -> list[svg.Tick]:
    whole = [t for t in svg.ticks(start, start + length, 6) if t == int(t)]
    return [((t - start) / length, count(t)) for t in whole]


def _joint(x: float, height: float) -> str:
    place = svg.across(x)
    return svg.tag("line", class_="joint", x1=place, x2=place, y1=-4, y2=height)


def _joint_names(joints: Sequence[Joint], start: float, length: float) -> list[str]:
    """The names of joints at their lines, those of epochs first where there is no room for all."""
    taken: list[tuple[float, float]] = []
    out = []
    for joint in sorted(joints, key=lambda joint: (not joint.starts_epoch, joint.at)):
        x = (joint.at - start) / length
        right = x < 1 - _WIDE
        a, b = (x, x + _WIDE) if right else (x - _WIDE, x)
        if not joint.name or any(a < d and c < b for c, d in taken):
            continue
        taken.append((a, b))
        out.append(
            svg.label(
                joint.name, class_="joint", x=svg.across(x), y=9, dx=5 if right else -5,
                text_anchor="start" if right else "end",
            )
        )  # fmt: skip
    return out


def _dotted(
    xs: Sequence[float], ys: Sequence[float | None]
) -> list[tuple[float, float | None]]:  # fmt: skip
    """The points of a line; one that stands alone comes twice, so that a round end shows it."""
    out: list[tuple[float, float | None]] = []
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        out.append((x, y))
        alone = (i == 0 or ys[i - 1] is None) and (i + 1 == len(ys) or ys[i + 1] is None)
        if y is not None and alone:
            out.append((x, y))
    return out


def _ends(
    lines: Sequence[Line],
    xs: Sequence[float],
    y_of: Callable[[float | None], float | None],
    height: float,
) -> list[str]:
    """Number and name of each line beside its last value, moved apart where they would overlap."""
    found = []
    for i, line in enumerate(lines):
        last = next((j for j in reversed(range(len(xs))) if line.values[j] is not None), None)
        if line.name and last is not None:
            found.append((y_of(line.values[last]) or 0.0, xs[last], i, line.name))
    found.sort()
    room = height - 4
    ys = [min(max(y, 4), room) for y, *_ in found]
    for j in range(1, len(ys)):
        ys[j] = max(ys[j], ys[j - 1] + _LETTERS)
    for j in reversed(range(len(ys))):
        ys[j] = min(ys[j], room if j == len(ys) - 1 else ys[j + 1] - _LETTERS)
    out = []
    for (y, x, i, name), at in zip(found, ys, strict=True):
        out.append(svg.tag("line", class_="leader", x1=svg.across(x), x2="100%", y1=y, y2=at))
        text = svg.tag("tspan", svg.escape(f" {fitted(name, NAME)}"), class_="wide")
        out.append(
            svg.tag("text", f"{i + 1}", text, class_=f"end end-{i}", x="100%", y=at + 4, dx=8)
        )
    return out
