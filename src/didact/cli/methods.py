"""`didact methods`: the scorers, selectors and orderers there are."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli import completion
from didact.cli.options import Json
from didact.cli.streams import print_json

EXAMPLES: Final = "Examples: didact methods · didact methods bm25"


def methods(
    name: Annotated[
        str | None,
        typer.Argument(help="One method, with its settings.", autocompletion=completion.methods),
    ] = None,
    json: Json = False,
) -> None:
    """List scorers, selectors and orderers, or describe one."""
    from didact.cli.printing import methods_table
    from didact.inspection import describe_methods

    result = describe_methods(name)
    print_json(result) if json else methods_table(result, detailed=name is not None)
