"""What the samples of a pool are: one kind, whatever files they come from."""

from __future__ import annotations

from collections.abc import Mapping

from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Kind


class MixedKindsError(DataError):
    """Files hold different kinds of samples.

    Attributes:
        kinds: Kind → format and file of the first, in their order.
    """

    kinds: Mapping[Kind, tuple[str, Place]]


def meet_kinds(
    known: dict[Kind, tuple[str, Place]], found: Mapping[Kind, tuple[str, Place]]
) -> None:
    """Add the kinds of samples of further files to those of the files before.

    Raises:
        MixedKindsError: They are not the same.
    """
    for kind, (name, path) in found.items():
        for other, (_, first) in known.items():
            if other != kind:
                error = MixedKindsError(
                    f"{path}: holds {kind} ({name}) rows, {first} holds {other} rows; expected "
                    "one kind of sample in a pool: run them apart, or map columns so that both "
                    "are read alike"
                )
                error.kinds = {**known, kind: (name, path)}
                raise error
        known.setdefault(kind, (name, path))
