"""The report as frozen plain values, which `page` draws: a header and sections in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from didact.reporting.sections import (
    browse,
    cost,
    evaluation,
    lengths,
    order,
    redundancy,
    risks,
    samples,
    scores,
    settings,
    sources,
    training,
)
from didact.reporting.sections.header import Header, gather_header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

SECTIONS: Final[tuple[Section, ...]] = (
    sources.SECTION,
    lengths.SECTION,
    scores.SECTION,
    redundancy.SECTION,
    risks.SECTION,
    order.SECTION,
    training.SECTION,
    evaluation.SECTION,
    cost.SECTION,
    samples.SECTION,
    browse.SECTION,
    settings.SECTION,
)


@dataclass(frozen=True, slots=True)
class Report:
    """All of it; every number that the page draws is in it.

    Attributes:
        header: What is said before the sections.
        sections: What each section says, by its name and in its place; those with nothing to say
            are left out.
    """

    header: Header
    sections: Mapping[str, Any]


def gather(subject: Subject) -> Report:
    """Everything the report says, computed from the values of a run.

    **Cost:** one pass over the pool's store, whose texts are not kept; some sorts of the columns
    in memory; six compressions of at most 16 MB.
    """
    found = {section.name: section.gather(subject) for section in SECTIONS}
    said = {name: value for name, value in found.items() if value is not None}
    return Report(gather_header(subject), said)
