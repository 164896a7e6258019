"""What should be known of a selection: settings that met nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from didact.core.findings import Finding
from didact.core.pool import Pool
from didact.core.scores import Selection

REFUSED: Final = "near-duplicates refused"  # begins the note of those that were


def about_selection(chosen: Selection, pool: Pool) -> tuple[Finding, ...]:
    """What should be known of a selection, counted; nothing where there is nothing.

    Args:
        chosen: The selection.
        pool: What it was chosen from.
    """
    return tuple(_met_nothing(chosen, pool))


def _met_nothing(chosen: Selection, pool: Pool) -> Iterator[Finding]:
    near = chosen.settings.get("near_duplicates")
    if near and len(chosen) and not any(note.startswith(REFUSED) for note in chosen.notes):
        yield Finding(
            kind="nothing_matched",
            count=0,
            first="",
            text="select.near_duplicates met nothing: 0 rows were refused",
            remedy="select.near_duplicates.similarity: a lower one refuses more",
        )
    quotas = chosen.settings.get("quotas")
    most = quotas.get("at_most") if isinstance(quotas, Mapping) else None
    if isinstance(most, Mapping):
        taken = np.bincount(pool.source_codes[chosen.rows], minlength=len(pool.source_names))
        idle = [
            name
            for name, amount in zip(pool.source_names, taken.tolist(), strict=True)
            if not amount and most.get(name)
        ]
        if idle:
            yield Finding(
                kind="nothing_matched",
                count=len(idle),
                first="",
                text=f"select.quotas.at_most met nothing in {len(idle):,} of its sources "
                f"({', '.join(idle[:3])}): no row of them was chosen",
                remedy="select.quotas.at_least chooses some",
            )
