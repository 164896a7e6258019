"""What a section of the report is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from didact.reporting.sections.header import Header
from didact.reporting.subject import Subject


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report; its template is `templates/sections/<name>.html`.

    Attributes:
        name: Its anchor in the page and its place in `Report.sections`.
        title: What a link to it says.
        gather: What it says, as frozen plain values; None where there is nothing to say.
        template_values: What its template needs beside these values and the header: charts,
            sentences.
    """

    name: str
    title: str
    gather: Callable[[Subject], Any]
    template_values: Callable[[Any, Header], Mapping[str, Any]]
