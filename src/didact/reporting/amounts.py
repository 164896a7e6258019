"""Quantities of data: samples, tokens, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from didact.core.arrays import Int1D
from didact.core.pool import Pool


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


def amount(pool: Pool, rows: Int1D | None = None) -> Amount:
    """The size of some rows, or of the whole pool."""
    if rows is None:
        return Amount(len(pool), int(pool.n_tokens.sum()), int(pool.n_bytes.sum()))
    return Amount(len(rows), int(pool.n_tokens[rows].sum()), int(pool.n_bytes[rows].sum()))
