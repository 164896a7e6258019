"""The command line's own kind of command: what begins with ~ lies in the user's home folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

F = TypeVar("F", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose arguments and options may begin with ~, which no shell expands in quotes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        ctx.params = {name: _expanded(value, name) for name, value in ctx.params.items()}
        return super().invoke(ctx)


class App(typer.Typer):
    """A group of such commands."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **settings: Any
    ) -> Callable[[F], F]:
        """Register a command."""
        return super().command(name, cls=cls, **settings)


def _expanded(value: Any, name: str) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_expanded(item, name) for item in value)
    if isinstance(value, Path):
        from didact.core.paths import local

        return local(value, name.strip("_").replace("_", "-"))
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    return value
