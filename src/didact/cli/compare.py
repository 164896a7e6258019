"""`didact compare`: which method, on one's own data, at equal total compute."""

from __future__ import annotations

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
        str,
        typer.Argument(
            metavar="GRID", help="YAML or TOML: what is compared; 'init' writes a commented one."
        ),
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", help="The comparison's folder; again = go on there.")
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
        str | None,
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
    from didact.core.paths import place

    home = place(out)
    if grid == _INIT and not place(grid).exists():
        from didact.comparing.template import write_template

        write_template(home)
        say(f"wrote {home}; next: didact compare {home} -o OUT --dry-run")
        return
    _check_options(
        ["--so-far"] * so_far
        + ["--export-only"] * (export_only is not None)
        + ["--results"] * (results is not None),
        ["--dry-run"] * dry_run
        + ["--max-hours"] * (max_hours is not None)
        + ["--jobs"] * (jobs > 1),
    )
    if results is not None:
        from didact.comparing.results import compared_results

        found = compared_results(grid, out, results)
        print_json(found.to_json()) if json else compared_tables(found, home)
        return
    with progress_bars() as progress:
        ctx = verbs.context(0, None, cache_dir, progress, say)
        if export_only is not None:
            from didact.comparing.exporting import export_arms

            arms = export_arms(grid, out, export_only, ctx=ctx)
        else:
            from didact.comparing.compare import compare as compared

            done = compared(
                grid, out, dry_run=dry_run, max_hours=max_hours, jobs=jobs, so_far=so_far,
                about_to_run=foretell, ctx=ctx,
            )  # fmt: skip
    if export_only is not None:
        print_json([asdict(each) for each in arms]) if json else exported_table(arms, home)
        return
    if done.comparison is None:
        print_json(done.bill.to_json()) if json else bill_table(done.bill)
        return
    if json:
        print_json(done.comparison.to_json())
    else:
        compared_tables(done.comparison, done.folder, done.failed)
    if done.failed:
        raise typer.Exit(1)


def _check_options(instead: list[str], of_runs: list[str]) -> None:
    """Refuse what would do nothing: of the ways that run nothing one, and nothing of running."""
    if len(instead) > 1:
        raise typer.BadParameter(f"give {instead[0]} or {instead[1]}, not both")
    if instead and of_runs:
        raise typer.BadParameter(
            f"{of_runs[0]} does nothing with {instead[0]}, which runs nothing; leave it out"
        )
