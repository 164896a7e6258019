"""Orders as permutations: utilities in, the indices 0..n-1 in reading order out.

Ascending in utility throughout: the best comes last, in each layer. Ties keep input order. Nothing
here knows of pools or files, and nothing draws random numbers but from the generator it is given.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import numpy as np

from didact.core.errors import ConfigError
from didact.core.scores import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from didact.core.arrays import Float1D, Int1D


def sort(utility: Float1D, *, descending: bool = False) -> Int1D:
    """From the worst to the best; or from the best to the worst, ties in input order either way.

    **Source:** DELT's sorting (microsoft/DELT `data_ordering/sorting.py`).
    **Cost:** O(n log n).
    """
    return np.argsort(-utility if descending else utility, kind="stable")


def fold(utility: Float1D, *, layers: int, phase: int = 0) -> Int1D:
    """Every `layers`-th row of the sorted rows, `layers` times: each pass climbs from low to high.

    Args:
        utility: `(n,)`, finite.
        layers: Number of passes, ≥ 1. With 1, or n and more, it is `sort` (at phase 0).
        phase: Which residue comes first. 0: the lowest row opens the first layer, as DELT's code
            does. -1: the first layer is the positions `layers`, 2·`layers`, … counted from 1, as
            equation 10 of the paper reads; the same layers, rotated.

    **Source:** DELT's folding (arXiv:2506.21545 eq. 10; microsoft/DELT `folding.py`).
    **Cost:** O(n log n).
    """
    return sort(utility)[_folded(len(utility), layers, phase)]


def zigzag(utility: Float1D, *, layers: int) -> Int1D:
    """`fold` with every second layer turned round, so that no score cliff lies between layers.

    **Source:** ZIG of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    return sort(utility)[_zigzagged(len(utility), layers)]


def stair(utility: Float1D, *, sections: int, ratio: float, layers: int) -> Int1D:
    """Sorted, but folded in a window around each of the `sections` - 1 cuts between sections.

    Args:
        utility: `(n,)`, finite.
        sections: Equal parts of the sorted rows, ≥ 1; 1 has no cut and is `sort`.
        ratio: Half a window's width as a share of n, 0-1. Windows that overlap are clipped.
        layers: Passes of the fold inside a window, ≥ 1.

    **Source:** STR of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    Cuts and widths are rounded half to even, as Python rounds.
    **Cost:** O(n log n).
    """
    windows = _windows(len(utility), sections, ratio)
    return sort(utility)[_in_windows(len(utility), windows, lambda n: _folded(n, layers, 0))]


def saw(utility: Float1D, *, sections: int, ratio: float, layers: int) -> Int1D:
    """As `stair`, with a zigzag in the windows.

    **Source:** SAW of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    windows = _windows(len(utility), sections, ratio)
    return sort(utility)[_in_windows(len(utility), windows, lambda n: _zigzagged(n, layers))]


def segment(
    utility: Float1D, rng: np.random.Generator, *, low: float, high: float, lowest_first: bool
) -> Int1D:
    """The lowest share first, the highest share last, the rest between; each part shuffled.

    Args:
        utility: `(n,)`, finite.
        rng: Shuffles the parts.
        low: Share of the rows in the low part, floored in decimal.
        high: Share of the rows in the high part, floored in decimal; the two add up to at most 1.
        lowest_first: False swaps the two outer parts.

    Raises:
        ConfigError: The two shares add up to more than 1.

    **Source:** SEG of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    if Decimal(repr(low)) + Decimal(repr(high)) > 1:
        raise ConfigError(f"segment: low={low} and high={high} overlap; expected at most 1 in sum")
    n = len(utility)
    ends = [Budget(ratio=low).amount(n), n - Budget(ratio=high).amount(n)]
    parts = [rng.permutation(part) for part in np.split(sort(utility), ends)]
    return np.concatenate(parts if lowest_first else parts[::-1])


def shuffle(n: int, rng: np.random.Generator) -> Int1D:
    """A uniform permutation of 0..n-1.

    **Cost:** O(n).
    """
    return rng.permutation(n)


def released_shuffle(n: int, *, release: Literal["delt", "data-efficacy"], seed: int) -> Int1D:
    """The very permutation that a released code base makes of n rows.

    **Source:** microsoft/DELT `shuffle.py` (`random.sample`, seed 10 there) and
    microsoft/data-efficacy `shuffle.py` (`Random(seed).shuffle`).
    **Cost:** O(n) in plain Python, about a microsecond a row.
    """
    generator = random.Random(seed)
    if release == "delt":
        return np.array(generator.sample(range(n), n), dtype=np.int64)
    rows = list(range(n))
    generator.shuffle(rows)
    return np.array(rows, dtype=np.int64)


def jitter(order: Int1D, window: int, rng: np.random.Generator) -> Int1D:
    """Shuffle inside consecutive windows; no row moves `window` places or more.

    Args:
        order: Any sequence, `(n,)`.
        window: Rows in a window, ≥ 1; the last window may be shorter. 1 changes nothing.
        rng: One generator for all windows, in their order.

    **Source:** JIT of "Demystifying Data Organization" (arXiv:2605.30334; microsoft/data-efficacy
    `window_based_shuffle`); equal to it for `numpy.random.default_rng(seed)`.
    **Cost:** O(n).
    """
    whole = len(order) // window * window
    # `permuted` draws what `shuffle` draws for one row after the other.
    full = rng.permuted(order[:whole].reshape(-1, window), axis=1).ravel()
    rest = order[whole:].copy()
    rng.shuffle(rest)
    return np.concatenate([full, rest])


def interleave(order: Int1D, source: npt.NDArray[np.integer]) -> Int1D:
    """Spread each source evenly over the sequence; within a source its own order stays.

    The i-th of a source's m rows aims at (i + 1/2) / m of the way; rows that aim at the same place
    keep the order they came in.

    Args:
        order: Indices in reading order, `(n,)`.
        source: The source of each *index*, `(n,)`.

    **Source:** even spacing by mid-points, as in stratified (systematic) sampling; own.
    **Cost:** O(n log n).
    """
    if not len(order):
        return order
    code = source[order]
    grouped = np.argsort(code, kind="stable")
    counts = np.bincount(code)
    place = np.empty(len(order), np.int64)
    place[grouped] = np.arange(len(order)) - (np.cumsum(counts) - counts)[code[grouped]]
    return order[np.argsort((place + 0.5) / counts[code], kind="stable")]


def _folded(n: int, layers: int, phase: int) -> Int1D:
    """Positions 0..n-1 by residue, each residue ascending."""
    return np.argsort((np.arange(n) - phase) % layers, kind="stable")


def _zigzagged(n: int, layers: int) -> Int1D:
    position = np.arange(n)
    layer = position % layers
    return np.lexsort((np.where(layer % 2, -position, position), layer))


def _windows(n: int, sections: int, ratio: float) -> list[tuple[int, int]]:
    """Where the cuts' windows begin and end; each begins where the one before has ended."""
    radius = round(n * ratio)
    out, cursor = [], 0
    for cut in range(1, sections):
        middle = round(n * cut / sections)
        begin, end = max(middle - radius, cursor), min(middle + radius, n)
        if begin < end:
            out.append((begin, end))
            cursor = end
    return out


def _in_windows(
    n: int, windows: list[tuple[int, int]], rearranged: Callable[[int], Int1D]
) -> Int1D:
    """Positions 0..n-1 with `rearranged` applied inside the windows."""
    out = np.arange(n)
    for begin, end in windows:
        out[begin:end] = begin + rearranged(end - begin)
    return out
