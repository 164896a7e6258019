"""What `didact plan` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from didact.cli.printing import new_table, safe, stdout
from didact.planning.comparison import RANDOM
from didact.planning.plan import Plan
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
    rest = [i for i in shown(plan) if i not in known and plan.rows[i].method != RANDOM]
    if rest:
        console.print("\nnothing is known of the value of these:" if known else "")
        console.print(_bill(plan, rest))
    for line in _facts(plan):
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
        f"model: {plan.question['model']['given']}; one pass over the pool {full:.3g} FLOPs",
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
    marks = sorted({mark for i in shown(plan) for mark in plan.rows[i].marks})
    out = [f"* {mark}" for mark in marks]
    if plan.break_even is not None:
        of, against = plan.rows[plan.break_even.of], plan.rows[plan.break_even.against]
        out.append(
            f"break-even of {safe(of.name)} against {against.method}: a model "
            f"{plan.break_even.ratio:.3g} times the scoring model, or {plan.break_even.tasks:,} "
            "tasks that share the scoring"
        )
    if plan.pilot is not None:
        out.append(
            f"pilot: {plan.pilot.flops:.3g} FLOPs, {plan.pilot.hours:.3g} h; its grid is in --json"
        )
    return out
