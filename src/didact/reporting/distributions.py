"""How lengths and scores are distributed in the pool and among the chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.scores import Scores

BINS = 50
MAGNITUDES = 20  # highest ÷ median score from which the axis is logarithmic
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
        log: Whether the bins are even on a logarithmic axis.
    """

    edges: tuple[float, ...]
    pool: tuple[float, ...]
    chosen: tuple[float, ...]
    pool_quantiles: tuple[float, ...]
    chosen_quantiles: tuple[float, ...]
    beyond: int = 0
    log: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """How the choice relates to the score.

    Attributes:
        lower: The lowest score chosen, when a line runs there: candidates below it were left out.
        upper: The highest score chosen, when candidates above it were left out.
        low: Lowest score chosen.
        high: Highest score chosen.
        passed_over: Candidates with a score strictly between the two that were not chosen. When
            there are any, the choice is no cut by this score, and no line is drawn.
    """

    lower: float | None
    upper: float | None
    low: float
    high: float
    passed_over: int

    @property
    def at(self) -> tuple[float, ...]:
        """Where lines run, ascending."""
        return tuple(sorted({v for v in (self.lower, self.upper) if v is not None}))


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
    return replace(_distribution(edges, counted, counted[chosen]), log=True)


def score_distribution(scores: Scores, chosen: Int1D, cut: Cut | None = None) -> Distribution:
    """Scores in natural units, in even bins over the range that holds almost all of them.

    The axis ends at the outermost 0.1 % where the tail beyond is longer than the rest; positive
    scores of many magnitudes get a logarithmic one. A bin ends at the cut, so that none is half
    chosen.

    Args:
        scores: Of every row of the pool; missing ones are left out.
        chosen: Rows that were chosen.
        cut: How the choice relates to the scores.
    """
    values = scores.values[scores.present]
    if not len(values):
        return _distribution(np.empty(0), np.empty(0), np.empty(0))
    edges, log = _score_edges(values, cut)
    mine = scores.values[chosen]
    return replace(_distribution(edges, values, mine[np.isfinite(mine)]), log=log)


def _score_edges(values: Float1D, cut: Cut | None) -> tuple[Float1D, bool]:
    """Bin edges for scores, and whether they are even on a logarithmic axis."""
    low, middle, high = (float(v) for v in np.quantile(values, [0, 0.5, 1]))
    marks = cut.at if cut is not None else ()
    log = low > 0 and high > MAGNITUDES * middle
    if not log:
        inner = [float(v) for v in np.quantile(values, [0.001, 0.999])]
        if high - low > 1.5 * (inner[1] - inner[0]) > 0:
            low, high = min(inner[0], *marks, high), max(inner[1], *marks, low)
    if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-300):
        half = max(abs(low) * 0.05, 0.5)
        return np.linspace(low - half, low + half, 4), False
    bins = min(BINS, max(len(np.unique(values[: 10 * BINS])), 10))
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    if cut is not None and marks:
        warp, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
        ends = (None if v is None else float(warp(v)) for v in (cut.lower, cut.upper))
        edges = back(_through(warp(edges), *ends))
        # Rounding must not move a chosen score across the line.
        for mark in marks:
            above = mark == cut.upper and mark != cut.lower
            nearest = np.argmin(np.abs(edges - mark))
            edges[nearest] = np.nextafter(mark, np.inf) if above else mark
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges, log


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
    if between:
        return Cut(None, None, low, high, between)
    # A line runs where others lie beyond; where others only tie with it, on the tie.
    lower, upper = bool(np.any(others < low)), bool(np.any(others > high))
    if not (lower or upper):
        lower = bool(np.any(others == low))
        upper = low < high and bool(np.any(others == high))
    return Cut(low if lower else None, high if upper else None, low, high, 0)


def _through(edges: Float1D, lower: float | None, upper: float | None) -> Float1D:
    """Even edges moved so that one is at `lower` and one at `upper`, where these are given."""
    width = edges[1] - edges[0]
    if lower is not None and upper is not None and upper - lower > width / 2:
        # A whole number of bins between the two lines; at most twice as many bins in all.
        width = (upper - lower) / max(round((upper - lower) / width), 1)
    first = next(v for v in (lower, upper) if v is not None)
    # At least one bin on either side: a score on the line itself may be at the end of the range.
    below = max(int(np.ceil((first - edges[0]) / width)), 1)
    above = max(int(np.ceil((edges[-1] - first) / width)), 1)
    return np.asarray(first + width * np.arange(-below, above + 1))


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
