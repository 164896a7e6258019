"""The page of a monitor: one self-contained HTML file with what was judged and flagged."""

from __future__ import annotations

from collections.abc import Sequence

from didact.analysis.risk.flags import Watched
from didact.core.atomic import write_text
from didact.core.paths import Place
from didact.reporting.page import TEMPLATES, templates
from didact.reporting.sections.risks import Risks, template_values


def write_risk_page(versions: Sequence[Watched], path: Place) -> None:
    """Write the page; equal values give equal bytes.

    Args:
        versions: What a monitor found of each version, in order.
        path: The file.
    """
    from markupsafe import Markup

    found, environment = Risks(tuple(versions)), templates()
    section = environment.get_template("sections/risks.html").render(
        s=found, **template_values(found)
    )
    page = environment.get_template("risk.html").render(
        section=Markup(section),  # noqa: S704 - the template escapes
        versions=len(found.versions),
        style=(TEMPLATES / "report.css").read_text("utf-8"),
    )
    write_text(path, page)
