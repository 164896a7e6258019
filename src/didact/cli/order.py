"""`didact order`: a selection in training order."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli import completion
from didact.cli.inputs import method_settings, opened_pool
from didact.cli.options import Cache, Data, Json, Seed
from didact.cli.streams import print_json

EXAMPLES: Final = (
    "Examples: didact order OUT --scores scores.parquet --method fold --set layers=3 "
    "-o order.parquet · ... --set epochs=3 --set jitter=64"
)


def order(
    selection: Annotated[
        str, typer.Argument(help="selection.parquet, or the folder that holds it.")
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="An orderer; see 'didact methods'.",
            autocompletion=completion.names_of("orderers"),
        ),
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="The table: position, row, id.")],
    scores: Annotated[str | None, typer.Option("--scores", help="What to order by.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="A setting of the method, or epochs, batch_size, jitter, interleave. Repeatable.",
        ),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            "--pool", help="The pool's files, where its cache is gone and sources are read."
        ),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Put a selection in training order: ascending in utility, the best last."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.core.paths import place
    from didact.data import tables
    from didact.data.reading.ingest import open_cached

    path, of = place(out), place(selection)
    tables.check_replaceable(path)
    chosen = tables.read_selection(of)
    if pool:
        with opened_pool(pool, data, cache_dir, seed) as (found, *_):
            chosen.check(found)
    ctx = verbs.context(seed, 1, cache_dir)
    by = tables.read_scores(place(scores)) if scores is not None else None
    ordered = verbs.order(
        open_cached(chosen.pool_fingerprint, ctx.cache_dir), chosen, by, method, ctx=ctx,
        **method_settings(set_, verbs.order, "epochs", "batch_size", "jitter", "interleave"),
    )  # fmt: skip
    tables.write_order(ordered, tables.ids_of(ordered, chosen, tables.read_ids(of)), path)
    result = {
        "order": str(path), "method": method, "rows": len(ordered), "epochs": ordered.epochs,
        "steps": ordered.steps,
    }  # fmt: skip
    print_json(result) if json else facts_table(result)
