"""`didact inspect`: what files hold."""

from __future__ import annotations

from typing import Final

from didact.cli.inputs import opened_pool
from didact.cli.options import Cache, Data, Json, PoolFiles
from didact.cli.streams import print_json

EXAMPLES: Final = (
    "Examples: didact inspect pool.jsonl · "
    "didact inspect rows.parquet --data columns.messages=dialogue"
)


def inspect(
    pool: PoolFiles,
    data: Data = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Say what files hold: format, mapping, counts, lengths, duplicates, three samples."""
    from didact.cli.printing import inspection_table
    from didact.inspection import inspect_pool

    with opened_pool(pool, data, cache_dir) as (found, *_):
        result = inspect_pool(found)
    print_json(result) if json else inspection_table(result)
