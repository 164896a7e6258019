"""`didact report`: the page of a finished run."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from didact.cli.options import Cache

EXAMPLES: Final = "Example: didact report OUT --no-samples -o share.html"


def report(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A finished run folder.")],
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="The file [default: RUN/report.html].")
    ] = None,
    samples: Annotated[
        bool | None,
        typer.Option("--samples/--no-samples", help="Show samples to read [default: as the run]."),
    ] = None,
    cache_dir: Cache = None,
) -> None:
    """Write the report of a finished run again."""
    from didact import pipeline
    from didact.core.paths import place

    path = place(out) if out else place(folder) / "report.html"
    pipeline.report(folder, path, samples=samples, cache_dir=cache_dir)
    sys.stdout.write(f"{path}\n")
