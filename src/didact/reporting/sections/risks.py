"""Risks: versions of the data beside what earlier ones led to expect, and what was flagged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from didact.analysis.risk.flags import KINDS, Flag, Judged, Watched
from didact.reporting.formatting import number, percent
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject
from didact.reporting.whiskers import Whisker, whiskers

DRAWN: Final = 40  # versions in a chart
NAMED: Final = 5  # rows of a flag


@dataclass(frozen=True, slots=True)
class Risks:
    """What a monitor found.

    Attributes:
        versions: The versions, in order.
        named: Whether ids of rows may be shown.
    """

    versions: tuple[Watched, ...]
    named: bool = True

    @property
    def flags(self) -> tuple[tuple[str, Flag], ...]:
        """Every flag, with its version."""
        return tuple((one.version, flag) for one in self.versions for flag in one.flags)

    def of_kind(self, kind: str) -> list[tuple[str, Judged]]:
        """What was judged of a kind, in all: the farthest number of each version."""
        out = []
        for one in self.versions:
            found = [j for j in one.judged if j.kind == kind and not j.source]
            if found:
                out.append((one.version, max(found, key=lambda j: abs(j.z))))
        return out


def _gather(subject: Subject) -> Risks | None:
    return Risks(tuple(subject.risks), subject.samples) if subject.risks else None


def figures(found: Risks) -> list[tuple[str, str, str]]:
    """Title, chart and caption of every kind that was judged over the versions."""
    out = []
    for kind, (unit, _, _) in KINDS.items():
        series = found.of_kind(kind)[-DRAWN:]
        if not series:
            continue
        shown = [_whisker(version, judged) for version, judged in series]
        flagged = [version for version, judged in series if judged.flagged]
        says = f"{kind} over {len(series)} versions; flagged: {', '.join(flagged) or 'none'}"
        chart = whiskers(shown, described=says, x_label=unit)
        caption = (
            f"Dot: what was seen ({unit}). Tick: what earlier versions led to expect. Line: the "
            "band beyond which it is flagged."
        )
        out.append((kind.replace("_", "-"), chart, caption))
    return out


def _whisker(version: str, one: Judged) -> Whisker:
    reach = one.limit * one.sd
    return Whisker(
        name=version, value=one.seen, low=one.expected - reach, high=one.expected + reach,
        shown=f"{number(one.seen)}{' flagged' if one.flagged else ''}", chance=one.expected,
    )  # fmt: skip


def verdict(versions: Sequence[Watched]) -> str:
    """What was found, in a sentence."""
    flagged = [one.version for one in versions if one.verdict == "flagged"]
    unknown = [one.version for one in versions if one.verdict == "cannot_tell"]
    said = f"Flagged: {', '.join(flagged)}." if flagged else "Nothing is flagged."
    return f"{said} Cannot tell: {', '.join(unknown)}." if unknown else said


def rows_named(flag: Flag) -> str:
    """The first rows of a flag, in words."""
    rows = flag.rows.worst[:NAMED]
    return "; ".join(f"{row.id}{f' ({row.why})' if row.why else ''}" for row in rows)


def template_values(found: Risks, _header: Header | None = None) -> Mapping[str, Any]:
    """What the template needs beside the values."""
    return {
        "figures": figures(found), "says": verdict(found.versions), "rows_named": rows_named,
        "share": percent, "what": {kind: told[0] for kind, told in KINDS.items()},
    }  # fmt: skip


SECTION = Section(name="risks", title="Risks", gather=_gather, template_values=template_values)
