"""Growing a set pick by pick: when the budget is reached, what is refused on the way, going on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from didact.core.pieces import Pieces
from didact.core.protocols import Progress
from didact.selection.greedy.finished_picks import load_piece, save_piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from didact.core.arrays import Int1D
    from didact.core.budget import Unit
    from didact.core.protocols import Context, Growth

_SAVE_SECONDS: Final = 5.0
_PICKS: Final = "picks-"


def grow(
    growth: Growth,
    sizes: Int1D,
    goal: int,
    ctx: Context,
    *,
    unit: Unit = "samples",
    refuse: Callable[[int], Int1D] | None = None,
    resumable: bool = True,
) -> Int1D:
    """Pick until the goal is reached or nobody is left.

    Args:
        growth: The rule.
        sizes: Each candidate's size, `(n,)`; ones for samples.
        goal: How much. Samples are met exactly; else picks go on until the goal is crossed, and up
            to a chunk beyond it.
        ctx: Its progress is told, its pieces keep the picks so far.
        unit: What `sizes` and `goal` count; FLOPs possibly in thousands, millions, ….
        refuse: Told of every pick; the candidates it names are blocked.
        resumable: Whether a later start goes on after the picks; not where the rule itself does.

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
        if refuse is not None:
            for position in new.tolist():
                growth.block(refuse(position))
        if len(new) > 1 or done % growth.chunk == 0:
            ctx.progress(Progress("select", min(spent, goal), goal, unit))

    pieces = ctx.pieces if resumable else Pieces()
    last, earlier = _picks_so_far(pieces)
    if earlier is not None and goal:
        found = earlier.astype(np.int64)
        found = found[: 1 + np.searchsorted(np.cumsum(sizes[found]), goal)]
        growth.replay(found)
        taken(found)
    saved = time.monotonic()
    while spent < goal:
        most = min(growth.chunk, goal - spent) if unit == "samples" else growth.chunk
        new = growth.pick(1 if refuse is not None else most)
        if not len(new):
            break
        taken(new)
        if time.monotonic() - saved > _SAVE_SECONDS:
            before, last = last, f"{_PICKS}{done:012d}"
            save_piece(pieces, last, picks=picks[:done])
            pieces.drop(before)
            saved = time.monotonic()
    ctx.progress(Progress("select", goal, goal, unit))
    return picks[:done]


def _picks_so_far(pieces: Pieces) -> tuple[str, Int1D | None]:
    """The last piece of picks that is whole, by name."""
    for name in reversed([n for n in pieces.names() if n.startswith(_PICKS)]):
        found = load_piece(pieces, name)
        if found is not None:
            return name, found["picks"]
    return f"{_PICKS}none", None
