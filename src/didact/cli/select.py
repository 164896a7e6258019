"""`didact select`: a set of samples under a budget."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from didact.cli import completion
from didact.cli.inputs import method_settings, opened_pool
from didact.cli.options import (
    Cache,
    Data,
    Executor,
    Json,
    PoolFiles,
    RayAddress,
    Seed,
    Set,
    Workers,
)
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact select pool.jsonl --scores scores.parquet --method top_k "
    "--budget ratio=0.2 -o OUT · ... --set quotas.at_most.web=0.3"
)


_ALSO: Final = ("quotas", "near_duplicates", "train", "spent")


def select(
    pool: PoolFiles,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="A selector; see 'didact methods'.",
            autocompletion=completion.names_of("selectors"),
        ),
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder for selection.parquet.")],
    scores: Annotated[
        list[str] | None,
        typer.Option("--scores", help="What to choose by. Repeatable with --combine."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="samples=N, tokens=N, ratio=R, or flops=F for scoring and training: then "
            "--set train.model=MODEL, train.epochs=2, train.lora_rank=8, ….",
        ),
    ] = None,
    combine: Annotated[
        Literal["rank_mean", "product"],
        typer.Option("--combine", help="How several scores become one: rank_mean, product."),
    ] = "rank_mean",
    set_: Set = None,
    data: Data = None,
    seed: Seed = 0,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Choose a set of samples under a budget."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.core.budget import Budget
    from didact.core.locks import alone_in
    from didact.core.paths import place
    from didact.data import tables
    from didact.scoring.around.about_scores import about_scores
    from didact.selection.around.about_selection import about_selection

    folder = place(out)
    opened = opened_pool(pool, data, cache_dir, seed, workers, executor, ray_address)
    with alone_in(folder), opened as (found, _, ctx):
        tables.check_replaceable(folder / "selection.parquet")
        given = [tables.read_scores(place(path)) for path in scores or ()]
        by = verbs.combine(given, combine) if len(given) > 1 else next(iter(given), None)
        chosen = verbs.select(
            found, by, method, budget=Budget.parse(budget) if budget else None,
            ctx=ctx, **method_settings(set_, verbs.select, *_ALSO),
        )  # fmt: skip
        path = folder / "selection.parquet"
        tables.write_selection(chosen, by, found, path)
        result = {"selection": str(path), "method": method, **chosen.describe(found, by)}
        if "train" in chosen.settings:
            result["left_for_training"] = chosen.settings["train"]["flops"]
    known = () if by is None else about_scores(by)
    for note in (*known, *about_selection(chosen, found), *chosen.notes):
        say(f"note: {note}")
    print_json(result) if json else facts_table(result)
