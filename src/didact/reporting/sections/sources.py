"""Sources: what came in and what went out of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.reporting import charts
from didact.reporting.amounts import Amount
from didact.reporting.distributions import AT_ONCE
from didact.reporting.formatting import source_name
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

SHOWN = 20
LISTED = 300


@dataclass(frozen=True, slots=True)
class SourceShare:
    """One source before and after.

    Attributes:
        name: The source; "(no source)" when it is empty.
        pool: All of the source's rows.
        chosen: The chosen ones.
        share_before: Its share of the pool's samples, 0-1.
        share_after: Its share of the chosen samples, 0-1.
        token_share_before: Its share of the pool's tokens, 0-1.
        token_share_after: Its share of the chosen tokens, 0-1.
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


def source_shares(pool: Pool, chosen: Int1D) -> Sources:
    """Counts, tokens and shares of every source, before and after.

    Args:
        pool: All candidates.
        chosen: Rows that were chosen.

    Cost: O(n) over the columns in memory.
    """
    n = len(pool.source_names)
    before = _totals(pool, range(len(pool)), n)
    after = _totals(pool, chosen, n)
    share = [before / np.maximum(before.sum(axis=0), 1), after / np.maximum(after.sum(axis=0), 1)]
    moved = share[1][:, 0] - share[0][:, 0]
    # By change, then by size, then by first appearance.
    ranked = np.lexsort((np.arange(n), -before[:, 0], -np.abs(moved)))
    beyond = ranked[SHOWN + LISTED :] if n > SHOWN + LISTED + 1 else ranked[n:]
    named = [(source_name(pool.source_names[i]), np.array([i])) for i in ranked[: n - len(beyond)]]
    if len(beyond):
        named.append((f"({len(beyond):,} more sources)", beyond))
    rows = tuple(
        SourceShare(
            name,
            Amount(*(int(v) for v in before[codes].sum(axis=0))),
            Amount(*(int(v) for v in after[codes].sum(axis=0))),
            float(share[0][codes, 0].sum()),
            float(share[1][codes, 0].sum()),
            float(share[0][codes, 1].sum()),
            float(share[1][codes, 1].sum()),
        )
        for name, codes in named
    )
    return Sources(rows, n)


def _totals(pool: Pool, rows: Int1D | range, n_sources: int) -> Int1D:
    """Samples, tokens and bytes of each source, `(sources, 3)`."""
    out = np.zeros((n_sources, 3), dtype=np.int64)
    for at in range(0, len(rows), AT_ONCE):
        some = np.asarray(rows[at : at + AT_ONCE])
        codes = pool.source_codes[some]
        for j, weight in enumerate((None, pool.n_tokens, pool.n_bytes)):
            # Sums of whole numbers in float64 are exact below 2**53.
            summed = np.bincount(codes, None if weight is None else weight[some], n_sources)
            out[:, j] += summed[:n_sources].astype(np.int64)
    return out


def _gather(subject: Subject) -> Sources:
    return source_shares(subject.pool, subject.selection.rows)


def _template_values(sources: Sources, _header: Header) -> Mapping[str, Any]:
    chart = charts.dumbbells(
        [(s.name, s.share_before, s.share_after) for s in sources.shown],
        described="Share of samples by source, in the pool and among the chosen",
        x_label="share of samples",
    )
    return {"chart": chart}


SECTION = Section(name="sources", title="Sources", gather=_gather, template_values=_template_values)
