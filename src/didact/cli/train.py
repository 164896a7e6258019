"""`didact train`: a model trained in the given order."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli.inputs import method_settings, opened_pool
from didact.cli.options import Cache, Data, Json, PoolFiles, Seed
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact train pool.jsonl --model proxy-3m -o trained "
    "--set learning_rate=2e-3 · ... --order order.parquet --set final_rate=0.33 --set average=ema "
    "· ... --model scratch --set params=3M --order shuffle --epochs 2 · "
    "accelerate launch -m didact.cli train ... (several devices)"
)


def train(
    pool: PoolFiles,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="A folder with a causal language model, a hub name, or 'scratch' with "
            "--set params=3M.",
        ),
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", help="The trained model's folder; again = go on.")
    ],
    order_: Annotated[
        str,
        typer.Option("--order", help="order.parquet, its folder, 'shuffle', or 'keep'."),
    ] = "keep",
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over the samples; a file has its own.")
    ] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="learning_rate, schedule, final_rate, average, lora_rank, batch_size, max_length, "
            "max_steps, flops, loss, report_to, … Repeatable.",
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
    from didact.core.errors import ConfigError
    from didact.core.paths import place
    from didact.data import tables
    from didact.training.ranks import is_first
    from didact.training.settings import Seeds

    drawn = order_ in {"keep", "shuffle"}
    if not drawn and epochs != 1:
        raise ConfigError(f"--epochs {epochs}: {order_} has its epochs written out; leave it out")
    ordered = None if drawn else tables.read_order(place(order_))
    with opened_pool(pool, data, cache_dir, seed) as (found, _, ctx):
        settings = method_settings(set_, verbs.train)
        if ordered is None:
            everything = verbs.everything(found, None)
            ordered = verbs.order(found, everything, None, order_, epochs=epochs, ctx=ctx)
            left = len(found) - len(everything)
            if left and is_first():
                say(f"note: exact copies and validation rows, not trained on: {left:,}")
        seeds = Seeds(init=seed, order=seed if order_ == "shuffle" else None)
        done = verbs.train(found, ordered, model=model, out=out, seeds=seeds, ctx=ctx, **settings)
    if not is_first():  # of several processes one speaks
        return
    facts = done.facts()
    if json:
        print_json(facts)
        return
    for note in facts.pop("notes"):
        say(f"note: {note}")
    facts_table(facts)
