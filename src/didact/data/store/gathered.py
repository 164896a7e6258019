"""What rows show while they are read, counted by kind, with the first row of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from didact.core.findings import Finding, counted
from didact.data.reading.files import File
from didact.data.rows.sayings import SAYINGS


@dataclass(slots=True)
class Gathered:
    """Counts of what rows show, in the order in which they were first met.

    Attributes:
        counts: Rows by kind, a name of `didact.data.rows.sayings.SAYINGS`.
        first: The first row of each kind, "FILE row N".
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, file: File, number: int, n: int = 1) -> None:
        """Count `n` rows, of which the first is row `number` of a file."""
        self.first.setdefault(kind, f"{file.name or file.path.name} row {number}")
        self.counts[kind] = self.counts.get(kind, 0) + n

    def findings(self) -> tuple[Finding, ...]:
        """Each kind that was met, as a sentence; in the order of `SAYINGS`."""
        return tuple(
            Finding(
                kind=kind,
                count=self.counts[kind],
                first=self.first[kind],
                text=saying.text.format(rows=counted(self.counts[kind], "row")),
                remedy=saying.remedy,
            )
            for kind, saying in SAYINGS.items()
            if self.counts.get(kind)
        )
