"""Compiled: which group of candidates gives the next pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from didact.text.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.selection.greedy.shares import Shares

    Array = npt.NDArray[Any]


@compiled
def leading(gains: Array, rows: Array, shares: Shares) -> int:
    """The group that the next pick is from, or -1 when none has a candidate left.

    That of the largest gain among those that the pick would not bring beyond their share times the
    factor. But when some of these are below their share by the factor, it is the one that is
    farthest below. Groups that have nothing to gain are neither waited for nor held back.

    Args:
        gains: The largest gain in each group, or a bound of it, `(g,)`.
        rows: Which row has it, -1 in an empty group, `(g,)`.
        shares: What is kept, and what was picked.
    """
    total = shares.picked.sum() + shares.step
    best = -1
    for strict in (True, False):
        for g in range(len(rows)):
            if rows[g] < 0:
                continue
            if strict and (gains[g] <= 0 or full(g, total, shares)):
                continue
            ahead = best >= 0 and (
                gains[best] > gains[g] or (gains[best] == gains[g] and rows[best] < rows[g])
            )
            best = best if ahead else g
        if best >= 0:
            break
    least = 1.0
    pick = best
    for g in range(len(rows)):
        if rows[g] >= 0 and shares.share[g] > 0 and gains[g] > 0 and not full(g, total, shares):
            of_least = shares.picked[g] * shares.factor / (shares.share[g] * total)
            if of_least < least:
                least = of_least
                pick = g
    return pick


@compiled
def full(g: int, total: float, shares: Shares) -> bool:
    """Whether an average candidate more would bring a group beyond its share times the factor."""
    most = shares.factor * shares.share[g] * total
    return bool(shares.share[g] > 0 and shares.picked[g] + shares.step > most)
