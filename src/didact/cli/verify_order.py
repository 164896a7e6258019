"""`didact verify-order`: whether a log of training steps follows an order."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli.options import Json
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact verify-order trained/order_log.jsonl OUT · "
    "didact verify-order ids.jsonl OUT/order.parquet"
)


def verify_order(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            help="JSON lines with step and ids, rows, positions or texts; a steps.jsonl of "
            "didact's; or one id a line.",
        ),
    ],
    manifest: Annotated[
        str,
        typer.Argument(metavar="MANIFEST", help="The run folder, manifest.json or order.parquet."),
    ],
    json: Json = False,
) -> None:
    """Say whether a training read the rows in order: exit code 0 yes, 4 no, 5 cannot tell."""
    from didact.callbacks.order_log import EXIT_CODES, verify_order
    from didact.cli.printing import facts_table

    found = verify_order(log, manifest)
    if json:
        print_json(found.facts())
    else:
        shown = {k: v for k, v in found.facts().items() if v not in (None, (), "") and k != "said"}
        facts_table({k: ", ".join(v) if isinstance(v, tuple) else v for k, v in shown.items()})
        say(found.said)
    raise typer.Exit(EXIT_CODES[found.verdict])
