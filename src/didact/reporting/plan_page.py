"""The page of a plan: one self-contained HTML file, with sliders where scripts run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.analysis.power import detectable
from didact.planning import pilot, rows
from didact.planning.comparison import RANDOM
from didact.planning.costs import BY_LANGUAGE_MODEL
from didact.reporting import formatting
from didact.reporting.page import TEMPLATES, script_digest, templates
from didact.reporting.plan_frontier import (
    CHEAPEST,
    FARTHEST,
    HEIGHT,
    POINTS,
    curves_of,
    frontier_chart,
)
from didact.reporting.plan_otherwise import changes, distinct, grows

Json = Mapping[str, Any]
_HEADS: Final = {
    "random": "Take random samples", "all": "Train on all of it",
    "unknown": "Nobody can know beforehand",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the bill: what one way to choose costs when it spends the budget.

    Attributes:
        index: Place in the plan's `scoring`.
        row: The row of the largest share of a full pass, up to one, that the budget pays for; the
            cheapest one where it pays for none.
        index_of_row: Its place in the plan's `rows`.
        feasible: Whether the budget pays for it.
        selection: Scoring, 0-1 of the longest bar.
        training: Training, likewise.
    """

    index: int
    row: Json
    index_of_row: int
    feasible: bool
    selection: float
    training: float


def render_plan(values: Json) -> str:
    """A plan as an HTML page: no network, readable on paper, complete without scripts.

    Equal values give equal bytes.

    Args:
        values: The plan's JSON values.

    **Cost:** half a second, most of it for the table of what would change the answer.
    """
    from markupsafe import Markup

    environment = templates()
    environment.filters.update(
        flops=formatting.number,
        params=params,
        hours=hours,
        signed=signed,
        ratio=ratio,
        round_percent="{:.0%}".format,
    )
    script, style = _joined("plan_rule.js", "plan_page.js"), _joined("report.css", "plan.css")
    data = embedded(script_values(values))
    return environment.get_template("plan.html").render(
        p=values, q=values["question"], random_name=RANDOM,
        style=style,
        script=Markup(script),  # noqa: S704 - didact's own
        digest=script_digest(f"\n{script}\n"),
        data=Markup(data),  # noqa: S704 - nothing that HTML reads is in it
        **_answer(values), **_shown(values),
    )  # fmt: skip


def _answer(values: Json) -> dict[str, Any]:
    """What the head of the page says."""

    def row(name: str) -> Json | None:
        return None if values[name] is None else values["rows"][values[name]]

    taken, second = row("recommended"), row("runner_up")
    verdict, pilot_found = values["verdict"], values["pilot"]
    select = taken if verdict["code"] == "select" else None
    head = (
        _HEADS[verdict["code"]]
        if select is None
        else f"Select by {rows.named(select['method'], select['selector'])}"
    )
    return {
        "taken": taken,
        "second": second,
        "challenger": next((r for r in (taken, second) if r and r["method"] != RANDOM), None),
        "paying": row("break_even_of"),
        "free": row("break_even_against"),
        "head": head,
        "reason": _reason(verdict["text"], head),
        "pilot_none": _no_pilot(values, taken, second),
        "grid": "" if pilot_found is None else json.dumps(pilot_found["grid"], indent=1),
    }


def _shown(values: Json) -> dict[str, Any]:
    """What its sections show."""
    budget, whole = values["question"]["budget"]["flops"], values["training"]["flops"]
    curves = curves_of(values)
    bars, longest = bill(values)
    scored = {scoring["method"] for scoring in values["scoring"]}
    return {
        "budget": budget,
        "whole": whole,
        "beta": budget / whole,
        "bars": bars,
        "longest": longest,
        "best": [(bar.index_of_row, bar.row) for bar in bars],
        "every": list(enumerate(values["rows"])),
        "curves": curves,
        "chart": frontier_chart(values, curves) if curves else "",
        "undrawn": sorted(scored - {curve.method for curve in curves}),
        "published": published(values),
        "changes": changes(values),
        "rates": _rates(values),
    }


def bill(values: Json) -> tuple[list[Bar], float]:
    """The bars of the bill, in the plan's order, and the FLOPs of the longest."""
    budget = values["question"]["budget"]["flops"]
    picked = []
    for index, scoring in distinct(values["scoring"]):
        own = [
            (i, r)
            for i, r in enumerate(values["rows"])
            if (r["method"], r["selector"]) == (scoring["method"], scoring["selector"])
        ]
        paid = [(i, r) for i, r in own if r["feasible"] and r["fraction"] <= 1]
        if paid:
            picked.append((index, max(paid, key=lambda found: found[1]["fraction"])))
        elif own:
            picked.append((index, min(own, key=lambda found: found[1]["fraction"])))
    longest = max((_total(r) for _, (_, r) in picked if r["feasible"]), default=budget)
    return [
        Bar(
            index, row, i, row["feasible"],
            min(row["selection_flops"] / longest, 1.0), row["training_flops"] / longest,
        )
        for index, (i, row) in picked
    ], longest  # fmt: skip


