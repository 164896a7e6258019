"""`didact cache`: what is kept, and how to be rid of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from didact.cli.commands import App
from didact.cli.options import Cache, Json
from didact.cli.streams import print_json

if TYPE_CHECKING:
    from didact.core.paths import Place

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]

app = App(no_args_is_help=True, help="What is kept, and how to be rid of it.")


@app.command(epilog="Examples: didact cache ls · didact cache ls --json")
def ls(cache_dir: Cache = None, json: Json = False) -> None:
    """Say what the cache holds: kinds, entries, sizes, and what making them cost."""
    from didact.cli.printing import cache_table
    from didact.core import cache

    result = cache.listed(_folder(cache_dir))
    print_json(result) if json else cache_table(result)


@app.command(
    epilog="Examples: didact cache prune --older 30d · didact cache prune --older 12h --dry-run"
)
def prune(
    older: Annotated[str, typer.Option("--older", help="Not used for so long: 30d, 12h, 90m.")],
    dry_run: DryRun = False,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove what was not used for some time; it is made again when it is needed."""
    from didact.cli.printing import facts_table
    from didact.core import cache

    result = cache.prune(_folder(cache_dir), cache.seconds(older), dry_run=dry_run)
    print_json(result) if json else facts_table(result)


@app.command(epilog="Examples: didact cache clear --dry-run · didact cache clear")
def clear(
    dry_run: DryRun = False,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove everything in the cache; it is made again when it is needed."""
    from didact.cli.printing import facts_table
    from didact.core import cache

    result = cache.clear(_folder(cache_dir), dry_run=dry_run)
    print_json(result) if json else facts_table(result)


def _folder(given: str | None) -> Place:
    """The cache's folder: the one given, or the user's own."""
    from didact.core.cache import default_cache_dir
    from didact.core.paths import place

    return place(given) if given is not None else default_cache_dir()
