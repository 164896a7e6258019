"""`didact run`: the whole of it, from a config to a run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from didact.cli import completion
from didact.cli.options import Cache, Executor, Json, Override, RayAddress, Workers
from didact.cli.streams import print_json, say

if TYPE_CHECKING:
    from didact.accounting.devices import Rate
    from didact.core.cost import Cost
    from didact.core.protocols import Context

EXAMPLES: Final = (
    "Examples: didact run run.yaml -o OUT · "
    "didact run run.yaml -o OUT --set order.layers=5 · didact run run.yaml --dry-run --device H100"
)


def run(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="YAML or TOML, a file or a URL; 'didact init' writes one.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="The run folder; again = go on there.")
    ] = None,
    set_: Override = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", help="Score and select as a plan recommends; its file or folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="With --dry-run: hours on such a device: H100, A100, 4090, …, or here, once "
            "'didact calibrate' has run [default: here, if it has].",
            autocompletion=completion.devices,
        ),
    ] = None,
    mfu: Annotated[
        str | None,
        typer.Option("--mfu", help="Share of the device's peak: 0.4, 0.3-0.5 [default: 0.3-0.5]."),
    ] = None,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run all of it: data → score → select → order → export → report."""
    from didact import config as configs
    from didact import pipeline, verbs
    from didact.cli.printing import dry_run_table, progress_bars, run_table
    from didact.core.cost import total
    from didact.stages.spending import shared_out

    if not dry_run and (device is not None or mfu is not None):
        raise typer.BadParameter("--device and --mfu foretell hours: give --dry-run as well")
    checked = configs.load(config, set_ or ())
    where: dict[str, Any] = {"workers": workers, "executor": executor, "address": ray_address}
    at, why = verbs.rate(device, mfu=mfu, cache_dir=cache_dir) if dry_run else (None, "")
    with progress_bars() as progress:

        def context(config: configs.RunConfig) -> Context:
            execution = config.execution.with_given(**where)
            return verbs.context(config.seed, None, cache_dir, progress, say, executor=execution)

        if plan is not None:
            from didact import plans

            checked = plans.follow(checked, plan, context(checked))
        if dry_run:
            pool, costs = pipeline.plan(checked, context(checked))
        else:
            if out is None:
                raise typer.BadParameter("give a run folder: -o OUT (or --dry-run)")
            done = pipeline.run(checked, out, cache_dir=cache_dir, progress=progress, **where)
    if dry_run:
        whole = total(costs.values())
        result = {
            "config": checked.resolved(), "samples": len(pool),
            "estimated": {
                name: {"cpu_seconds": cost.cpu_seconds, "flops": cost.flops,
                       "hours": _hours(cost, at)}
                for name, cost in costs.items()
            },
            "hours": _hours(whole, at),
        }  # fmt: skip
        if (spending := shared_out(checked, costs)) is not None:
            result["budget"] = {
                "flops": spending.flops, "scoring": spending.spent, "training": spending.left
            }  # fmt: skip
        print_json(result) if json else dry_run_table(checked, pool, costs, at)
        if at is None and whole.flops:
            say(f"no hours: {why}")
        return
    for change in done.changes:
        say(change)
    print_json(done.manifest.to_json()) if json else run_table(done)


def _hours(cost: Cost, at: Rate | None) -> dict[str, Any] | None:
    """Hours of a cost's FLOPs on a device; none where there are no FLOPs, or no device."""
    from didact.accounting.devices import hours

    if at is None or not cost.flops:
        return None
    found = hours(cost.flops, at)
    return {"low": found.low, "high": found.high, "device": at.device}