def published(values: Json) -> list[tuple[str, str, float, float]]:
    """What papers charge beside what didact counts, of one task: name, rule, theirs, ours."""
    training = values["training"]
    out = [("training, one pass", "6·N·D", training["flops_6nd"], training["flops"])]
    if training["rank"] is not None:
        out = []
    out.extend(
        (rows.named(scoring["method"], scoring["selector"]), rule, flops, scoring["cost"]["flops"])
        for _, scoring in distinct(values["scoring"])
        for rule, flops in scoring["published"].items()
    )
    return out


def script_values(values: Json) -> dict[str, Any]:
    """What the script of the page computes from; names as they are shown."""
    question, prior = values["question"], values["prior"]
    return {
        "budget": question["budget"]["flops"],
        "whole": values["training"]["flops"],
        "params": question["model"]["params"],
        "tasks": question["tasks"],
        "rate": question["rate"]["middle"],
        "least": rows.least_fraction(question["pool"]["samples"], question["batch_size"]),
        "scoring": [
            {
                "index": i, "method": s["method"],
                "selector": None if s["selector"] is None else formatting.visible(s["selector"]),
                "params": s["selector_params"], "flops": s["cost"]["flops"],
                "cpu": s["cost"]["cpu_seconds"], "grows": grows(values, s),
                "shared": s["shared"],
            }
            for i, s in distinct(values["scoring"])
        ],
        "known": prior["source"] != "none",
        "rates": prior["rates"],
        "middle": prior["middle"],
        "draws": prior["draws"],
        "measured": prior["selector_params"],
        "trained": prior["train_params"],
        "noise": prior["noise"] or pilot.USUAL_NOISE,
        "seeds": _seeds(),
        "constants": {
            "fractions": rows.FRACTIONS, "passes": rows.MOST_PASSES,
            "levels": values["levels"], "byLanguageModel": BY_LANGUAGE_MODEL,
            "smaller": rows.SMALLER, "pilotParams": pilot.TRAIN_PARAMS,
            "ends": pilot.ENDS, "wanted": pilot.WORTH_FINDING,
            "height": HEIGHT, "points": POINTS, "cheapest": CHEAPEST, "farthest": FARTHEST,
        },
    }  # fmt: skip


def embedded(values: Mapping[str, Any]) -> str:
    """JSON that may stand inside a `script` element whatever its texts hold."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def params(value: float | None) -> str:
    """A number of parameters: 7B, 150M."""
    return formatting.compact(value).replace("G", "B")


def hours(value: float | None) -> str:
    """A duration given in hours: 50 h, 16.6 min, 12 s."""
    if value is None:
        return formatting.NONE
    if value >= 100:
        return f"{value:,.0f} h"
    if value >= 1:
        return f"{value:.3g} h"
    if value >= 1 / 60:
        return f"{60 * value:.3g} min"
    return f"{3600 * value:.2g} s" if value else "0 s"


def signed(share: float | None) -> str:
    """A difference of shares with its sign, in per cent of the gap."""
    return formatting.NONE if share is None else f"{formatting.change(0, share)}%"


def ratio(value: float | None) -> str:
    """How many times: 1.5, 16.6, 1,240."""
    if value is None:
        return formatting.NONE
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _total(row: Json) -> float:
    return float(row["selection_flops"] + row["training_flops"])


def _joined(*names: str) -> str:
    return "\n".join((TEMPLATES / name).read_text("utf-8") for name in names)


def _reason(text: str, head: str) -> str:
    """The verdict's text without what the heading says already."""
    for opening in (f"{head}: ", "Nobody can know: ", "All of it: "):
        if text.startswith(opening):
            rest = text.removeprefix(opening)
            return rest[0].upper() + rest[1:]
    return text


def _no_pilot(values: Json, taken: Json | None, second: Json | None) -> str:
    """Why there is no pilot."""
    code = values["verdict"]["code"]
    if code == "all" or (code == "random" and (second is None or (second["utility"] or 0) <= 0)):
        return "nothing is open"
    if taken is not None and second is not None:
        apart = abs(taken["predicted"] - second["predicted"])
        _, smallest = _seeds()[-1]
        if apart < smallest * (values["prior"]["noise"] or pilot.USUAL_NOISE):
            return f"{pilot.MOST_SEEDS} seeds an arm would not tell the two apart"
    return "finding out costs more than it can gain"


def _rates(values: Json) -> list[dict[str, Any]]:
    """λ of each method, with its interval and its ratio to random's."""
    prior = values["prior"]
    out = []
    for method, rate in prior["rates"].items():
        low, high = rows.interval(np.array(prior["draws"][method], np.float64), rows.LEVEL)
        out.append(
            {
                "method": method, "rate": rate, "low": low, "high": high,
                "ratio": rate / prior["rates"][RANDOM],
                "judged": prior["selector_params"].get(method),
            }
        )  # fmt: skip
    return out


def _seeds() -> list[list[float]]:
    """Numbers of seeds, and the difference in SDs of a run that each finds."""
    counts = range(pilot.LEAST_SEEDS, pilot.MOST_SEEDS + 1)
    return [[n, detectable(1.0, n, df=2 * (n - 1))] for n in counts]
