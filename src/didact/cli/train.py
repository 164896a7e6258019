"""`didact train`: a model trained in the given order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from didact.cli.inputs import method_settings, opened_pool
from didact.cli.options import Cache, Data, Json, PoolFiles, Seed
from didact.cli.streams import print_json

EXAMPLES: Final = (
    "Examples: didact train pool.jsonl --model proxy-3m -o trained "
    "--set learning_rate=2e-3 · ... --order order.parquet --set max_steps=100"
)


def train(
    pool: PoolFiles,
    model: Annotated[
        str, typer.Option("--model", help="A folder with a causal language model, or a hub name.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The trained model's folder; again = go on.")
    ],
    order_: Annotated[
        Path | None,
        typer.Option("--order", help="order.parquet, or its folder [default: the pool's order]."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="learning_rate, schedule, batch_size, max_length, max_steps, loss, … Repeatable.",
        ),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Train a model on the samples, in exactly the order given."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.data import tables

    ordered = tables.read_order(order_) if order_ is not None else None
    with opened_pool(pool, data, cache_dir, seed) as (found, _, ctx):
        settings = method_settings(set_, verbs.train)
        done = verbs.train(found, ordered, model=model, out=out, ctx=ctx, **settings)
    print_json(done) if json else facts_table(done)
