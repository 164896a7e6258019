"""`didact score`: one number for every sample."""

from __future__ import annotations

from typing import Annotated, Final

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
    Target,
    Workers,
)
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact score pool.jsonl --method compression -o scores.parquet · "
    "didact score pool.jsonl --method bm25 --target target.jsonl --set k1=1.2 -o scores.parquet"
)


def score(
    pool: PoolFiles,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="A scorer; see 'didact methods'.",
            autocompletion=completion.names_of("scorers"),
        ),
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="The table: row, id, score, task:….")],
    target: Target = None,
    set_: Set = None,
    data: Data = None,
    seed: Seed = 0,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Give every sample one number (or one per target task)."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.core import registry
    from didact.core.paths import place
    from didact.data import tables
    from didact.data.about import SKIPPED_TARGET_ROWS, rejected_rows
    from didact.scoring.around.about_scores import about_scores, about_target

    path = place(out)
    tables.check_replaceable(path)
    opened = opened_pool(pool, data, cache_dir, seed, workers, executor, ray_address)
    with opened as (found, read_as, ctx):
        settings = method_settings(set_, verbs.score)
        target_pool = verbs.read_target(target, read_as, ctx).pool if target else None
        scores = verbs.score(found, method, target=target_pool, ctx=ctx, **settings)
        tables.write_scores(scores, found, path)
    result = {
        "scores": str(path), "method": method, "higher_is_better": scores.higher_is_better,
        "rows": len(scores), "missing": len(scores.missing), "tasks": list(scores.tasks),
        **scores.summary(),
    }  # fmt: skip
    bill = ctx.meter.bill
    if bill.value.flops:
        result["flops"] = f"{bill.value.flops:.3g}, {bill.charged.flops:.3g} of them now"
    known = [*about_scores(scores)]
    if target_pool is not None:
        aimed_at = registry.find("scorers", method).needs_target
        files = list(map(str, target or ()))
        known += about_target(found, target_pool, files, aimed_at=aimed_at)
        if target_pool.has_file("rejected.jsonl"):
            lost = str(target_pool.file("rejected.jsonl").path)
            known += rejected_rows([target_pool], "target files", lost, SKIPPED_TARGET_ROWS)
    if note := scores.facts.get("note"):
        say(f"note: {note}")
    for finding in known:
        say(f"note: {finding}")
    print_json(result) if json else facts_table(result)
