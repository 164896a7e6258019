"""`didact dedup`: the rows without their exact and near duplicates."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from didact.cli import completion
from didact.cli.inputs import opened_pool
from didact.cli.options import Cache, Data, Executor, Json, PoolFiles, RayAddress, Workers
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact dedup pool.jsonl -o DISTINCT · ... --similarity 0.7 --keep longest · "
    "... --keep quality --for trl --set shards=8"
)
_COMPARED: Final = ("similarity", "ngram", "permutations")


def dedup(
    pool: PoolFiles,
    out: Annotated[
        str, typer.Option("-o", "--out", help="Folder for the rows that stay and the clusters.")
    ],
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            help="Which row of a cluster stays: first, longest, or a column whose highest number "
            "does.",
        ),
    ] = "first",
    similarity: Annotated[
        float,
        typer.Option(
            "--similarity",
            help="Share of word runs in common from which rows are near duplicates, 0.5 to 1.",
        ),
    ] = 0.8,
    for_: Annotated[
        str,
        typer.Option(
            "--for",
            help="Whose settings to write beside the rows; see 'didact export'.",
            autocompletion=completion.names_of("trainers", also=("none",)),
        ),
    ] = "none",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="ngram, permutations; format, shards, order_index, name. Repeatable.",
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove exact and near duplicates, and nothing else; show what was removed for what."""
    from didact import config as configs
    from didact import duplicates
    from didact.cli.dedup_tables import clusters_table
    from didact.cli.printing import know_block
    from didact.core.errors import ConfigError, did_you_mean
    from didact.data.export.data_set import ExportSettings, export_notes

    named = {*_COMPARED, *ExportSettings.model_fields} - {"trainer", "similarity"}
    for name in configs.apply({}, set_ or ()):
        if name not in {*named, "similarity", "for"}:
            raise ConfigError(f"--set {name}: unknown setting{did_you_mean(name, named)}")
    given = configs.apply({"similarity": similarity, "for": for_}, set_ or ())
    how = {name: given.pop(name) for name in _COMPARED if name in given}
    with opened_pool(pool, data, cache_dir, 0, workers, executor, ray_address) as (found, _, ctx):
        duplicates.check_writable(found, given)
        distinct = duplicates.dedup(found, keep=keep, ctx=ctx, **how)
        files = duplicates.write_distinct(found, distinct, out, **given)
        result = {
            **distinct.describe(found),
            "cpu_seconds": round(ctx.meter.bill.value.cpu_seconds, 2),
            "files": [str(f) for f in files],
            "largest": distinct.largest(found),
        }
    notes = export_notes(found, configs.validated(ExportSettings, given, "export"), files)
    for note in (*notes, *duplicates.notes(result)):
        say(f"note: {note}")
    if json:
        print_json(result)
    else:
        clusters_table(result)
        know_block([about for about in found.findings if about.kind != "duplicates"])
