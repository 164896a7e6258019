"""`didact calibrate`: what this machine reads and trains in a second."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli.options import Cache, Json
from didact.cli.streams import print_json

EXAMPLES: Final = (
    "Examples: didact calibrate · didact calibrate --seconds 10 --device cpu · "
    "didact run run.yaml --dry-run --device here"
)


def calibrate(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to measure, about.")] = 30.0,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu or cuda; auto is the first accelerator.")
    ] = "auto",
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Measure FLOPs a second of a real small model here, so that plans can tell hours."""
    from didact import verbs
    from didact.cli.printing import facts_table, progress_bars

    with progress_bars() as progress:
        found = verbs.calibrate(
            device=device, seconds=seconds, cache_dir=cache_dir, progress=progress
        )
    print_json(found.to_json()) if json else facts_table(found.to_json())
