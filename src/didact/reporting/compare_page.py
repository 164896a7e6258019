"""The page of a comparison: one self-contained HTML file without scripts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from didact.planning.compared import TERMS
from didact.planning.comparison import ALL, BASE, RANDOM, contest, labelled
from didact.planning.frontier import non_dominated
from didact.planning.law import LawFit
from didact.reporting import svg
from didact.reporting.charts import axis
from didact.reporting.formatting import NONE, number, scale, signed
from didact.reporting.page import TEMPLATES, templates
from didact.reporting.plan_page import hours, params

Json = Mapping[str, Any]
HEIGHT: Final = 320  # pixels of a plot
_COLORS: Final = 6
_POINTS: Final = 48  # of a law's curve
_LEAST_SHARE: Final = 0.01  # of a full pass, where it begins
_HEADS: Final = {
    "select": "Choosing pays here", "random": "Random samples are as good",
    "unknown": "Nobody can know from these runs",
}  # fmt: skip


# What a comparison that was written by hand does not say.
_ABOUT: Final[Json] = {
    "pool": None, "seeds": None, "bases": (), "spent": None, "bill": None, "tasks": 1,
    "fraction": None, "choose_on": (), "tell_on": (), "notes": (), "detectable": {},
    "paying": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """An arm in a chart: its chosen points, cheapest first."""

    name: str
    color: str
    arms: tuple[Json, ...]


def render_comparison(values: Json) -> str:
    """A comparison as an HTML page: no network, no scripts, readable on paper.

    Equal values give equal bytes.

    Args:
        values: JSON values of a `Comparison`.
    """
    environment = templates()
    environment.filters.update(flops=number, params=params, hours=hours, signed=signed, g=_general)
    about = {**_ABOUT, **(values["about"] or {})}
    verdict = values["verdict"] or {"code": "unknown", "text": ""}
    style = "\n".join((TEMPLATES / name).read_text("utf-8") for name in ("report.css", "plan.css"))
    return environment.get_template("compare.html").render(
        v=values, about=about, verdict=verdict, head=_HEADS[verdict["code"]], style=style,
        tasks=_tasks(values, about),
        rates=_rates(values["fits"]), random_name=RANDOM,
    )  # fmt: skip


def _general(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def _tasks(values: Json, about: Json) -> list[dict[str, Any]]:
    """What the page shows of each task, of each base by itself; ranks of two of them once."""
    out = []
    seen = set[str]()
    for task, base in dict.fromkeys((arm["task"], arm["base"]) for arm in values["arms"]):
        of = {base} if task in seen else {base, ""}
        seen.add(task)
        ranks = [r for r in values["ranks"] or () if r["task"] == task and r["base"] in of]
        out.append(_task(values, about, task, base) | {"ranks": ranks})
    return out


def _task(values: Json, about: Json, task: str, base: str) -> dict[str, Any]:
    """What the page shows of a task, of a base."""
    name = contest(task, base)
    arms = [arm for arm in values["arms"] if (arm["task"], arm["base"]) == (task, base)]
    rate = _rate(about, base)
    shown = [arm for arm in arms if arm["chosen"]]
    lines = lines_of(shown)
    front = frontier(shown, 0.0)
    front_cpu = set[int]() if rate is None else frontier(shown, rate)
    differences = {
        (d["arm"], d["setting"], d["beta"], d["filled"]): d
        for d in values["differences"]
        if (d["task"], d["base"]) == (task, base)
    }

    def row(arm: Json, *, filled: bool) -> dict[str, Any]:
        known = arm["value"] is not None and arm["k_flops"]
        return {
            "arm": arm, "name": name_of(arm), "total": total(arm),
            "difference": differences.get((arm["name"], arm["setting"], arm["beta"], filled)),
            "share": total(arm) / arm["k_flops"] if known else None,
        }  # fmt: skip

    return {
        "name": name,
        "metric": arms[0]["metric"],
        "higher": arms[0]["higher_is_better"],
        "snr": values["snr"].get(name),
        "detectable": (about.get("detectable") or {}).get(name),
        "lines": lines,
        "chart": comparison_chart(lines, shown, front, values["fits"]) if lines else "",
        "law": any(_law_of(line, values["fits"]) for line in lines),
        "rows": [
            {
                **row(arm, filled=False),
                "front": id(arm) in front,
                "front_cpu": id(arm) in front_cpu,
                "with_cpu": None if rate is None else with_cpu(arm, rate),
            }
            for arm in sorted(arms, key=_by_budget)
        ],
        "filled": [
            row(arm, filled=True)
            for arm in sorted(values["filled"], key=_by_budget)
            if (arm["task"], arm["base"]) == (task, base)
        ],
    }


def _by_budget(arm: Json) -> tuple[float, bool, bool, float]:
    ends: dict[str, float] = {BASE: 0.0, ALL: math.inf}
    worth = float(arm["value"]) if arm["value"] is not None else math.inf
    worth = -worth if arm["higher_is_better"] and arm["value"] is not None else worth
    return (
        ends.get(str(arm["method"]), float(arm["beta"])),
        arm["value"] is None,
        not arm["chosen"],
        worth,
    )


def _rate(about: Json, base: str) -> float | None:
    """FLOPs that the training of a base does in a processor second, or in one of its device."""
    rates = {each["name"]: each.get("flops_per_cpu_second") for each in about["bases"]}
    return rates.get(base)


def name_of(arm: Json) -> str:
    """An arm with its values of the axes."""
    return labelled(str(arm["name"]), str(arm["setting"]))


def total(arm: Json) -> float:
    """FLOPs of selection and training together."""
    return float(arm["selection_flops"] + arm["training_flops"])


def with_cpu(arm: Json, rate: float) -> float:
    """The same with every processor second of scoring as the FLOPs that training does in it."""
    return total(arm) + rate * float(arm["selection_cpu_seconds"])


def frontier(arms: Sequence[Json], rate: float) -> set[int]:
    """Identities of the arms that no other beats at its price.

    Args:
        arms: The arms.
        rate: FLOPs that a processor second of scoring counts as.
    """
    known = [arm for arm in arms if arm["value"] is not None and arm["method"] != BASE]
    if not known:
        return set()
    cost = np.array([with_cpu(arm, rate) for arm in known])
    worth = np.array([arm["value"] if arm["higher_is_better"] else -arm["value"] for arm in known])
    return {id(known[i]) for i in non_dominated(cost, worth)}


def lines_of(arms: Sequence[Json]) -> list[Line]:
    """A line for each arm and target with a value: random first."""
    groups: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for arm in arms:
        if arm["value"] is not None and arm["method"] not in {BASE, ALL} and total(arm) > 0:
            groups[arm["name"], _target(arm)].append(arm)
    out: list[Line] = []
    for (name, target), some in sorted(groups.items(), key=lambda g: g[0][0] != RANDOM):
        plain = sum(line.color != "c-random" for line in out)
        color = "c-random" if name == RANDOM else f"c-{plain % _COLORS}"
        out.append(Line(labelled(name, target), color, tuple(sorted(some, key=total))))
    return out


def _target(arm: Json) -> str:
    """Which target a setting has: targets are told apart, other axes are chosen among."""
    parts = str(arm["setting"]).split(", ")
    return ", ".join(part for part in parts if part.startswith("target="))


def comparison_chart(
    lines: Sequence[Line], shown: Sequence[Json], front: set[int], fits: Sequence[Json] = ()
) -> str:
    """Values against FLOPs of selection and training, with the interval of each, and the law.

    Args:
        lines: Of `lines_of`; one at least.
        shown: The arms, ends among them.
        front: Identities of those on the frontier.
        fits: The laws, JSON values.
    """
    full = [
        arm for arm in shown
        if arm["method"] == ALL and arm["value"] is not None and total(arm) > 0
    ]  # fmt: skip
    base = [arm for arm in shown if arm["method"] == BASE and arm["value"] is not None]
    drawn = [arm for line in lines for arm in line.arms] + full
    costs = [total(arm) for arm in drawn]
    low, high = min(costs) / 1.3, max(costs) * 1.3
    values = [
        v for arm in drawn for v in (arm["value"], arm["low"], arm["high"]) if v is not None
    ] + [arm["value"] for arm in base]
    room = 0.06 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    bottom, top = min(values) - room, max(values) + room
    across, up = axis(low, high, log=True), axis(bottom, top, log=False)

    def y_of(value: float) -> float:
        return HEIGHT * (1 - up(value))

    layer, marks = [], []
    for line in lines:
        xs = [across(total(arm)) for arm in line.arms]
        known = [arm["low"] is not None for arm in line.arms]
        lows = [y_of(a["low"]) if k else None for a, k in zip(line.arms, known, strict=True)]
        highs = [y_of(a["high"]) if k else None for a, k in zip(line.arms, known, strict=True)]
        layer.append(svg.tag("path", class_=f"area {line.color}",
                             d=svg.areas(xs, lows, highs, HEIGHT)))  # fmt: skip
    for line in lines:
        law = _law_of(line, fits)
        if law is not None and full:
            curve = [
                (across(x), y_of(y)) for x, y in _law_points(line, *law, full, (low, high))
            ]  # fmt: skip
            layer.append(
                svg.tag("path", svg.title(f"{line.name}: the law"),
                        class_=f"curve {line.color} beyond", d=svg.path(curve, HEIGHT))
            )  # fmt: skip
    for line in lines:
        points = [(across(total(arm)), y_of(arm["value"])) for arm in line.arms]
        layer.append(
            svg.tag("path", svg.title(line.name), class_=f"curve {line.color}",
                    d=svg.path(points, HEIGHT))
        )  # fmt: skip
    marks.append(svg.stretched(*layer, height=HEIGHT))
    for arm in base:
        y = y_of(arm["value"])
        marks.append(svg.tag("line", class_="cut", x1="0", x2="100%", y1=y, y2=y))
        marks.append(svg.label("base model", class_="cut", x=4, y=y - 5))
    for arm in drawn:
        kind = "front" if id(arm) in front else "front far"
        said = f"{name_of(arm)} at {arm['beta']:g}: {number(arm['value'])}"
        x = svg.across(across(total(arm)))
        marks.append(
            svg.tag("circle", svg.title(said), class_=kind, cx=x, cy=y_of(arm["value"]), r=4)
        )
    ticks, levels = svg.log_ticks(low, high), svg.ticks(bottom, top, 6)
    better = "higher" if shown[0]["higher_is_better"] else "lower"
    return svg.frame(
        *marks, described=_described(lines), height=HEIGHT, kind="frontier",
        x_label="FLOPs of selection and training together",
        y_label=f"{shown[0]['metric']}, {better} is better",
        x_ticks=[(across(t), number(t)) for t in ticks[:: max(1, math.ceil(len(ticks) / 6))]],
        y_ticks=[(up(t), text) for t, text in zip(levels, scale(levels), strict=True)],
    )  # fmt: skip


def _law_of(line: Line, fits: Sequence[Json]) -> tuple[LawFit, str] | None:
    """The law that was fitted to an arm's points and the name of its curve, where there is one."""
    arm = line.arms[0]
    terms = {name: arm[name] for name in TERMS}
    for fit in fits:
        mine = fit.get("terms") == terms and fit["train_params"] == arm["train_params"]
        curves = [curve for curve, name in fit.get("arms", {}).items() if name == arm["name"]]
        if mine and curves and fit["form"] == "shared":
            names = {field.name for field in fields(LawFit)}
            return LawFit.from_json({k: v for k, v in fit.items() if k in names}), curves[0]
    return None


