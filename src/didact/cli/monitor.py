"""`didact monitor`: whether a new version of the data is a risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from didact.cli.inputs import read_settings
from didact.cli.options import Cache, Data, Executor, Json, RayAddress, Workers
from didact.cli.streams import print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from didact.analysis.risk.flags import Watched

EXAMPLES: Final = (
    "Examples: didact monitor --series versions -o risks · didact monitor OUT · "
    "didact monitor --series versions --held-out test.jsonl --seen 0.1"
)


def monitor(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run, or a folder with the log of a training."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            "--series",
            help="A folder with a subfolder, or file of rows, for each version, by name.",
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option("--held-out", help="Files whose text no version should hold. Repeatable."),
    ] = None,
    seen: Annotated[
        float, typer.Option("--seen", help="Share of the first epoch that is looked at.")
    ] = 1.0,
    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", help="Folder for risk.json and risk.html; a run's: its report."
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Flag what is not as expected of a version of the data, before training and in it.

    Exit code, of the last version: 0 clean, 4 flagged, 5 cannot tell.
    """
    from didact import verbs
    from didact.cli.monitor_tables import flags_table
    from didact.cli.printing import progress_bars
    from didact.core.errors import ConfigError
    from didact.core.paths import place
    from didact.monitoring.monitor import monitor as judge
    from didact.monitoring.monitor import series_of

    if (run is None) == (series is None):
        raise ConfigError(
            "expected one of RUN and --series DIR: one training, or versions in order"
        )
    versions = series_of(series) if series is not None else [place(run or "")]
    with progress_bars() as progress:
        ctx = verbs.context(
            0, workers, cache_dir, progress, say, executor=executor, address=ray_address
        )
        found = judge(versions, held_out=held_out, seen=seen, read_as=read_settings(data), ctx=ctx)
    bill = ctx.meter.bill
    if bill.value.flops:
        say(f"{bill.value.flops:.3g} FLOPs, {bill.charged.flops:.3g} of them now")
    if out is not None:
        from didact.analysis.risk.flags import write_risk
        from didact.reporting.risk_page import write_risk_page

        folder = place(out)
        write_risk(found, folder)
        write_risk_page(found, folder / "risk.html")
    if json:
        told = [one.to_json() for one in found]
        print_json(told if series is not None else told[0])
    else:
        flags_table(found)
    raise typer.Exit(_exit_code(found))


def _exit_code(found: Sequence[Watched]) -> int:
    """Of the last version: an earlier one that was flagged is no reason to stop for ever."""
    return {"clean": 0, "flagged": 4, "cannot_tell": 5}[found[-1].verdict]
