"""Jitter: rows shuffled within a few places of where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from didact.core.arrays import Int1D


def jittered(order: Int1D, window: int, rng: np.random.Generator) -> Int1D:
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
