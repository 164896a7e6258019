"""What rows show while they are read, counted by kind, with the first row of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from didact.core.arrays import Int1D
from didact.core.findings import Finding, counted, place, were
from didact.data.reading.files import File
from didact.data.reading.incoming import IncomingRows
from didact.data.rows.sayings import SAYINGS, sentence


@dataclass(slots=True)
class Gathered:
    """Counts of what rows show, in the order in which they were first met.

    Attributes:
        counts: Rows by kind: a name of `SAYINGS`, or `NAME:COLUMN`.
        first: File and number of the first row of each kind.
        dropped: Kinds of which rows were left out on request.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[str, int]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def add(self, kind: str, batch: IncomingRows, rows: Int1D) -> None:
        """Count some samples of a batch, ascending."""
        if len(rows):
            file = batch.files[rows[0]]
            self.first.setdefault(kind, (shown_name(file), batch.numbers[rows[0]]))
            self.counts[kind] = self.counts.get(kind, 0) + len(rows)

    def merge(self, later: Gathered, moved: Callable[[tuple[str, int]], tuple[str, int]]) -> None:
        """Add what rows behind these show.

        Args:
            later: Those rows.
            moved: File and number of one of them → where it really stands.
        """
        for kind, count in later.counts.items():
            self.first.setdefault(kind, moved(later.first[kind]))
            self.counts[kind] = self.counts.get(kind, 0) + count
        self.dropped |= later.dropped

    def findings(self, drop: Sequence[str]) -> tuple[Finding, ...]:
        """Each kind that was met, as a sentence; in the order of `SAYINGS`.

        Args:
            drop: Kinds that were to be left out.
        """
        order = list(SAYINGS)
        kinds = sorted(self.counts, key=lambda kind: order.index(kind.partition(":")[0]))
        out = []
        for kind in kinds:
            text, remedy = sentence(kind, self.counts[kind])
            known = kind.partition(":")[0]
            out.append(Finding(known, self.counts[kind], place(*self.first[kind]), text, remedy))
        if idle := [kind for kind in drop if kind not in self.dropped]:
            text = f"data.drop met nothing: 0 rows are of {', '.join(idle)}"
            out.append(Finding("nothing_matched", 0, "", text, "data.drop without them"))
        return tuple(out)


def shown_name(file: File) -> str:
    """What a file is called where a row of it is named."""
    return file.name or file.path.name


def accounted(
    counts: Mapping[str, int], first: Mapping[str, str], *, dedup: bool
) -> Iterator[Finding]:
    """What became of the rows: left out, repeated.

    Args:
        counts: Rows `rejected`, `excluded`, `duplicates`.
        first: The first rejected and the first excluded row.
        dedup: Whether exact duplicates count once.
    """
    if n := counts["rejected"]:
        yield Finding(
            kind="rejected",
            count=n,
            first=first["rejected"],
            text=f"{counted(n, 'row')} {were(n)} left out, with the reason in rejected.jsonl",
            remedy="data.on_bad_row and data.drop say which",
        )
    if n := counts["excluded"]:
        yield Finding(
            kind="excluded",
            count=n,
            first=first["excluded"],
            text=f"{counted(n, 'row')} {'shares' if n == 1 else 'share'} text with held-out files "
            f"and {were(n)} left out, listed in excluded.jsonl",
            remedy="data.exclude_ngram says how many words in a row count as text",
        )
    if n := counts["duplicates"]:
        yield Finding(
            kind="duplicates",
            count=n,
            first="",
            text=f"{counted(n, 'row')} {'repeats' if n == 1 else 'repeat'} an earlier row exactly, "
            + ("counted once" if dedup else "kept"),
            remedy="data.dedup: " + ("none keeps all" if dedup else "exact counts them once"),
        )
