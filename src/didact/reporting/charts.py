"""Numbers → SVG: pure functions, one per kind of chart. Colors are classes of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from didact.reporting import svg
from didact.reporting.formatting import (
    change,
    compact,
    count,
    number,
    percent,
    scale,
)
from didact.reporting.lettering import BESIDE, NARROW, ROW_SIZE, fitted, text_width

Values = Sequence[float | None]
ROW = 30  # pixels between two rows of a dot chart
_FLAG = 7  # pixels from a mark to what it says


def histogram(
    edges: Sequence[float],
    pool: Sequence[float],
    chosen: Sequence[float],
    *,
    described: str,
    x_label: str,
    cuts: Sequence[float] = (),
    log: bool = False,
    height: float = 190,
) -> str:
    """Two distributions over the same bins, each as shares of its own set.

    Args:
        edges: `b + 1` ascending bin edges; positive when `log`.
        pool: Share of the pool's samples in each of `b` bins, 0-1.
        chosen: The same for the chosen samples; empty when there are none.
        described: The chart in a sentence.
        x_label: Name and unit of the value.
        cuts: Values to mark as the edge of the choice.
        log: Whether the axis is logarithmic.
        height: Pixels of the plot.
    """
    if len(edges) < 2:
        return nothing("no values to draw")
    place = axis(edges[0], edges[-1], log=log)
    top = max([*pool, *chosen], default=0) * 1.08 or 1.0
    xs = [place(e) for e in edges]

    def outline(shares: Sequence[float]) -> list[tuple[float, float | None]]:
        inner = [(x, height * (1 - v / top)) for x, v in svg.step_line(xs, shares)]
        return [(xs[0], height), *inner, (xs[-1], height)]

    marks = [svg.tag("path", class_="pool", d=svg.path(outline(pool), height))]
    if chosen:
        marks.append(svg.tag("path", class_="chosen", d=svg.path(outline(chosen), height)))
    out = [svg.stretched(*marks, height=height)]
    out.extend(_flags([place(c) for c in cuts], [number(c) for c in cuts], height))
    for i, ((a, b), share) in enumerate(zip(pairwise(edges), pool, strict=True)):
        said = f"{number(a)} to {number(b)}: {percent(share)} of the pool"
        if chosen:
            said += f", {percent(chosen[i])} of the chosen"
        out.append(probe(place(a), place(b), height, said))
    x_values = svg.log_ticks(edges[0], edges[-1]) if log else svg.ticks(edges[0], edges[-1])
    x_texts = [_power(t) for t in x_values] if log else scale(x_values)
    return svg.frame(
        *out, described=described, height=height, kind="histogram", x_label=x_label,
        y_label="share of samples",
        x_ticks=[(place(t), text) for t, text in zip(x_values, x_texts, strict=True)],
        y_ticks=_shares(top, 4),
    )  # fmt: skip


def dumbbells(rows: Sequence[tuple[str, float, float]], *, described: str, x_label: str) -> str:
    """What each row's share was before and is after, one line per row.

    Args:
        rows: Name, share before, share after; shares 0-1.
        described: The chart in a sentence.
        x_label: What the shares are of.
    """
    if not rows:
        return nothing("no sources to draw")
    top = max(max(b, a) for _, b, a in rows) * 1.05 or 1.0
    height = ROW * len(rows) + 8
    x_ticks = _shares(top, 6)
    out = [
        svg.tag("line", class_="grid", x1=svg.across(x), x2=svg.across(x), y1=0, y2=height)
        for x, _ in x_ticks
    ]
    for i, (name, before, after) in enumerate(rows):
        y = ROW * (i + 0.5) + 6
        x0, x1 = before / top, after / top
        delta = change(before, after)
        out.append(
            svg.tag(
                "g",
                svg.title(f"{name}: {percent(before)} → {percent(after)} ({delta} pp)"),
                svg.label(
                    fitted(name, BESIDE, ROW_SIZE), class_="row", x=-12, y=y + 4, text_anchor="end"
                ),
                svg.tag("line", class_="change", x1=svg.across(x0), x2=svg.across(x1), y1=y, y2=y),
                svg.tag("circle", class_="before", cx=svg.across(x0), cy=y, r=4.5),
                svg.tag("circle", class_="after", cx=svg.across(x1), cy=y, r=5),
                svg.label(
                    delta,
                    class_="value",
                    x=svg.across(max(x0, x1)),
                    y=y + 4,
                    dx=11,
                    text_anchor="start",
                ),
            )
        )
    return svg.frame(
        *out, described=described, height=height, kind="dumbbells", x_label=x_label, y_label="",
        x_ticks=x_ticks, y_ticks=[],
    )  # fmt: skip


def dots(
    chosen: float, others: Sequence[float], *, described: str, x_label: str, names: tuple[str, str]
) -> str:
    """One number beside a handful of others it should be compared with.

    The axis spans at least a tenth of the value, so that noise does not look like a finding.

    Args:
        chosen: The number.
        others: What it is compared with, at least one.
        described: The chart in a sentence.
        x_label: Name and unit of the numbers.
        names: Labels of the number's row and of the others' row.
    """
    everything = [chosen, *others]
    middle = (min(everything) + max(everything)) / 2
    reach = max((max(everything) - min(everything)) * 0.62, 0.05 * abs(middle)) or 1.0
    place = axis(middle - reach, middle + reach)
    height = 118
    values = svg.ticks(middle - reach, middle + reach)
    x_ticks = [(place(t), text) for t, text in zip(values, scale(values), strict=True)]
    out = [
        svg.tag("line", class_="grid", x1=svg.across(x), x2=svg.across(x), y1=0, y2=height)
        for x, _ in x_ticks
    ]
    for y, name, kind, drawn in (
        (28, names[0], "after", [chosen]),
        (86, names[1], "before", list(others)),
    ):
        out.append(svg.label(name, class_="row", x=-12, y=y + 4, text_anchor="end"))
        out.append(svg.tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y))
        for value in drawn:
            said = svg.title(f"{name}: {number(value)}")
            x = svg.across(place(value))
            out.append(svg.tag("circle", said, class_=kind, cx=x, cy=y, r=6))
        mean = sum(drawn) / len(drawn)
        text = number(mean) if len(drawn) == 1 else f"mean {number(mean)}"
        x = svg.across(place(mean))
        out.append(svg.label(text, class_="value", x=x, y=y + 23, text_anchor="middle"))
    return svg.frame(
        *out, described=described, height=height, kind="dots", x_label=x_label, y_label="",
        x_ticks=x_ticks, y_ticks=[],
    )  # fmt: skip


def course(
    edges: Sequence[int],
    mean: Values,
    low: Values,
    high: Values,
    *,
    described: str,
    x_label: str,
    y_label: str,
    joints: Sequence[int] = (),
    per_x: int = 1,
    from_zero: bool = False,
    log: bool = False,
    height: float = 210,
) -> str:
    """A quantity along a sequence: its mean in each bin, and the band most samples are in.

    Bins of a single sample are drawn as points.

    Args:
        edges: `b + 1` ascending positions; bin i holds positions edges[i] ≤ p < edges[i + 1].
        mean: `b` values; None where a bin has none.
        low: Lower edge of the band.
        high: Upper edge of the band.
        described: The chart in a sentence.
        x_label: Name and unit of the positions.
        y_label: Name and unit of the quantity.
        joints: Positions where a part of the sequence ends and the next begins.
        per_x: Positions in one unit of the x axis (the batch size, for steps).
        from_zero: Whether the vertical axis starts at 0.
        log: Whether the vertical axis is logarithmic; then every value is positive.
        height: Pixels of the plot.
    """
    known = [v for v in (*low, *high) if v is not None]
    if not known:
        return nothing("no values to draw")
    warp, floor, ceiling, y_of = vertical(known, from_zero=from_zero, log=log, height=height)
    length = edges[-1]
    ys = [y_of(v) for v in mean]
    middles = [(a + b) / 2 / length for a, b in pairwise(edges)]
    out = [
        svg.tag("line", class_="joint", x1=svg.across(j / length), x2=svg.across(j / length),
                y1=-4, y2=height)
        for j in joints
    ]  # fmt: skip
    if edges[-1] - edges[0] == len(mean):
        out.extend(
            svg.tag("circle", class_="point", cx=svg.across(x), cy=y, r=3)
            for x, y in zip(middles, ys, strict=True)
            if y is not None
        )
    else:
        band = svg.areas(middles, [y_of(v) for v in low], [y_of(v) for v in high], height)
        line = svg.path(list(zip(middles, ys, strict=True)), height)
        drawn = [svg.tag("path", class_="band", d=band), svg.tag("path", class_="mean", d=line)]
        out.append(svg.stretched(*drawn, height=height))
    for (a, b), m, lo, hi in zip(pairwise(edges), mean, low, high, strict=True):
        if m is None:
            continue
        if b - a == 1:
            said = f"sample {b:,}: {number(m)}"
        else:
            span = f"10% to 90%: {number(lo)} to {number(hi)}"
            said = f"samples {a + 1:,} to {b:,}: mean {number(m)}, {span}"
        out.append(probe(a / length, b / length, height, said))
    if log:
        y_values = svg.log_ticks(math.exp(floor), math.exp(ceiling))
        y_texts = [_power(t) for t in y_values]
    else:
        y_values = svg.ticks(floor, ceiling, 5)
        y_texts = scale(y_values)
    return svg.frame(
        *out, described=described, height=height, kind="course", x_label=x_label, y_label=y_label,
        x_ticks=_positions(length, per_x),
        y_ticks=[
            ((warp(t) - floor) / (ceiling - floor), text)
            for t, text in zip(y_values, y_texts, strict=True)
        ],
    )  # fmt: skip


class Vertical(NamedTuple):
    """A vertical axis.

    Attributes:
        warp: Logarithm where it is logarithmic, else the value itself.
        floor: The lower end, warped.
        ceiling: The upper end, warped.
        y_of: Pixels from the top of a value; None of None.
    """

    warp: Callable[[float], float]
    floor: float
    ceiling: float
    y_of: Callable[[float | None], float | None]


def vertical(known: Sequence[float], *, from_zero: bool, log: bool, height: float) -> Vertical:
    """The vertical axis that some values need, with a little room around them."""
    warp: Callable[[float], float] = math.log if log else float
    bottom, top = min(0.0 if from_zero else math.inf, *known), max(known)
    pad = 0.06 * (warp(top) - warp(bottom)) or 0.05 * abs(warp(top)) or 1.0
    floor = warp(bottom) - (0 if from_zero else pad)
    ceiling = warp(top) + pad

    def y_of(value: float | None) -> float | None:
        return None if value is None else height * (ceiling - warp(value)) / (ceiling - floor)

    return Vertical(warp, floor, ceiling, y_of)


def layers(
    edges: Sequence[int],
    shares: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    described: str,
    x_label: str,
    per_x: int = 1,
    height: float = 190,
) -> str:
    """The parts of a whole along a sequence, one above the other.

    Args:
        edges: `b + 1` ascending positions.
        shares: For each part its `b` shares; the parts of a bin add up to 1.
        names: Names of the parts, the lowest first.
        described: The chart in a sentence.
        x_label: Name and unit of the positions.
        per_x: Positions in one unit of the x axis.
        height: Pixels of the plot.
    """
    if len(edges) < 2:
        return nothing("no samples to draw")
    length = edges[-1]
    xs = [e / length for e in edges]
    below = [0.0] * (len(edges) - 1)
    drawn = []
    for i, (own_shares, name) in enumerate(zip(shares, names, strict=True)):
        above = [b + p for b, p in zip(below, own_shares, strict=True)]
        upper = svg.step_line(xs, [height * (1 - v) for v in above])
        lower = svg.step_line(xs, [height * (1 - v) for v in below])
        outline = svg.path([*upper, *reversed(lower)], height) + "Z"
        drawn.append(svg.tag("path", svg.title(name), class_=f"part part-{i}", d=outline))
        below = above
    return svg.frame(
        svg.stretched(*drawn, height=height), described=described, height=height, kind="layers",
        x_label=x_label, y_label="share of samples", x_ticks=_positions(length, per_x),
        y_ticks=[(0, "0%"), (0.5, "50%"), (1, "100%")],
    )  # fmt: skip


def _power(value: float) -> str:
    """A tick of a logarithmic axis: 100, 1k, 1T, but 1e15."""
    return compact(value) if 1 <= value < 1e15 else number(value)


def nothing(why: str) -> str:
    """What stands in for a chart that has nothing to show."""
    return svg.tag("p", svg.escape(f"Nothing to draw: {why}."), class_="nothing")


def axis(low: float, high: float, *, log: bool = False) -> Callable[[float], float]:
    """Value → 0-1 along an axis; the middle when the axis has no length."""
    warp: Callable[[float], float] = math.log if log else float
    start, span = warp(low), warp(high) - warp(low)
    return lambda value: (warp(value) - start) / span if span else 0.5


def _shares(top: float, at_most: int) -> list[svg.Tick]:
    """Ticks of an axis of shares from 0 to `top`."""
    values = svg.ticks(0, top, at_most)
    return [(t / top, s) for t, s in zip(values, scale(values, as_percent=True), strict=True)]


def _positions(length: int, per_x: int) -> list[svg.Tick]:
    units = length / per_x
    whole = [t for t in svg.ticks(0, units, 6) if t == int(t)]
    return [(t / units, count(t)) for t in whole]


def _flags(xs: Sequence[float], texts: Sequence[str], height: float) -> list[str]:
    """Vertical marks with what they say beside them, as far as there is room on a phone.

    One label for all, right of the last or left of the first; else one each, outwards.
    """
    out = [
        svg.tag("line", class_="cut", x1=svg.across(x), x2=svg.across(x), y1=-6, y2=height)
        for x in xs
    ]
    if not xs:
        return out
    told = f"cut {' and '.join(texts)}"
    if _flag_fits(told, 1 - xs[-1]):
        return [*out, _flag(told, xs[-1], right=True)]
    if _flag_fits(told, xs[0]):
        return [*out, _flag(told, xs[0], right=False)]
    each = [(xs[0], False, texts[0]), (xs[-1], True, texts[-1])] if len(xs) > 1 else []
    for x, right, text in each or [(xs[0], xs[0] < 0.5, texts[0])]:
        room = 1 - x if right else x
        shown = next((t for t in (f"cut {text}", "cut") if _flag_fits(t, room)), "")
        if shown:
            out.append(_flag(shown, x, right=right))
    return out


def _flag_fits(text: str, room: float) -> bool:
    return text_width(text) + _FLAG <= NARROW * room


def _flag(text: str, x: float, *, right: bool) -> str:
    return svg.label(
        text, class_="cut", x=svg.across(x), y=6, dx=_FLAG if right else -_FLAG,
        text_anchor="start" if right else "end",
    )  # fmt: skip


def probe(start: float, stop: float, height: float, said: str) -> str:
    """An invisible place that answers a resting pointer."""
    return svg.tag(
        "rect", svg.title(said), class_="probe", x=svg.across(start),
        width=svg.across(max(stop - start, 0)), y=0, height=height,
    )  # fmt: skip
