"""Scores: how they are distributed, and where the choice cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.scores import Scores
from didact.reporting import charts
from didact.reporting.distributions import Distribution, distribution, drawable
from didact.reporting.formatting import count, shorten, visible
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

BINS = 50
MAGNITUDES = 20  # highest ÷ median score from which the axis is logarithmic


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


@dataclass(frozen=True, slots=True)
class ScoresAndCut:
    """The scores that the choice was made by.

    Attributes:
        distribution: In the pool and among the chosen.
        cut: How the choice relates to the score; None when nothing chosen has one.
    """

    distribution: Distribution
    cut: Cut | None


def score_distribution(scores: Scores, chosen: Int1D, cut: Cut | None = None) -> Distribution:
    """Scores in natural units, in even bins over the range that holds almost all of them.

    The axis ends at the outermost 0.1 % where the tail beyond is longer than the rest; positive
    scores of many magnitudes get a logarithmic one. A bin ends at the cut, so that none is half
    chosen.

    Args:
        scores: The score of every row of the pool; missing ones are left out.
        chosen: Rows that were chosen.
        cut: How the choice relates to the scores.
    """
    values = scores.values[scores.present] if scores.missing else scores.values
    if not len(values):
        return distribution(np.empty(0), np.empty(0), np.empty(0))
    edges, log = _score_edges(drawable(values), _near(cut))
    mine = scores.values[chosen]
    return distribution(edges, values, mine[np.isfinite(mine)], log=log)


def _near(cut: Cut | None) -> Cut | None:
    """The cut with its lines where an axis can have them."""
    if cut is None:
        return None
    lower, upper = (
        None if v is None else float(drawable(np.float64(v))) for v in (cut.lower, cut.upper)
    )
    return replace(cut, lower=lower, upper=upper)


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
        scores: The score of every row of the pool.
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


def _gather(subject: Subject) -> ScoresAndCut | None:
    if subject.scores is None:
        return None
    chosen = subject.selection.rows
    cut = find_cut(subject.scores, chosen, subject.candidates)
    return ScoresAndCut(score_distribution(subject.scores, chosen, cut), cut)


def _template_values(found: ScoresAndCut, header: Header) -> Mapping[str, Any]:
    assert header.scoring is not None  # noqa: S101 - there are scores
    scores = found.distribution
    name = shorten(visible(header.scoring.method.name), 20)
    axis = ", log scale" if scores.log else ""
    cut = _near(found.cut)
    chart = charts.histogram(
        scores.edges, scores.pool, scores.chosen, cuts=cut.at if cut else (),
        log=scores.log, described=f"Distribution of {name} scores, pool and chosen",
        x_label=f"{name} score, {header.scoring.preferred}{axis}",
    )  # fmt: skip
    return {"chart": chart, "beyond": count(scores.beyond)}


SECTION = Section(name="scores", title="Scores", gather=_gather, template_values=_template_values)
