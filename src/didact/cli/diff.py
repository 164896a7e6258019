"""`didact diff`: two finished runs side by side."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli.options import Json
from didact.cli.streams import print_json

EXAMPLES: Final = "Example: didact diff OUT_A OUT_B"


def diff(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A finished run folder.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another.")],
    json: Json = False,
) -> None:
    """Compare two runs: settings, inputs, scores, selections, order, cost."""
    from didact import pipeline
    from didact.cli.printing import diff_table

    result = pipeline.diff(run_a, run_b)
    print_json(result) if json else diff_table(result)
