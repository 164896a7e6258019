"""The page of a deduplication: one self-contained HTML file with the largest clusters to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from didact.core.atomic import write_text
from didact.core.paths import Place
from didact.reporting.page import TEMPLATES, templates

if TYPE_CHECKING:
    from didact.core.pool import Pool
    from didact.selection.around.distinct import Distinct

CLUSTERS: Final = 200
ROWS: Final = 8  # of a cluster


def write_clusters_page(found: Distinct, pool: Pool, path: Place) -> None:
    """Write the page; equal values give equal bytes.

    Args:
        found: What was found.
        pool: Where.
        path: The file.

    **Cost:** reads the texts of at most 1,600 rows.
    """
    page = templates().get_template("clusters.html").render(
        clusters=found.largest(pool, CLUSTERS, ROWS), counts=found.counts(pool),
        settings=found.settings, style=(TEMPLATES / "report.css").read_text("utf-8"),
    )  # fmt: skip
    write_text(path, page)
