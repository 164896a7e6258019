"""`didact proxy`: small models to judge samples with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from didact.cli.commands import App
from didact.cli.inputs import opened_pool
from didact.cli.options import Cache, Data, Json, Seed
from didact.cli.streams import print_json

app = App(no_args_is_help=True, help="Make a small model to judge samples with.")


@app.command(
    epilog="Examples: didact proxy new proxy-3m --params 3M --pool pool.jsonl · "
    "didact proxy new DIR --params 500k --pool 'data/*.jsonl.zst' --vocab 2048 --context 512"
)
def new(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the model goes.")],
    params: Annotated[
        str, typer.Option("--params", help="Parameters in all: 3M, 500k, 1.5M or 3e6.")
    ],
    pool: Annotated[
        list[str],
        typer.Option("--pool", help="Samples whose text trains the tokenizer. Repeatable."),
    ],
    vocab: Annotated[
        int | None, typer.Option("--vocab", help="Tokens [default: what suits the size].")
    ] = None,
    context: Annotated[int, typer.Option("--context", help="Most tokens it reads at once.")] = 1024,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Make an untrained Llama of a given size, with a tokenizer of the pool's text."""
    from didact import verbs
    from didact.cli.printing import facts_table

    with opened_pool(pool, data, cache_dir, seed) as (found, *_):
        made = verbs.new_proxy(
            directory, found, params=params, vocab=vocab, context=context, seed=seed
        )
    print_json(made) if json else facts_table(made)
