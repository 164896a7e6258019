"""How `didact monitor` prints: a line a flag, and below it the rows and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from didact.analysis.risk.flags import KINDS, Flag, Watched
from didact.cli.printing import new_table, safe, stdout

_SHOWN: Final = 5  # rows named on the screen; --json has more


def flags_table(found: Sequence[Watched]) -> None:
    """The flags of versions, and in words what each is."""
    console = stdout()
    shown = new_table("version", "seen", "flag", "source", "value", "expected", "z", "rows")
    for one in found:
        seen = f"{one.seen:.0%}" if one.seen else "before training"
        if not one.flags:
            shown.add_row(safe(one.version), seen, one.verdict.replace("_", " "))
        for flag in one.flags:
            numbers = (f"{value:.4g}" for value in (flag.seen, flag.expected))
            shown.add_row(
                safe(one.version), seen, flag.kind, safe(flag.source), *numbers, f"{flag.z:.1f}",
                f"{flag.rows.count:,}",
            )  # fmt: skip
    console.print(shown)
    for one in found:
        for flag in one.flags:
            console.print(safe(f"{one.version}, {flag.kind}: {_words(flag)}"))
        for why in one.cannot:
            console.print(safe(f"{one.version}: {why}"))


def _words(flag: Flag) -> str:
    rows = [f"{r.id}{f' ({r.why})' if r.why else ''}" for r in flag.rows.worst[:_SHOWN]]
    more = flag.rows.count - len(rows)
    named = f"; rows {', '.join(rows)}{f' and {more:,} more' if more > 0 else ''}" if rows else ""
    return f"{KINDS[flag.kind][0]}{named}; {flag.advice}"
