"""One quantity over the pool and over the chosen samples, in the same bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
AT_ONCE = 2**18  # rows worked with at a time, beside the columns
FARTHEST = 1e300  # either end of an axis: beyond, sums and widths would be no numbers


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


def distribution(
    edges: Float1D, pool: Float1D, chosen: Float1D, *, log: bool = False
) -> Distribution:
    """Shares and quantiles of two sets of values.

    Args:
        edges: Ascending edges of the bins; none where there are no values.
        pool: Values of the pool.
        chosen: Values of the chosen samples.
        log: Whether the bins are even on a logarithmic axis.
    """
    if not len(edges):
        return Distribution((), (), (), (), ())
    return Distribution(
        edges=_plain(edges),
        pool=_shares(pool, edges),
        chosen=_shares(chosen, edges) if len(chosen) else (),
        pool_quantiles=_quantiles(pool),
        chosen_quantiles=_quantiles(chosen) if len(chosen) else (),
        beyond=int(np.count_nonzero((pool < edges[0]) | (pool > edges[-1]))),
        log=log,
    )


def drawable(values: Any) -> Any:
    """Numbers, or an array of them, with what lies beyond `FARTHEST` put there."""
    if not np.size(values) or max(np.max(values), -np.min(values)) <= FARTHEST:
        return values  # no copy of a column
    return np.clip(values, -FARTHEST, FARTHEST)


def _shares(values: Float1D, edges: Float1D) -> tuple[float, ...]:
    counts = np.zeros(len(edges) - 1, np.int64)
    for at in range(0, len(values), AT_ONCE):
        counts += np.histogram(np.clip(values[at : at + AT_ONCE], edges[0], edges[-1]), edges)[0]
    return _plain(counts / len(values))


def _quantiles(values: Float1D) -> tuple[float, ...]:
    """Values at `QUANTILES`; between numbers whose difference is none, too."""
    if max(values.max(), -values.min()) > FARTHEST:
        return _plain(np.quantile(values / 4.0, QUANTILES) * 4.0)
    return _plain(np.quantile(values, QUANTILES))


def _plain(values: npt.NDArray[np.float64] | Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
