"""What came in and what went out, by source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.reporting.formatting import shorten

NAME_WIDTH = 120
SHOWN = 20
LISTED = 300


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity of data.

    Attributes:
        samples: A count.
        tokens: A count; an estimate where the pool says so.
        bytes: UTF-8 bytes of the texts.
    """

    samples: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SourceShare:
    """One source before and after.

    Attributes:
        name: The source; "(no source)" when it is empty.
        pool: All of the source's rows.
        chosen: The chosen ones.
        share_before: Of the pool's samples, 0-1.
        share_after: Of the chosen samples, 0-1.
        token_share_before: Of the pool's tokens, 0-1.
        token_share_after: Of the chosen tokens, 0-1.
    """

    name: str
    pool: Amount
    chosen: Amount
    share_before: float
    share_after: float
    token_share_before: float
    token_share_after: float

    @property
    def kept(self) -> float:
        """Share of the source's samples that were chosen, 0-1."""
        return self.chosen.samples / max(self.pool.samples, 1)


@dataclass(frozen=True, slots=True)
class Sources:
    """All sources, those whose share changed most first.

    Attributes:
        rows: Up to `SHOWN` + `LISTED` sources; what is beyond is one last row.
        n: How many sources the pool has.
    """

    rows: tuple[SourceShare, ...]
    n: int

    @property
    def shown(self) -> tuple[SourceShare, ...]:
        """What is drawn and tabled."""
        return self.rows[:SHOWN]

    @property
    def folded(self) -> tuple[SourceShare, ...]:
        """What a reader has to open."""
        return self.rows[SHOWN:]


def amount(pool: Pool, rows: Int1D | None = None) -> Amount:
    """The size of some rows, or of the whole pool."""
    if rows is None:
        return Amount(len(pool), int(pool.n_tokens.sum()), int(pool.n_bytes.sum()))
    return Amount(len(rows), int(pool.n_tokens[rows].sum()), int(pool.n_bytes[rows].sum()))


def source_name(name: str) -> str:
    """A source's name as the report writes it."""
    return shorten(name, NAME_WIDTH) or "(no source)"


def source_shares(pool: Pool, chosen: Int1D) -> Sources:
    """Counts, tokens and shares of every source, before and after.

    Args:
        pool: All candidates.
        chosen: Rows that were chosen.

    Cost: O(n) over the columns in memory.
    """
    n = len(pool.source_names)
    before = _totals(pool, np.arange(len(pool)), n)
    after = _totals(pool, chosen, n)
    share = [before / np.maximum(before.sum(axis=0), 1), after / np.maximum(after.sum(axis=0), 1)]
    moved = share[1][:, 0] - share[0][:, 0]
    # By change, then by size, then by first appearance.
    ranked = np.lexsort((np.arange(n), -before[:, 0], -np.abs(moved)))
    beyond = ranked[SHOWN + LISTED :] if n > SHOWN + LISTED + 1 else ranked[n:]
    groups = [(source_name(pool.source_names[i]), np.array([i])) for i in ranked[: n - len(beyond)]]
    if len(beyond):
        groups.append((f"({len(beyond):,} more sources)", beyond))
    rows = tuple(
        SourceShare(
            name,
            Amount(*(int(v) for v in before[at].sum(axis=0))),
            Amount(*(int(v) for v in after[at].sum(axis=0))),
            float(share[0][at, 0].sum()),
            float(share[1][at, 0].sum()),
            float(share[0][at, 1].sum()),
            float(share[1][at, 1].sum()),
        )
        for name, at in groups
    )
    return Sources(rows, n)


def _totals(pool: Pool, rows: Int1D, n_sources: int) -> Int1D:
    """Samples, tokens and bytes of each source, `(sources, 3)`."""
    codes = pool.source_codes[rows]
    out = np.zeros((n_sources, 3), dtype=np.int64)
    for j, weight in enumerate((None, pool.n_tokens, pool.n_bytes)):
        # Sums of whole numbers in float64 are exact below 2**53.
        summed = np.bincount(codes, None if weight is None else weight[rows], n_sources)
        out[:, j] = summed[:n_sources]
    return out
