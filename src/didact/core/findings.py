"""Finding: something about the data that its reader should know, counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

TITLE: Final = "Things you should know"  # of the one block they are printed in


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the data that its reader should know.

    Attributes:
        kind: What it is, a word that does not change: `images`, `empty_answer`.
        count: How many rows, or files, it is true of.
        first: The first of them, "FILE row N"; "" where there is none.
        text: A sentence that holds the count.
        remedy: The setting that changes it; "" where none does.
    """

    kind: str
    count: int
    first: str
    text: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """One line: the sentence, the first row, the setting."""
        first = f" (first: {self.first})" if self.first else ""
        return f"{self.text}{first}" + (f"; {self.remedy}" if self.remedy else "")


def findings_of(values: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """What `to_json` wrote, as findings again."""
    return tuple(Finding(**value) for value in values)


def place(file: str, row: int) -> str:
    """Where a row stands: "FILE row N", N from 1."""
    return f"{file.encode('utf-8', 'backslashreplace').decode()} row {row}"


def were(n: int) -> str:
    """The verb of one, or of any other number."""
    return "was" if n == 1 else "were"


def counted(n: int, one: str, many: str = "") -> str:
    """A number and what it counts, `1 row` or `2,500 rows`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
