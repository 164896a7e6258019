"""How lengths and scores are distributed in the pool and among the chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from didact.core.scores import Bool1D, Float1D, Int1D, Scores

BINS = 50
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Distribution:
    """One quantity over the pool and over the chosen samples, in the same bins.

    Attributes:
        edges: `b + 1` ascending edges; the last bin includes its upper edge.
        pool: Share of the pool's values in each bin, 0-1.
        chosen: The same for the chosen samples; empty when there are none.
        pool_quantiles: Values at `QUANTILES`; empty when there are none.
        chosen_quantiles: The same for the chosen samples.
        beyond: Values of the pool outside the edges, counted in the outermost bins.
    """

    edges: tuple[float, ...]
    pool: tuple[float, ...]
    chosen: tuple[float, ...]
    pool_quantiles: tuple[float, ...]
    chosen_quantiles: tuple[float, ...]
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """How the choice relates to the score.

    Attributes:
        at: Where the line runs: one value, or two for a middle band; empty when the choice is
            no cut by this score (random, per-source or combined choices).
        low: Lowest score chosen.
        high: Highest score chosen.
        passed_over: Candidates with a score strictly between the two that were not chosen.
    """

    at: tuple[float, ...]
    low: float
    high: float
    passed_over: int


def length_distribution(n_tokens: Int1D, chosen: Int1D) -> Distribution:
    """Tokens per sample, in bins half a power of two wide, on whole numbers.

    Args:
        n_tokens: Of every row of the pool, `(n,)`.
        chosen: Rows that were chosen.
    """
    if not len(n_tokens):
        return _distribution(np.empty(0), np.empty(0), np.empty(0))
    low, high = max(int(n_tokens.min()), 1), max(int(n_tokens.max()), 1)
    powers = np.arange(np.floor(2 * np.log2(low)), np.ceil(2 * np.log2(high + 1)) + 1)
    edges = np.unique(np.round(2.0 ** (powers / 2)))
    counted = np.maximum(n_tokens, 1).astype(np.float64)
    return _distribution(edges, counted, counted[chosen])


def score_distribution(scores: Scores, chosen: Int1D, cut: Cut | None = None) -> Distribution:
    """Scores in natural units, in even bins over the range that holds almost all of them.

    The axis ends at the outermost 0.1 % where the tail beyond is longer than the rest. A bin ends
    at the cut, so that no bin is half chosen.

    Args:
        scores: Of every row of the pool; missing ones are left out.
        chosen: Rows that were chosen.
        cut: How the choice relates to the scores.
    """
    values = scores.values[scores.present]
    if not len(values):
        return _distribution(np.empty(0), np.empty(0), np.empty(0))
    inner = np.quantile(values, [0.001, 0.999])
    low, high = float(values.min()), float(values.max())
    marks = cut.at if cut is not None else ()
    if high - low > 1.5 * (inner[1] - inner[0]) > 0:
        low, high = min(float(inner[0]), *marks, high), max(float(inner[1]), *marks, low)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        half = max(abs(low) * 0.05, 0.5)
        edges = np.linspace(low - half, low + half, 4)
    else:
        distinct = len(np.unique(values[: 10 * BINS]))
        edges = np.linspace(low, high, min(BINS, max(distinct, 10)) + 1)
        if cut is not None and marks:
            edges = _through(edges, cut)
    mine = scores.values[chosen]
    return _distribution(edges, values, mine[np.isfinite(mine)])


def find_cut(scores: Scores, chosen: Int1D, candidates: Bool1D) -> Cut | None:
    """Where the choice cuts the scores, or None when nothing chosen has one.

    Args:
        scores: Of every row of the pool.
        chosen: Rows that were chosen.
        candidates: True on the rows that could have been chosen, `(n,)`.
    """
    mine = scores.values[chosen]
    mine = mine[np.isfinite(mine)]
    if not len(mine):
        return None
    low, high = float(mine.min()), float(mine.max())
    passed = candidates & scores.present
    passed[chosen] = False
    others = scores.values[passed]
    between = int(np.count_nonzero((others > low) & (others < high)))
    at: list[float] = []
    if not between:
        # Equal scores on both sides of the line belong to the side that has no others.
        if np.any(others < low) or (np.any(others == low) and not np.any(others > high)):
            at.append(low)
        if high > low and np.any(others > high):
            at.append(high)
        if high > low and not at and np.any(others == high):
            at.append(high)
    return Cut(tuple(at), low, high, between)


def _through(edges: Float1D, cut: Cut) -> Float1D:
    """The edges moved so that bins end at the cut; one at the highest score chosen is above it."""
    width = edges[1] - edges[0]
    if len(cut.at) > 1 and cut.at[1] - cut.at[0] > width / 2:
        # A whole number of bins between the two lines; at most twice as many bins in all.
        width = (cut.at[1] - cut.at[0]) / max(round((cut.at[1] - cut.at[0]) / width), 1)
    below = int(np.ceil((cut.at[0] - edges[0]) / width))
    above = int(np.ceil((edges[-1] - cut.at[0]) / width))
    moved = cut.at[0] + width * np.arange(-below, above + 1)
    for mark in cut.at:
        if mark == cut.high:
            moved[np.abs(moved - mark) < width / 4] = np.nextafter(mark, np.inf)
    return np.asarray(moved)


def _distribution(edges: Float1D, pool: Float1D, chosen: Float1D) -> Distribution:
    if not len(edges):
        return Distribution((), (), (), (), ())
    return Distribution(
        edges=_plain(edges),
        pool=_shares(pool, edges),
        chosen=_shares(chosen, edges) if len(chosen) else (),
        pool_quantiles=_plain(np.quantile(pool, QUANTILES)),
        chosen_quantiles=_plain(np.quantile(chosen, QUANTILES)) if len(chosen) else (),
        beyond=int(np.count_nonzero((pool < edges[0]) | (pool > edges[-1]))),
    )


def _shares(values: Float1D, edges: Float1D) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return _plain(counts / len(values))


def _plain(values: npt.NDArray[np.float64] | Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
