"""Lengths: tokens per sample, in the pool and among the chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from didact.core.arrays import Int1D
from didact.reporting import charts
from didact.reporting.distributions import Distribution, distribution
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject


def length_distribution(n_tokens: Int1D, chosen: Int1D) -> Distribution:
    """Tokens per sample, in bins half a power of two wide, on whole numbers.

    Args:
        n_tokens: Tokens of every row of the pool, `(n,)`.
        chosen: Rows that were chosen.
    """
    if not len(n_tokens):
        return distribution(np.empty(0), np.empty(0), np.empty(0))
    low, high = max(int(n_tokens.min()), 1), max(int(n_tokens.max()), 1)
    powers = np.arange(np.floor(2 * np.log2(low)), np.ceil(2 * np.log2(high + 1)) + 1)
    edges = np.unique(np.round(2.0 ** (powers / 2)))
    counted = np.maximum(n_tokens, 1).astype(np.float64)
    return distribution(edges, counted, counted[chosen], log=True)


def _gather(subject: Subject) -> Distribution:
    return length_distribution(subject.pool.n_tokens, subject.selection.rows)


def _template_values(lengths: Distribution, header: Header) -> Mapping[str, Any]:
    unit = "tokens per sample" + (" (estimate)" if header.tokens_estimated else "")
    chart = charts.histogram(
        lengths.edges, lengths.pool, lengths.chosen, log=True,
        described="Distribution of lengths, pool and chosen", x_label=f"{unit}, log scale",
    )  # fmt: skip
    return {"chart": chart}


SECTION = Section(name="lengths", title="Lengths", gather=_gather, template_values=_template_values)
