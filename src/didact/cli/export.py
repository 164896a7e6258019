"""`didact export`: the rows in training order, for a trainer."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli import completion
from didact.cli.inputs import opened_pool
from didact.cli.options import Cache, Data, Json, PoolFiles, Seed
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Example: didact export pool.jsonl --order order.parquet --for trl -o DIR --set shards=8"
)


def export(
    pool: PoolFiles,
    order_: Annotated[str, typer.Option("--order", help="order.parquet, or its folder.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Where the files go.")],
    for_: Annotated[
        str,
        typer.Option(
            "--for",
            help="Whose settings to write: axolotl, hf, llama-factory, ms-swift, nemo-automodel, "
            "torchtitan, trl, trl-grpo, trl-reward, verl, none.",
            autocompletion=completion.names_of("trainers", also=("none",)),
        ),
    ] = "none",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="format, shards, order_index, name. Repeatable."),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Write the samples in training order, every row as it came, and the trainer's settings."""
    from didact import config as configs
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.core.paths import place
    from didact.data import tables
    from didact.data.export.data_set import ExportSettings, export_notes

    ordered = tables.read_order(place(order_))
    with opened_pool(pool, data, cache_dir, seed) as (found, *_):
        settings = configs.apply({"for": for_}, set_ or ())
        files = verbs.export(found, ordered, out, **settings)
        notes = export_notes(found, configs.validated(ExportSettings, settings, "export"), files)
    for note in notes:
        say(note)
    result = {"rows": len(ordered), "files": [str(f) for f in files]}
    print_json(result) if json else facts_table(result)
