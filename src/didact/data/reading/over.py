"""What is passed over while files are read, counted, as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from didact.core.findings import Finding, counted
from didact.data.rows.columns import shown

TAR_MEMBERS: Final = "tar_members"
TAR_NO_LIST: Final = "tar_members_without_rows"
TAR_SPLITS: Final = "splits_mixed"
OTHER_LISTS: Final = "lists_skipped"
BLANK_RECORDS: Final = "blank_records"
_NAMED: Final = 3
# what it is → what is said of one and of several, and the setting that changes it
_SAID: Final[dict[str, tuple[str, str, str]]] = {
    TAR_MEMBERS: (
        "member of a tar file is no JSON and not read ({each})",
        "members of tar files are no JSON and not read ({each})",
        "",
    ),
    TAR_NO_LIST: (
        "member of a tar file has no list where data.columns.rows says, and is not read ({each})",
        "members of tar files have no list where data.columns.rows says, and are not read ({each})",
        "",
    ),
    TAR_SPLITS: (
        "member of a tar file is of another split ({each}) and in the pool beside the others",
        "members of tar files are of another split ({each}) and in the pool beside the others",
        "unpack the file: data.path with one split and data.exclude with the other keeps it out",
    ),
    OTHER_LISTS: (
        "entry of another list than that of the rows is not read ({each})",
        "entries of other lists than that of the rows are not read ({each})",
        "data.columns.rows: {first} reads those in place of these",
    ),
    BLANK_RECORDS: (
        "blank line of a CSV file of one column is passed over: it may be an empty value",
        "blank lines of CSV files of one column are passed over: they may be empty values",
        'an empty value in quotes ("") is read as one that is missing',
    ),
}


def passed_over(told: Sequence[tuple[str, str, Counter[str]]]) -> Iterator[Finding]:
    """What is said of what files were told.

    Args:
        told: Of each file that was told something: what it is, the first, counts.
    """
    for kind, (one, many, remedy) in _SAID.items():
        of_kind = [(first, counts) for name, first, counts in told if name == kind]
        counts = sum((some for _, some in of_kind), Counter[str]())
        if n := counts.total():
            text = counted(n, one, many).format(each=by_count(counts))
            setting = remedy.format(first=shown(next(iter(counts)))[1:-1])
            yield Finding(kind, n, of_kind[0][0], text, setting)


def by_count(counts: Counter[str]) -> str:
    """The most frequent of what is counted, with their counts."""
    return ", ".join(f"{shown(name)[1:-1]} {n:,}" for name, n in counts.most_common(_NAMED))