def _law_points(
    line: Line, law: LawFit, curve: str, full: Sequence[Json], ends: tuple[float, float]
) -> list[tuple[float, float]]:
    """Total FLOPs and value on a law, from a hundredth of a full pass to a whole one."""
    first = line.arms[0]
    whole, sign = full[0]["training_flops"], 1 if first["higher_is_better"] else -1
    shares = np.geomspace(_LEAST_SHARE, 1.0, _POINTS)
    costs = first["selection_flops"] + shares * whole
    worth = sign * law.predict(curve, shares)
    inside = (costs >= ends[0]) & (costs <= ends[1])
    return list(zip(costs[inside].tolist(), worth[inside].tolist(), strict=True))


def _described(lines: Sequence[Line]) -> str:
    parts = [f"{line.name} {number(line.arms[-1]['value'])}" for line in lines]
    return f"Value against FLOPs. At each one's largest budget: {', '.join(parts)}."


def _rates(fits: Sequence[Json]) -> list[dict[str, Any]]:
    """λ of each method of each panel, by the form with one base for all."""
    return [
        {
            "panel": fit["panel"], "method": method, "rate": rate,
            "ratio": rate / fit["rates"][RANDOM] if fit["rates"].get(RANDOM) else None,
            "missed": fit["rmse"] / fit["gap"] if fit["gap"] else None,
            "bounds": [hit for hit in fit["bounds_hit"] if hit.startswith(f"{method}:")],
        }
        for fit in fits
        if fit["form"] == "shared"
        for method, rate in fit["rates"].items()
    ]  # fmt: skip
