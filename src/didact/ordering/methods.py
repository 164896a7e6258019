"""Orderers: the kernels with the product's contract, found by name.

They read the pool's fingerprint and nothing else of it, so an order can be made where the pool's
store is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from didact.core.binding import as_json
from didact.core.errors import ConfigError, DataError
from didact.core.identity import method
from didact.core.scores import TrainingOrder
from didact.ordering import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from didact.core.arrays import Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Scores, Selection

Layers = Annotated[int, Field(ge=1)]
Sections = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@method("keep")
def keep(
    pool: Pool,
    chosen: Selection,
    _scores: Scores | None,
    _ctx: Context,
    /,
    *,
    by: Literal["row", "rank"] = "row",
) -> TrainingOrder:
    """No new order: the pool's own, or the order in which the rows were chosen.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        by: "row": as they stand in the pool. "rank": best first, as the selector ranked them; pool
            order when it ranks nothing.

    Raises:
        PoolMismatchError: The selection belongs to another pool.

    **Source:** own; the baseline of every comparison.
    **Cost:** O(n).
    """
    chosen.check(pool)
    rows = chosen.rows if by == "row" else chosen.best_first()
    return _order(chosen, rows, keep, {"by": by})


@method("shuffle")
def shuffle(
    pool: Pool,
    chosen: Selection,
    _scores: Scores | None,
    ctx: Context,
    /,
    *,
    reference: Literal["delt", "data-efficacy"] | None = None,
    seed: Annotated[int, Field(ge=0)] | None = None,
) -> TrainingOrder:
    """A uniform random order, from the run's seed.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        ctx: Its seed decides the order.
        reference: Instead, the permutation that a released code base makes of n rows, the same in
            every epoch.
        seed: The reference's seed; DELT was released with 10.

    Raises:
        ConfigError: A reference without a seed, or a seed without a reference.
        PoolMismatchError: The selection belongs to another pool.

    **Source:** microsoft/DELT and microsoft/data-efficacy `shuffle.py` for the references.
    **Cost:** O(n).
    """
    chosen.check(pool)
    if (reference is None) != (seed is None):
        raise ConfigError(
            f"shuffle: reference={reference!r} with seed={seed!r}; give both to repeat a released "
            "order, or neither: the order then follows the run's own seed"
        )
    if reference is None or seed is None:
        order = kernels.shuffle(len(chosen), ctx.rng("order", "shuffle"))
    else:
        order = kernels.released_shuffle(len(chosen), release=reference, seed=seed)
    return _order(chosen, chosen.rows[order], shuffle, {"reference": reference, "seed": seed})


@method("sort")
def sort(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    descending: bool = False,
) -> TrainingOrder:
    """From the worst score to the best, so that training ends with the best; ties in pool order.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        descending: From the best to the worst.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** DELT §4.2 (arXiv:2506.21545).
    **Cost:** O(n log n).
    """
    utility = _utility("sort", pool, chosen, scores)
    order = kernels.sort(utility, descending=descending)
    return _order(chosen, chosen.rows[order], sort, {"descending": descending})


@method("fold")
def fold(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    layers: Layers = 3,
    phase: int = 0,
) -> TrainingOrder:
    """Several sweeps from the worst score to the best, each over its own share of the rows.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        layers: Number of sweeps.
        phase: 0 as DELT's released code, -1 as equation 10 of its paper (the same layers, rotated).

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** DELT §4.2, eq. 10 and Tab. 12 (arXiv:2506.21545), where 3 layers did best.
    **Cost:** O(n log n).
    """
    utility = _utility("fold", pool, chosen, scores)
    order = kernels.fold(utility, layers=layers, phase=phase)
    return _order(chosen, chosen.rows[order], fold, {"layers": layers, "phase": phase})


@method("zigzag")
def zigzag(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    layers: Layers = 3,
) -> TrainingOrder:
    """A fold whose every second sweep runs from the best to the worst: no cliffs between sweeps.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        layers: Number of sweeps.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** ZIG of arXiv:2605.30334 (microsoft/data-efficacy, where the default is 5 layers).
    **Cost:** O(n log n).
    """
    utility = _utility("zigzag", pool, chosen, scores)
    order = kernels.zigzag(utility, layers=layers)
    return _order(chosen, chosen.rows[order], zigzag, {"layers": layers})


@method("stair")
def stair(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    sections: Sections = 2,
    ratio: Share = 0.225,
    layers: Layers = 3,
) -> TrainingOrder:
    """Sorted, with a fold around each cut between sections.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        sections: Equal parts of the sorted rows.
        ratio: Half the width of a folded window as a share of the rows.
        layers: Sweeps of a fold.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** STR of arXiv:2605.30334 (microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    utility = _utility("stair", pool, chosen, scores)
    settings = {"sections": sections, "ratio": ratio, "layers": layers}
    order = kernels.stair(utility, sections=sections, ratio=ratio, layers=layers)
    return _order(chosen, chosen.rows[order], stair, settings)


@method("saw")
def saw(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    _ctx: Context,
    /,
    *,
    sections: Sections = 3,
    ratio: Share = 0.075,
    layers: Layers = 2,
) -> TrainingOrder:
    """Sorted, with a zigzag around each cut between sections.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        sections: Equal parts of the sorted rows.
        ratio: Half the width of a zigzag window as a share of the rows.
        layers: Sweeps of a zigzag.

    Raises:
        ConfigError: No scores.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** SAW of arXiv:2605.30334 (microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    utility = _utility("saw", pool, chosen, scores)
    settings = {"sections": sections, "ratio": ratio, "layers": layers}
    order = kernels.saw(utility, sections=sections, ratio=ratio, layers=layers)
    return _order(chosen, chosen.rows[order], saw, settings)


@method("segment")
def segment(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    ctx: Context,
    /,
    *,
    low: Share = 0.1,
    high: Share = 0.1,
    lowest_first: bool = True,
) -> TrainingOrder:
    """The worst rows first, the best last, all others between; each of the three parts shuffled.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: The scores to order by.
        ctx: Its seed decides the shuffles.
        low: Share of the rows in the low part.
        high: Share of the rows in the high part.
        lowest_first: False puts the best part first and the worst last.

    Raises:
        ConfigError: No scores, or low + high above 1.
        DataError: A chosen row has no score.
        PoolMismatchError: Selection or scores belong to another pool.

    **Source:** SEG of arXiv:2605.30334 (microsoft/data-efficacy).
    **Cost:** O(n log n).
    """
    utility = _utility("segment", pool, chosen, scores)
    settings = {"low": low, "high": high, "lowest_first": lowest_first}
    rng = ctx.rng("order", "segment")
    order = kernels.segment(utility, rng, low=low, high=high, lowest_first=lowest_first)
    return _order(chosen, chosen.rows[order], segment, settings)


def _utility(method: str, pool: Pool, chosen: Selection, scores: Scores | None) -> Float1D:
    """Utilities of the chosen rows, `(len(chosen),)`; larger is better."""
    chosen.check(pool)
    if scores is None:
        raise ConfigError(
            f"order {method} needs scores: add a 'score:' section to the config, pass "
            "'--scores FILE' on the command line, or choose keep or shuffle"
        )
    scores.check(pool)
    without = np.flatnonzero(~scores.present[chosen.rows])
    if len(without):
        row = int(chosen.rows[without[0]])
        raise DataError(
            f"order {method}: {len(without):,} of the {len(chosen):,} chosen rows have no "
            f"{scores.method!r} score, the first is row {row} ({scores.missing[row]}); order by "
            "the scores that selected the rows, or choose keep or shuffle"
        )
    return scores.utility[chosen.rows]


def _order(
    chosen: Selection, rows: Int1D, method: Callable[..., Any], settings: Mapping[str, Any]
) -> TrainingOrder:
    return TrainingOrder(
        rows=rows,
        pool_fingerprint=chosen.pool_fingerprint,
        method=method.__name__,
        settings=as_json(method, settings),
    )
