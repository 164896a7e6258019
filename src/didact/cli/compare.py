"""`didact compare`: which method, on one's own data, at equal total compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from didact.cli import completion
from didact.cli.options import Cache, Json
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact compare init -o grid.yaml · didact compare grid.yaml -o OUT --dry-run · "
    "didact compare grid.yaml -o OUT --max-hours 4 · didact plan … --from OUT"
)
_INIT: Final = "init"


def compare(
    grid: Annotated[
        Path,
        typer.Argument(
            metavar="GRID", help="YAML or TOML: what is compared; 'init' writes a commented one."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The comparison's folder; again = go on there.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the bill and stop.")] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours", min=0, help="Drop arms, in the order that is printed, to keep to it."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Runs at a time, each in a process.")
    ] = 1,
    so_far: Annotated[
        bool, typer.Option("--so-far", help="Run nothing: tell what is done.")
    ] = False,
    export_only: Annotated[
        str | None,
        typer.Option(
            "--export-only",
            metavar="TRAINER",
            help="Train nothing: write each feasible arm as a data set for trl, axolotl, …, none.",
            autocompletion=completion.names_of("trainers"),
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="CSV",
            help="Run nothing: tell what was trained and evaluated elsewhere: arm, seed, task, "
            "metric, value, higher_is_better, training_flops.",
        ),
    ] = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Compare ways to choose, each paying for its own scoring, with intervals and a verdict.

    The base model, random samples and all data are always there. Exit code 1 where a run failed.
    """
    from dataclasses import asdict

    from didact import verbs
    from didact.cli.compare_tables import bill_table, compared_tables, exported_table, foretell
    from didact.cli.printing import progress_bars
    from didact.comparing.compare import compare as compared

    if str(grid) == _INIT and not grid.exists():
        from didact.comparing.template import write_template

        write_template(out)
        say(f"wrote {out}; next: didact compare {out} -o OUT --dry-run")
        return
    if export_only is not None and results is not None:
        raise typer.BadParameter("give --export-only or --results, not both")
    with progress_bars() as progress:
        ctx = verbs.context(0, None, cache_dir, progress, say)
        done = compared(
            grid, out, dry_run=dry_run, max_hours=max_hours, jobs=jobs, ctx=ctx,
            so_far=so_far, export_only=export_only, results=results, about_to_run=foretell,
        )  # fmt: skip
    if done.exported:
        print_json([asdict(each) for each in done.exported]) if json else exported_table(done)
        return
    if done.comparison is None:
        print_json(done.bill.to_json()) if json else bill_table(done.bill)
        return
    print_json(done.comparison.to_json()) if json else compared_tables(done)
    if done.failed:
        raise typer.Exit(1)
