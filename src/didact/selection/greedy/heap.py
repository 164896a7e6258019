"""A compiled max-heap of (gain, row): the largest gain on top, of equal gains the lowest row.

The heap is two arrays side by side, so that a caller keeps whatever else it needs by row. Parents
stand at (i - 1) // 2. Which entries are on top depends on the entries alone, never on the order in
which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from didact.text.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Gains = npt.NDArray[Any]
    Rows = npt.NDArray[Any]


@compiled
def sift_down(gains: Gains, rows: Rows, size: int, at: int) -> None:
    """Move the entry at a place below every entry that beats it.

    Args:
        gains: Float `(≥ size,)`, none NaN.
        rows: Integers `(≥ size,)`, distinct.
        size: Entries in the heap.
        at: The only place where the heap's order may be broken, and only downwards.

    **Cost:** O(log size).
    """
    gain, row = gains[at], rows[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            gains[other] > gains[child]
            or (gains[other] == gains[child] and rows[other] < rows[child])
        ):
            child = other
        if gains[child] < gain or (gains[child] == gain and rows[child] > row):
            break
        gains[at], rows[at] = gains[child], rows[child]
        at = child
    gains[at], rows[at] = gain, row


@compiled
def heapify(gains: Gains, rows: Rows, size: int) -> None:
    """Put the first `size` entries into heap order.

    **Cost:** O(size).
    """
    for at in range(size // 2 - 1, -1, -1):
        sift_down(gains, rows, size, at)


@compiled
def second(gains: Gains, rows: Rows, size: int) -> int:
    """Where the entry is that comes after the top one; 0 where there is none."""
    if size < 3:
        return max(size - 1, 0)
    if gains[1] == gains[2]:
        return 1 if rows[1] < rows[2] else 2
    return 1 if gains[1] > gains[2] else 2


@compiled
def replace_top(gains: Gains, rows: Rows, size: int, gain: float) -> None:
    """Give the top entry's row a new gain, at most its old one.

    **Cost:** O(log size).
    """
    gains[0] = gain
    sift_down(gains, rows, size, 0)


@compiled
def pop(gains: Gains, rows: Rows, size: int) -> int:
    """Take the top entry out, which stays readable at place `size - 1`; returns the new size.

    **Cost:** O(log size).
    """
    last = size - 1
    gains[0], gains[last] = gains[last], gains[0]
    rows[0], rows[last] = rows[last], rows[0]
    if last:
        sift_down(gains, rows, last, 0)
    return last
