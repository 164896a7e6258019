"""`didact init`: a config to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from didact.cli.inputs import opened_pool
from didact.cli.options import Cache, Data, PoolFiles, Target
from didact.cli.streams import say

EXAMPLES: Final = (
    "Examples: didact init pool.jsonl -o run.yaml · "
    "didact init pool.jsonl --target target.jsonl -o run.yaml"
)


def init(
    pool: PoolFiles,
    out: Annotated[Path, typer.Option("-o", "--out", help="The config to write.")] = Path(
        "run.yaml"
    ),
    target: Target = None,
    data: Data = None,
    cache_dir: Cache = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented config for some files."""
    from didact.core.atomic import write_text
    from didact.core.errors import ConfigError
    from didact.data.settings_text import check_plain
    from didact.inspection import commented_config

    if out.exists() and not force:
        raise ConfigError(f"{out} exists; choose another name with -o, or pass --force")
    check_plain([*pool, *(target or ())])  # names of files that no config can hold
    with opened_pool(pool, data, cache_dir) as (found, settings, _):
        write_text(out, commented_config(pool, found, target or [], settings))
    say(f"wrote {out}; next: didact run {out} -o OUT")
