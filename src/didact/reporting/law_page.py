"""The page of the entropy law on one's own runs: one self-contained HTML file without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from didact.reporting import svg
from didact.reporting.charts import axis
from didact.reporting.formatting import number, scale, signed
from didact.reporting.lettering import Spot
from didact.reporting.page import TEMPLATES, templates

Json = Mapping[str, Any]
HEIGHT: Final = 280  # pixels of a plot
HEADS: Final = {"holds": "It holds here", "fails": "It fails here", "cannot_tell": "Cannot tell"}
NAMES: Final = {
    "ratio": "R, raw ÷ compressed bytes",
    "first_epoch_loss": "L, first-epoch loss in nats per token",
}  # fmt: skip


def render_law(values: Json) -> str:
    """What runs tell of the law as an HTML page: no network, no scripts, readable on paper.

    Equal values give equal bytes.

    Args:
        values: JSON values of an `EntropyLaw`.
    """
    environment = templates()
    environment.filters.update(signed=signed, spoken=spoken)
    far = {name: {o["set"] for o in values["outliers"] if o["feature"] == name} for name in NAMES}
    charts = [(curve, law_chart(curve, far[curve["feature"]])) for curve in values["curves"]]
    style = "\n".join((TEMPLATES / name).read_text("utf-8") for name in ("report.css", "plan.css"))
    return environment.get_template("law.html").render(
        v=values, charts=charts, heads=HEADS, names=NAMES, style=style
    )


def law_chart(curve: Json, outliers: set[str]) -> str:
    """Performance against R or L: sets, the fit, and where a set of a new family is expected.

    Args:
        curve: JSON values of a `Curve`.
        outliers: Names of the sets to mark.
    """
    xs = [x for _, x, _ in curve["points"]]
    half = curve["half"] or 0.0
    ys = [y for _, _, y in curve["points"]]
    ys += [v + h for v in curve["line"] for h in (-half, half)]
    low, high = _around(xs)
    bottom, top = _around(ys)
    across, up = axis(low, high, log=False), axis(bottom, top, log=False)

    def y_of(value: float) -> float:
        return HEIGHT * (1 - up(value))

    places = [across(x) for x in curve["x"]]
    line = [y_of(v) for v in curve["line"]]
    drawn = []
    if curve["half"] is not None:
        lows, highs = ([y_of(v + h) for v in curve["line"]] for h in (-half, half))
        drawn.append(svg.tag("path", class_="area c-0", d=svg.areas(places, lows, highs, HEIGHT)))
    path = svg.path(list(zip(places, line, strict=True)), HEIGHT)
    drawn.append(svg.tag("path", class_="curve c-random", d=path))
    marks = [svg.stretched(*drawn, height=HEIGHT)]
    dots = [(across(x), y_of(y)) for _, x, y in curve["points"]]
    for (name, x, y), (at, down) in zip(curve["points"], dots, strict=True):
        said = f"{name}: {number(x)}, performance {number(y)}"
        kind = "front far" if name in outliers else "front"
        marks.append(
            svg.tag("circle", svg.title(said), class_=kind, cx=svg.across(at), cy=down, r=4)
        )
    names = [name for name, *_ in curve["points"]]
    spots = [Spot(*at, name) for at, name in zip(dots, names, strict=True) if name in outliers]
    marks.extend(svg.named(spots, dots, HEIGHT))
    less = ", less the mean of backbone and stage" if curve["centered"] else ""
    x_ticks, y_ticks = svg.ticks(low, high), svg.ticks(bottom, top)
    return svg.frame(
        *marks, described=_described(curve, outliers), height=HEIGHT, kind="frontier",
        x_label=NAMES[curve["feature"]] + less, y_label=f"performance, higher is better{less}",
        x_ticks=[(across(t), text) for t, text in zip(x_ticks, scale(x_ticks), strict=True)],
        y_ticks=[(up(t), text) for t, text in zip(y_ticks, scale(y_ticks), strict=True)],
    )  # fmt: skip


def _described(curve: Json, outliers: set[str]) -> str:
    first, last = curve["line"][0], curve["line"][-1]
    moves = "falls" if last < first else "rises" if last > first else "stays"
    said = (
        f"Performance of {len(curve['points'])} sets against {NAMES[curve['feature']]}: the "
        f"{curve['form']} fit {moves} from {number(first)} to {number(last)}."
    )
    return said + (f" Far from it: {', '.join(sorted(outliers))}." if outliers else "")


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis with a little room."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def spoken(code: str) -> str:
    """A code in words: cannot tell."""
    return code.replace("_", " ")
