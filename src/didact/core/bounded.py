"""Reading files that hold settings, not data, up to a length."""

from __future__ import annotations

from typing import Final

from didact.core.paths import Place

LONGEST: Final = 64 * 2**20  # bytes; the longest tokenizers have some 40 MiB
LONGEST_CONFIG: Final = 16 * 2**20  # bytes of what people write themselves


def read_bounded(path: Place, *, longest: int = LONGEST) -> bytes:
    """The bytes of a file that holds settings, not data.

    Raises:
        ValueError: It has more than so many bytes; no more of it were read.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        found = file.read(longest + 1)
    if len(found) > longest:
        raise ValueError(f"more than {longest / 2**20:g} MiB; expected settings, not data")
    return found
