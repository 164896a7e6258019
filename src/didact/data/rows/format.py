"""Format: the value that says what rows of a format hold and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from didact.core.pool import Kind
from didact.data.rows.columns import Columns, Row, has
from didact.data.rows.turns import Turn


@dataclass(frozen=True, slots=True)
class Quick:
    """A quick way to read plain rows: it gives what `turns` gives, or nothing.

    Attributes:
        beside: Columns of which such a row has none, by the user's names.
        turns: A row without these → its turns; None where it is not plain or has no text.
    """

    beside: frozenset[str]
    turns: Callable[[Row], list[Turn] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A row format: what its rows hold, how one is recognized, and how one becomes turns.

    Attributes:
        kind: What the samples are. Formats of one kind may stand in one pool.
        content: Columns that hold its content, by didact's names; who maps one means this format.
        turns: Row and the user's columns → turns; raises RowError.
        read_row: Source of the function `read_row(row)` of a training script: the row as trainers
            take it. It may call the functions of `didact.data.export.script_rows`.
        reads_too: Other formats whose rows that function reads, for pools that have several.
        fits: Whether a row may be of this format; None: when all of its content is there.
        label: Row and the user's columns → its label, for kind "labelled".
        columns: Other columns it reads, by didact's names.
        fixed_columns: Columns it reads that have one name only and cannot be mapped.
        quick: The user's columns → a quicker way for what nearly every row is, if there is one.
        rank: Of several formats that fit a row the one of the highest rank is meant, and of one
            rank the one that is registered first.
    """

    kind: Kind
    content: tuple[str, ...]
    turns: Callable[[Row, Columns], list[Turn]]
    read_row: str
    reads_too: tuple[str, ...] = ()
    fits: Callable[[Row, Columns], bool] | None = None
    label: Callable[[Row, Columns], bool] | None = None
    columns: tuple[str, ...] = ()
    fixed_columns: tuple[str, ...] = ()
    quick: Callable[[Columns], Quick | None] | None = None
    rank: int = 0

    def may_hold(self, row: Row, columns: Columns) -> bool:
        """Whether a row may be of this format."""
        if self.fits is not None:
            return self.fits(row, columns)
        return has(row, columns, *self.content)
