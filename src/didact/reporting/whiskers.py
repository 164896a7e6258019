"""Values with their intervals → SVG: a dot and a line, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from didact.reporting import svg
from didact.reporting.charts import axis, nothing
from didact.reporting.formatting import scale
from didact.reporting.lettering import BESIDE, ROW_SIZE, fitted

ROW: Final = 36  # pixels between two rows: on a phone each holds a line of letters, too


@dataclass(frozen=True, slots=True)
class Whisker:
    """One row.

    Attributes:
        name: What the row is about.
        inner: Whether it belongs to the last row before it that does not.
        value: The value; None for a row that only heads others.
        low: Lower end of its interval; None without one.
        high: Upper end.
        shown: The value as text.
        chance: What guessing gives; None where that means nothing.
    """

    name: str
    inner: bool = False
    value: float | None = None
    low: float | None = None
    high: float | None = None
    shown: str = ""
    chance: float | None = None


def whiskers(
    rows: Sequence[Whisker], *, described: str, x_label: str, shares: bool = False
) -> str:  # fmt: skip
    """Values with intervals on one axis, which spans at least a tenth of the largest value.

    Args:
        rows: From the top.
        described: The chart in a sentence.
        x_label: Name and unit of the values.
        shares: Whether the values are shares of 1, written as percentages and never beyond 0-1.
    """
    known = [
        v for r in rows if r.value is not None for v in (r.value, r.low, r.high, r.chance)
        if v is not None
    ]  # fmt: skip
    if not known:
        return nothing("no values to draw")
    middle = (min(known) + max(known)) / 2
    reach = max((max(known) - min(known)) * 0.56, 0.05 * max(map(abs, known))) or 1.0
    low, high = middle - reach, middle + reach
    if shares:
        low, high = max(low, min(0.0, *known)), min(high, max(1.0, *known))
    place, values = axis(low, high), svg.ticks(low, high, 6)
    texts = scale(values, as_percent=shares)
    x_ticks = [(place(t), text) for t, text in zip(values, texts, strict=True)]
    height = ROW * len(rows) + 8
    out = [
        svg.tag("line", class_="grid", x1=svg.across(x), x2=svg.across(x), y1=0, y2=height)
        for x, _ in x_ticks
    ]
    for i, row in enumerate(rows):
        y = ROW * (i + 0.5) + 6
        name = fitted(row.name, BESIDE, ROW_SIZE)
        kind = "row inner" if row.inner else "row" if row.value is not None else "row head"
        out.append(svg.label(name, class_=kind, x=-12, y=y + 4, text_anchor="end"))
        if row.value is not None:
            out.append(svg.tag("g", *_marks(row, y, place)))
    return svg.frame(
        *out, described=described, height=height, kind="whiskers", x_label=x_label, y_label="",
        x_ticks=x_ticks, y_ticks=[],
    )  # fmt: skip


def _marks(row: Whisker, y: float, place: Callable[[float], float]) -> list[str]:
    value = row.value or 0.0
    said, end = f"{row.name}: {row.shown}", value
    out = []
    if row.low is not None and row.high is not None:
        a, b = svg.across(place(row.low)), svg.across(place(row.high))
        out.append(svg.tag("line", class_="whisker", x1=a, x2=b, y1=y, y2=y))
        out.extend(
            svg.tag("line", class_="whisker", x1=x, x2=x, y1=y - 4, y2=y + 4) for x in (a, b)
        )
        end = max(row.high, value)
    if row.chance is not None:
        x = svg.across(place(row.chance))
        out.append(svg.tag("line", class_="chance", x1=x, x2=x, y1=y - 6, y2=y + 8))
    out.append(svg.tag("circle", class_="after", cx=svg.across(place(value)), cy=y, r=5))
    x = svg.across(place(end))
    out.append(svg.label(row.shown, class_="value", x=x, y=y + 4, dx=10, text_anchor="start"))
    return [svg.title(said), *out]
