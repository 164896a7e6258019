"""The frontier of a plan → SVG: value against all FLOPs, a curve for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.planning.comparison import RANDOM
from didact.planning.rows import EXTRAPOLATED, LEVEL, interval, named, value
from didact.reporting import svg
from didact.reporting.charts import axis
from didact.reporting.formatting import number, percent, scale
from didact.reporting.plan_otherwise import distinct

HEIGHT: Final = 320  # pixels of the plot
POINTS: Final = 64  # of a curve
CHEAPEST: Final = 0.01  # left end of the axis: this share of the budget or of a full pass
FARTHEST: Final = 20.0  # right end: at most this many times the budget or a full pass
_COLORS: Final = 6


@dataclass(frozen=True, slots=True)
class Curve:
    """What a method reaches.

    Attributes:
        method: Its name.
        selector: Its scoring model; None without one.
        selection: FLOPs of scoring.
        rate: λ.
        band: Ends of λ's 80 % interval; None where no band is drawn.
        extrapolated: Whether the scoring model is smaller than any that was measured.
        color: CSS class.
    """

    method: str
    selector: str | None
    selection: float
    rate: float
    band: tuple[float, float] | None
    extrapolated: bool
    color: str

    @property
    def name(self) -> str:
        """The method, with the model that scores."""
        return named(self.method, self.selector)


def curves_of(values: Mapping[str, Any]) -> list[Curve]:
    """One curve for each method whose λ is known.

    Its scoring model is the one recommended or, of another method, the cheapest that is no smaller
    than was measured.
    """
    prior, tasks = values["prior"], values["question"]["tasks"]
    taken = None if values["recommended"] is None else values["rows"][values["recommended"]]
    chosen = None if taken is None else (taken["method"], taken["selector"])
    far = {(r["method"], r["selector"]) for r in values["rows"] if EXTRAPOLATED in r["marks"]}
    out: list[Curve] = []
    for method, rate in prior["rates"].items():
        found = [s for _, s in distinct(values["scoring"]) if s["method"] == method]
        if not found:
            continue
        ranks = [
            ((method, s["selector"]) != chosen, (method, s["selector"]) in far, s["cost"]["flops"])
            for s in found
        ]
        best = found[ranks.index(min(ranks))]
        banded = method == RANDOM or (taken is not None and method == taken["method"])
        color = "c-random" if method == RANDOM else f"c-{len(out) % _COLORS}"
        out.append(
            Curve(
                method=method, selector=best["selector"], selection=best["cost"]["flops"] / tasks,
                rate=rate, band=_band(prior["draws"][method]) if banded else None,
                extrapolated=(method, best["selector"]) in far, color=color,
            )
        )  # fmt: skip
    return out


def frontier_chart(values: Mapping[str, Any], curves: Sequence[Curve]) -> str:
    """Value against FLOPs of scoring and training, the budget as a vertical line.

    Args:
        values: A plan's JSON values.
        curves: Of `curves_of`; one at least.
    """
    budget, whole = values["question"]["budget"]["flops"], values["training"]["flops"]
    low, high = span(budget, whole, [curve.selection for curve in curves])
    place = axis(low, high, log=True)
    at_budget = place(budget)
    marks = [
        svg.tag("rect", class_="over", x=svg.across(at_budget), y=0,
                width=svg.across(1 - at_budget), height=HEIGHT),
    ]  # fmt: skip
    drawn = []
    for curve in curves:
        fractions = _fractions(curve, low, high, whole, budget)
        xs = [place(curve.selection + f * whole) for f in fractions]
        if curve.band is not None:
            ends = [[_y(float(value(rate, f))) for f in fractions] for rate in curve.band]
            band = svg.areas(xs, ends[1], ends[0], HEIGHT)
            drawn.append(svg.tag("path", class_=f"area {curve.color}", d=band))
    for curve in curves:
        fractions = _fractions(curve, low, high, whole, budget)
        points = [
            (place(curve.selection + f * whole), _y(float(value(curve.rate, f))))
            for f in fractions
        ]  # fmt: skip
        for kind, part in (
            ("", [p for p in points if p[0] <= at_budget + 1e-9]),
            (" beyond", [p for p in points if p[0] >= at_budget - 1e-9]),
        ):
            line = svg.path(part, HEIGHT)
            drawn.append(
                svg.tag("path", svg.title(curve.name), class_=f"curve {curve.color}{kind}", d=line)
            )
    marks.append(svg.stretched(*drawn, height=HEIGHT))
    marks.extend(_budget(at_budget))
    marks.extend(_points(values, place))
    ticks, shares = svg.log_ticks(low, high), svg.ticks(0, 1, 6)
    return svg.frame(
        *marks, described=describe(values, curves), height=HEIGHT, kind="frontier",
        x_label="FLOPs of scoring and training together",
        y_label="value: 0% base model, 100% full pass",
        x_ticks=[(place(t), number(t)) for t in _spaced(ticks)],
        y_ticks=list(zip(shares, scale(shares, as_percent=True), strict=True)),
    )  # fmt: skip


def describe(values: Mapping[str, Any], curves: Sequence[Curve]) -> str:
    """The chart in a sentence."""
    budget, whole = values["question"]["budget"]["flops"], values["training"]["flops"]
    parts = []
    for curve in curves:
        left = (budget - curve.selection) / whole
        says = percent(float(value(curve.rate, left))) if left > 0 else "over the budget"
        parts.append(f"{curve.name} {says}")
    return f"Value against FLOPs. At the budget of {number(budget)}: {', '.join(parts)}."


def span(budget: float, whole: float, selections: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis of FLOPs."""
    far = min(max(selections, default=0.0) + whole, FARTHEST * max(budget, whole))
    return CHEAPEST * min(budget, whole), 1.1 * max(1.3 * budget, whole, far)


