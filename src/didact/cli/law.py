"""`didact law`: whether what was learnt goes with how redundant and how hard the sets were."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli.options import Cache, Json
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact law runs.csv -o LAW · didact law random=A random=B zip=C bm25=D "
    "random+copies4=E · Exit codes, by the verdict of R: 0 holds, 4 fails, 5 cannot tell."
)


def law(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS...", help="A CSV with a run a line, or run folders: [SET=]PATH."
        ),
    ],
    metric: Annotated[
        str, typer.Option("--metric", help="Of run folders: the metric that is performance.")
    ] = "bits_per_byte",
    file: Annotated[
        str | None, typer.Option("--file", help="Of run folders: the held-out file, of several.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Folder for law.json and law.html.")
    ] = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Test the entropy law on your own runs: performance on compressibility and first-epoch loss.

    A verdict for each, beside rivals, on families left out; see docs/entropy-law.md.
    """
    from didact import laws, verbs
    from didact.analysis.entropy.verdict import EXIT_CODES
    from didact.cli.law_tables import law_tables
    from didact.cli.printing import progress_bars

    with progress_bars() as progress:
        ctx = verbs.context(0, None, cache_dir, progress, say)
        found = laws.law(runs, metric=metric, file=file, ctx=ctx)
    if out is not None:
        for path in laws.write_law(found, out):
            say(f"wrote {path}")
    print_json(found.to_json()) if json else law_tables(found)
    if code := EXIT_CODES[found.verdict]:
        raise typer.Exit(code)
