"""`didact config`: a config with its defaults, and its JSON Schema."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from didact.cli.commands import App
from didact.cli.options import Json, Override
from didact.cli.streams import print_json

app = App(no_args_is_help=True, help="Show a resolved config, or its JSON Schema.")


@app.command(epilog="Example: didact config show run.yaml")
def show(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="A YAML or TOML file, or the URL of one."),
    ],
    set_: Override = None,
    json: Json = False,
) -> None:
    """Print a config with every default filled in."""
    import yaml

    from didact import config as configs

    resolved = configs.load(config, set_ or ()).resolved()
    print_json(resolved) if json else sys.stdout.write(yaml.safe_dump(resolved, sort_keys=False))


@app.command(epilog="Example: didact config schema > didact.schema.json")
def schema() -> None:
    """Print the config's JSON Schema, for editors."""
    from didact import config as configs

    print_json(configs.json_schema())