def _fractions(
    curve: Curve, low: float, high: float, whole: float, budget: float
) -> list[float]:  # fmt: skip
    """Shares of a full pass at which a curve is drawn, what the budget pays for among them."""
    start = max(low - curve.selection, 1e-3 * whole) / whole
    stop = min((high - curve.selection) / whole, 1.0)
    if stop <= start:
        return []
    left = (budget - curve.selection) / whole
    return sorted({*np.geomspace(start, stop, POINTS).tolist(), min(max(left, start), stop)})


def _y(share: float) -> float:
    return HEIGHT * (1 - share)


def _budget(at: float) -> list[str]:
    right = at < 0.6
    x = svg.across(at)
    return [
        svg.tag("line", class_="cut", x1=x, x2=x, y1=-6, y2=HEIGHT),
        svg.label(
            "your budget", class_="cut", x=x, y=HEIGHT - 10, dx=7 if right else -7,
            text_anchor="start" if right else "end",
        ),
    ]  # fmt: skip


def _points(values: Mapping[str, Any], place: Any) -> list[str]:
    """Points of the frontier, and around one of them a ring: the row to take."""
    out = []
    rows = values["rows"]
    for i in values["frontier"]:
        row = rows[i]
        total = row["selection_flops"] + row["training_flops"]
        kind = "front far" if EXTRAPOLATED in row["marks"] else "front"
        name = named(row["method"], row["selector"])
        said = f"{name}, {percent(row['fraction'])} of a full pass: {percent(row['predicted'])}"
        out.append(
            svg.tag("circle", svg.title(said), class_=kind, cx=svg.across(place(total)),
                    cy=_y(row["predicted"]), r=4)
        )  # fmt: skip
    taken = None if values["recommended"] is None else rows[values["recommended"]]
    if taken is not None and taken["predicted"] is not None:
        total = taken["selection_flops"] + taken["training_flops"]
        x, y = svg.across(place(total)), _y(taken["predicted"])
        out.append(svg.tag("circle", class_="taken", cx=x, cy=y, r=8))
    return out


def _spaced(ticks: Sequence[float]) -> list[float]:
    """At most six ticks, for a phone."""
    return list(ticks[:: max(1, math.ceil(len(ticks) / 6))])


def _band(draws: Sequence[float | None]) -> tuple[float, float]:
    return interval(np.array(draws, np.float64), LEVEL)
