"""What `didact plan` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.table import Table

from didact.cli.printing import new_table, safe, stdout
from didact.planning.comparison import RANDOM
from didact.planning.law import Form, LawFit
from didact.planning.plan import Plan
from didact.planning.prior import COMPARE
from didact.planning.rows import UTILITY_LEVEL, Row


def plan_tables(plan: Plan) -> None:
    """The verdict, the bill of every method at what the budget allows, notes."""
    console = stdout()
    if not console.is_terminal:  # nothing is cut off in a file
        console.width = 120
    console.print(f"[bold]{safe(plan.verdict.text)}[/bold]\n")
    for line in _asked(plan):
        console.print(safe(line))
    known = [i for i in shown(plan) if plan.rows[i].predicted is not None]
    if known:
        console.print(_known(plan, known))
        console.print(
            "value: 0 the base model, 1 a full pass; over random: random samples for the whole "
            "budget"
        )
        for mark in sorted({mark for i in known for mark in plan.rows[i].marks}):
            console.print(f"* {mark}")
    rest = [i for i in shown(plan) if i not in known and plan.rows[i].method != RANDOM]
    if rest:
        console.print("\nnothing is known of the value of these:" if known else "")
        console.print(_bill(plan, rest))
    published = _published(plan)
    if published.row_count:
        console.print("")
        console.print(published)
    for line in (*_facts(plan), *_law(plan)):
        console.print(line)
    for note in plan.notes:
        console.print(f"note: {safe(note)}")


def _asked(plan: Plan) -> Sequence[str]:
    budget, pool, full = plan.question["budget"], plan.question["pool"], plan.training.flops
    name = pool["name"]
    sizes = f"{pool['samples']:,} samples, {pool['tokens']:,} tokens"
    spread = ""
    if budget["low"] < budget["high"]:
        spread = f" ({budget['low']:.2g} to {budget['high']:.2g})"
    file = f" ({name})" if pool["fingerprint"] else ""
    return (
        f"pool: {sizes}{file}",
        (
            f"model: {plan.question['model']['given']}; one pass over the pool {full:.3g} FLOPs "
            f"(6·N·D: {plan.training.flops_6nd:.3g})"
        ),
        (
            f"budget: {budget['given']} = {budget['flops']:.3g} FLOPs{spread}, "
            f"{budget['flops'] / full:.3g} passes"
        ),
    )


def shown(plan: Plan) -> list[int]:
    """Of every method and scoring model the row that the budget allows most of, best first."""
    best: dict[tuple[str, str | None], int] = {}
    for i, row in enumerate(plan.rows):
        key = row.method, row.selector
        if key not in best or _reach(row) > _reach(plan.rows[best[key]]):
            best[key] = i
    found = {*best.values(), *(i for i in (plan.recommended, plan.runner_up) if i is not None)}
    return sorted(found, key=lambda i: _rank(plan, i))


def _reach(row: Row) -> tuple[bool, float]:
    """Feasible before infeasible; then as far as the budget goes, or as little as it takes."""
    return row.feasible, min(row.fraction, 1.0) if row.feasible else -row.fraction


def _rank(plan: Plan, i: int) -> tuple[int, float, float]:
    row = plan.rows[i]
    place = {plan.recommended: 0, plan.runner_up: 1}.get(i, 2 if row.feasible else 3)
    worth = float("-inf") if row.utility is None else row.utility
    return place, -worth, row.total_flops


def _known(plan: Plan, rows: Sequence[int]) -> Table:
    over = f"over random ({100 * UTILITY_LEVEL:.0f} %)"
    out = new_table("", "method", "by", "share", "selection", "hours", "value", over, "")
    for i in rows:
        row = plan.rows[i]
        value = f"{row.predicted:.2f}" + ("*" if row.marks else "")
        out.add_row(_mark(plan, i), *_cost(row), value, *_worth(row))
    return _fixed(out)


def _bill(plan: Plan, rows: Sequence[int]) -> Table:
    out = new_table("", "method", "by", "share", "selection", "hours", "CPU s")
    for i in rows:
        row = plan.rows[i]
        seconds = f"{row.selection_cpu_seconds:,.0f}" if row.selection_cpu_seconds >= 1 else ""
        out.add_row(_mark(plan, i), *_cost(row), seconds if row.feasible else "over the budget")
    return _fixed(out)


def _fixed(out: Table) -> Table:
    for i, column in enumerate(out.columns):
        column.no_wrap = True
        if i < 3:
            column.justify = "left"
    return out


def _mark(plan: Plan, i: int) -> str:
    return {plan.recommended: "→", plan.runner_up: "2"}.get(i, "")


def _cost(row: Row) -> Sequence[str]:
    selection = f"{row.selection_flops:.2g}" if row.selection_flops else ""
    return (
        row.method, safe(row.selector or ""), f"{row.fraction:.3g}", selection,
        f"{row.device_hours:.3g}",
    )  # fmt: skip


def _worth(row: Row) -> Sequence[str]:
    if not row.feasible:
        return "over the budget", ""
    if row.utility is None or (row.method == RANDOM and not row.utility):
        return "", ""
    over = f"{row.utility:+.2f} \\[{row.utility_low:+.2f}, {row.utility_high:+.2f}]"
    return over, "" if row.p_beats_random is None else f"{row.p_beats_random:.0%}"


def _facts(plan: Plan) -> Sequence[str]:
    out = []
    if plan.break_even is not None:
        of, against = plan.rows[plan.break_even.of], plan.rows[plan.break_even.against]
        shared = plan.break_even.tasks
        tasks = "" if shared is None else f", or {shared:,} task{'s' * (shared > 1)} that share it"
        out.append(
            f"break-even of {safe(of.name)} against {against.method}: a model "
            f"{plan.break_even.ratio:.3g} times the scoring model{tasks}"
        )
    if plan.pilot is not None:
        out.append(
            f"pilot: {plan.pilot.flops:.3g} FLOPs, {plan.pilot.hours:.3g} h; its grid is in --json"
        )
    return out


def _published(plan: Plan) -> Table:
    """What papers charge beside what is counted, with the first scoring model of each method."""
    out = new_table("FLOPs of", "by", "counted", "as published")
    seen = set()
    for scoring in plan.scoring:
        if scoring.method in seen:
            continue
        seen.add(scoring.method)
        for rule, flops in scoring.published.items():
            out.add_row(
                scoring.method, safe(scoring.selector or ""), f"{scoring.cost.flops:.2g}",
                f"{flops:.2g}  {rule}",
            )  # fmt: skip
    out.columns[1].justify = out.columns[3].justify = "left"
    return out


def _law(plan: Plan) -> Sequence[str]:
    """How well both forms of the law foretell points that they were not fitted to."""
    fits = plan.prior.fits
    if not fits:
        return ()
    out = []
    if plan.prior.source == COMPARE:  # the published ones are on the page
        out += [line for name, both in fits.items() for line in _fitted(name, both["shared"])]
    for form, called in _FORMS.items():
        found = [fit for both in fits.values() if (fit := both[form]) is not None]
        if not found:
            out.append(f"law, {called}: too few points a method")
            continue
        missed = (
            _mean(fit.share(fit.loo) for fit in found),
            _mean(fit.share(fit.forward) for fit in found),
        )
        bounds = sum(len(fit.bounds_hit) for fit in found)
        out.append(
            f"law, {called}: misses a point left out by {missed[0]} of the gap, forecasts from a "
            f"tenth of a pass by {missed[1]}" + (f"; at a bound: {bounds}" if bounds else "")
        )
    return out


_FORMS: Final[Mapping[Form, str]] = {
    "shared": "one base for all methods (used here)", "own": "a base for each, as published"
}  # fmt: skip


def _fitted(panel: str, fit: LawFit | None) -> Sequence[str]:
    if fit is None:
        return ()
    rates = ", ".join(f"{safe(method)} {rate:.3g}" for method, rate in fit.rates.items())
    base = next(iter(fit.base.values()))
    bounds = "".join(f"; {hit}" for hit in fit.bounds_hit)
    return (f"{safe(panel)}: from {base:.4g} to {fit.end:.4g}, λ {rates}{bounds}",)


def _mean(shares: Iterable[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{sum(known) / len(known):.3f}" if known else "(too few points)"
