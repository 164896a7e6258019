"""Growing a selection sample by sample: what every greedy selector shares.

A greedy selector is a `Growth`: it names its next picks. The rest is here: who may be chosen, when
the budget is reached, near-duplicates refused on the way, progress, going on after a kill.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from didact.core.protocols import Progress

if TYPE_CHECKING:
    from didact.core.protocols import Context
    from didact.core.scores import Int1D
    from didact.selection.kept import Kept
    from didact.selection.near_duplicates import Refusal

_SAVE_SECONDS: Final = 5.0


class Growth(Protocol):
    """A greedy rule over candidates 0..n-1.

    Attributes:
        chunk: How many picks are worth asking for at a time.
    """

    chunk: int

    def pick(self, most: int) -> Int1D:
        """The next picks in order: `most` of them, or fewer when the candidates run out.

        Asking for one at a time gives the same sequence as asking for many.
        """
        ...

    def block(self, positions: Int1D) -> None:
        """Candidates that may no longer be picked; some may have been picked already."""
        ...

    def replay(self, positions: Int1D) -> None:
        """Take these as picked, in this order, before the first `pick`."""
        ...


def grow(
    growth: Growth,
    sizes: Int1D,
    goal: int,
    ctx: Context,
    *,
    unit: Literal["samples", "tokens"] = "samples",
    refusal: Refusal | None = None,
    kept: Kept | None = None,
) -> Int1D:
    """Pick until the goal is reached or nobody is left.

    Args:
        growth: The rule.
        sizes: Each candidate's size in `unit`, `(n,)`; ones for samples.
        goal: How much. Samples are met exactly; in tokens picks go on until the goal is crossed,
            and up to a chunk beyond it.
        ctx: Its progress is told.
        unit: Of `sizes` and `goal`.
        refusal: Told of every pick; the near-duplicates it names are blocked.
        kept: Keeps the picks on disk while this works; a later start goes on after them.

    Returns:
        Positions in the order they were picked.
    """
    picks = np.empty(len(sizes), np.int64)
    done = spent = 0
    ctx.progress(Progress("select", 0, goal, unit))

    def taken(new: Int1D) -> None:
        nonlocal done, spent
        picks[done : done + len(new)] = new
        done, spent = done + len(new), spent + int(sizes[new].sum())
        if refusal is not None:
            for position in new.tolist():
                growth.block(refusal.after(position))
        if len(new) > 1 or done % growth.chunk == 0:
            ctx.progress(Progress("select", min(spent, goal), goal, unit))

    earlier = kept.load("picks") if kept is not None else None
    if earlier is not None and goal:
        found = earlier["picks"].astype(np.int64)
        found = found[: 1 + np.searchsorted(np.cumsum(sizes[found]), goal)]
        growth.replay(found)
        taken(found)
    saved = time.monotonic()
    while spent < goal:
        most = growth.chunk if unit == "tokens" else min(growth.chunk, goal - spent)
        new = growth.pick(1 if refusal is not None else most)
        if not len(new):
            break
        taken(new)
        if kept is not None and time.monotonic() - saved > _SAVE_SECONDS:
            kept.save("picks", picks=picks[:done])
            saved = time.monotonic()
    ctx.progress(Progress("select", goal, goal, unit))
    return picks[:done]
