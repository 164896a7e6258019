"""What `didact compare` prints: the bill on stderr before it runs, then what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from didact.cli.printing import new_table, safe, stdout
from didact.comparing.bill import Bill
from didact.comparing.exporting import RESULTS, Exported
from didact.comparing.writing import COMPARISON, PAGE, TABLE
from didact.core.paths import Place
from didact.planning.comparison import Arm, Comparison, labelled
from didact.reporting.formatting import number, seconds
from didact.reporting.plan_page import hours

_WIDE: Final = 140  # characters of a line in a file
_NAME: Final = 30  # least characters of a name with values of axes


def foretell(bill: Bill) -> None:
    """The bill, on stderr: results go to stdout."""
    _bill(bill, Console(stderr=True, highlight=False, soft_wrap=True))


def bill_table(bill: Bill) -> None:
    """The bill as the result of a dry run."""
    _bill(bill, stdout())


def _bill(bill: Bill, console: Console) -> None:
    _widened(console)
    table = new_table(
        "setting", "runs", "not paid", "scoring", "CPU s", "training", "evaluation", "time",
    )  # fmt: skip
    table.columns[0].min_width = _NAME if any("[" in x.label for x in bill.lines) else None
    for line in bill.lines:
        table.add_row(
            safe(line.label), f"{line.runs}", f"{line.infeasible or ''}",
            number(line.scoring_flops), f"{line.scoring_cpu_seconds:.2f}",
            number(line.training_flops), number(line.evaluation_flops), hours(line.seconds / 3600),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"FLOPs; in all {number(bill.flops)}, {hours(bill.seconds / 3600)} on {safe(bill.device)} "
        "by four steps that were timed" + (f", {bill.jobs} at a time" if bill.jobs > 1 else "")
    )
    for label in bill.dropped:
        console.print(f"dropped to keep to the hours: {safe(label)}")


def exported_table(arms: Sequence[Exported], folder: Place) -> None:
    """The data sets that were written, and where results go."""
    console = stdout()
    table = new_table("arm", "seed", "samples", "scoring FLOPs", "training FLOPs", "data set")
    for each in arms:
        where = each.folder or (f"as {each.shares}" if each.shares else each.reason)
        table.add_row(
            safe(each.arm), "" if each.seed is None else f"{each.seed}",
            f"{each.samples:,}" if each.samples else "", number(each.selection_flops),
            number(each.training_flops), safe(where),
        )  # fmt: skip
    console.print(table)
    console.print(f"wrote {safe(folder / RESULTS)}: fill in value and higher_is_better of it")


def compared_tables(
    found: Comparison, folder: Place, failed: Mapping[str, str] | None = None
) -> None:
    """The verdict in words, a table for each task, where things are."""
    console = stdout()
    _widened(console)
    console.print(safe((found.verdict or {}).get("text", "")))
    for contest in dict.fromkeys(arm.contest for arm in found.arms):
        console.print("")
        console.print(_contest(found, contest, filled=False))
        if found.filled:
            fraction = float((found.about or {}).get("fraction") or 0)
            console.print(f"\nthe same {fraction:.3g} of the pool, repeated:")
            console.print(_contest(found, contest, filled=True))
    for name, reason in (failed or {}).items():
        console.print(f"failed: {safe(name)}: {safe(reason)}")
    for file in (COMPARISON, TABLE, PAGE):
        console.print(f"wrote {safe(folder / file)}")


def _widened(console: Console) -> None:
    """Nothing is cut off in a file."""
    if not console.is_terminal:
        console.width = _WIDE


def _contest(found: Comparison, contest: str, *, filled: bool) -> Table:
    """The arms of a task, of a base."""
    arms = [arm for arm in (found.filled if filled else found.arms) if arm.contest == contest]
    table = new_table(
        safe(contest), "β", arms[0].metric, "95 %", "beside random", "", "scoring FLOPs", "CPU s",
        "training FLOPs", "of β", "runs",
    )  # fmt: skip
    table.columns[0].min_width = _NAME if any(arm.setting for arm in arms) else None
    beside = {
        (d["task"], d["base"], d["arm"], d["setting"], d["beta"]): d
        for d in found.differences if d["filled"] == filled
    }  # fmt: skip
    for arm in sorted(arms, key=lambda a: (a.method == "all", a.beta)):
        d = beside.get((arm.task, arm.base, arm.name, arm.setting, arm.beta))
        name = labelled(arm.name, arm.setting)
        table.add_row(
            safe(name) + ("" if arm.chosen else " (not chosen)"), f"{arm.beta:g}",
            number(arm.value), _between(arm), "" if d is None else f"{d['difference']:+.3g}",
            _said(arm, d), number(arm.selection_flops), seconds(arm.selection_cpu_seconds),
            number(arm.training_flops), _spent(arm), f"{arm.seeds}",
        )  # fmt: skip
    return table


def _spent(arm: Arm) -> str:
    """The share of its budget that an arm took; training moves in whole steps."""
    if arm.value is None or not arm.k_flops:
        return ""
    return f"{(arm.selection_flops + arm.training_flops) / arm.k_flops:.0%}"


def _between(arm: Arm) -> str:
    return "" if arm.low is None else f"{number(arm.low)} to {number(arm.high)}"


def _said(arm: Arm, difference: Mapping[str, Any] | None) -> str:
    if arm.reason:
        return safe(arm.reason)
    if difference is None:
        return ""
    if difference["shares_runs"] and difference["low"] is None:
        return "the same runs"
    return "tie" if difference["tie"] else "better" if difference["better"] else "worse"
