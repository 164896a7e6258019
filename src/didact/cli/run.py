"""`didact run`: the whole of it, from a config to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from didact.cli.options import Cache, Json, Override, Workers
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact run run.yaml -o OUT · "
    "didact run run.yaml -o OUT --set order.layers=5 · didact run run.yaml --dry-run"
)


def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML or TOML; 'didact init' writes one.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The run folder; again = go on there.")
    ] = None,
    set_: Override = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Score and select as a plan recommends; its file or folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost.")
    ] = False,
    workers: Workers = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run all of it: data → score → select → order → export → report."""
    from didact import config as configs
    from didact import pipeline, verbs
    from didact.cli.printing import dry_run_table, progress_bars, run_table

    checked = configs.load(config, set_ or ())
    with progress_bars() as progress:
        if plan is not None:
            from didact import plans

            ctx = verbs.context(checked.seed, workers, cache_dir, progress, say)
            checked = plans.follow(checked, plan, ctx)
        if dry_run:
            ctx = verbs.context(checked.seed, workers, cache_dir, progress, say)
            pool, costs = pipeline.plan(checked, ctx)
        else:
            if out is None:
                raise typer.BadParameter("give a run folder: -o OUT (or --dry-run)")
            done = pipeline.run(
                checked, out, workers=workers, cache_dir=cache_dir, progress=progress
            )
    if dry_run:
        plain = {k: {"cpu_seconds": c.cpu_seconds, "flops": c.flops} for k, c in costs.items()}
        result = {"config": checked.resolved(), "samples": len(pool), "estimated": plain}
        print_json(result) if json else dry_run_table(checked, pool, costs)
        return
    for change in done.changes:
        say(change)
    print_json(done.manifest.to_json()) if json else run_table(done)
