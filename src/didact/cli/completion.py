"""What a shell offers for the word that is being typed: names of methods, trainers, devices.

Verbs and options are offered by the command line's library, and files by the shell, wherever
nothing is offered here. Names come from the registry alone, plug-ins among them: nothing that is
named is imported, since a key was pressed and somebody waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from didact.core.registry import Group


def names_of(*groups: Group, also: tuple[str, ...] = ()) -> Callable[[str], list[str]]:
    """A completion for `typer.Option`: the registered names that begin as the word does.

    Args:
        groups: Whose names.
        also: Words that the option takes beside them.
    """

    def complete(incomplete: str) -> list[str]:
        from didact.core import registry

        names = [*(name for group in groups for name in registry.known(group)), *also]
        return [name for name in names if name.startswith(incomplete)]

    return complete


def methods(incomplete: str) -> list[str]:
    """Scorers, selectors and orderers, each name once."""
    from didact.core import registry

    return list(dict.fromkeys(names_of(*registry.METHOD_GROUPS)(incomplete)))


def devices(incomplete: str) -> list[str]:
    """Devices of the table as one word each, and `here`, whatever the case of what is typed."""
    from didact.accounting.devices import DEVICES, HERE

    names = (HERE, *(device.name.replace(" ", "-") for device in DEVICES))
    return [name for name in names if name.lower().startswith(incomplete.lower())]
