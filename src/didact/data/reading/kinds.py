"""What the samples of a pool are: one kind, whatever files they come from."""

from __future__ import annotations

from collections.abc import Mapping

from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Kind


def meet_kinds(
    known: dict[Kind, tuple[str, Place]], found: Mapping[Kind, tuple[str, Place]]
) -> None:
    """Add the kinds of samples of further files to those of the files before.

    Raises:
        DataError: They are not the same.
    """
    for kind, (name, path) in found.items():
        for other, (_, first) in known.items():
            if other != kind:
                raise DataError(
                    f"{path}: holds {kind} ({name}) rows, {first} holds {other} rows; expected "
                    "one kind of sample in a pool: run them apart, or map columns so that both "
                    "are read alike"
                )
        known.setdefault(kind, (name, path))
