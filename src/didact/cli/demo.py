"""`didact demo`: a run on text that every machine with Python has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from didact.cli.options import Cache, Executor, Json, RayAddress, Workers
from didact.cli.streams import print_json

EXAMPLES: Final = "Example: didact demo -o demo"


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Where data, config and run go.")] = Path(
        "demo"
    ),
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run the main job on the text of this Python's own standard library."""
    from didact import pipeline
    from didact.cli.printing import progress_bars, run_table
    from didact.demo import demo_config, write_demo_data

    pool, target = write_demo_data(out)
    config = demo_config(pool, target, out / "run.yaml")
    with progress_bars() as progress:
        done = pipeline.run(
            config, out / "run", workers=workers, cache_dir=cache_dir, progress=progress,
            executor=executor, address=ray_address,
        )  # fmt: skip
    print_json(done.manifest.to_json()) if json else run_table(done)
