"""How often a cheap comparison of two sets decides as a better one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from didact.analysis.arms import Arm
from didact.core.arrays import Float2D


def between_seeds(arms: Sequence[Arm]) -> float | None:
    """How often one run of each of two sets ranks them as the means of all the others do.

    Over all pairs of sets and all pairs of their runs, each pair of sets with the same weight.
    Where units are draws, the others are those of other draws. No difference on one side is half
    a hit.

    Args:
        arms: The sets.

    Returns:
        0 to 1, by chance 0.5; None when no two sets have two units.

    **Source:** decision accuracy as in Magnusson et al. 2025, "DataDecide" (arXiv:2504.11393),
    there between sizes.
    **Cost:** O(runs²).
    """
    shares = []
    for a, b in combinations([_one_and_others(arm) for arm in arms if len(arm.units) > 1], 2):
        one = np.sign(a[:, None, 0] - b[None, :, 0])
        others = np.sign(a[:, None, 1] - b[None, :, 1])
        shares.append(float(((1 + one * others) / 2).mean()))
    return float(np.mean(shares)) if shares else None


def ranked_alike(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Share of pairs whose values are in the same order twice, as at two sizes of the model.

    Args:
        one: Label of a set → its mean.
        other: The same elsewhere; pairs of sets that both have are compared. A pair that is equal
            in one of them is half a hit.

    Returns:
        0 to 1, by chance 0.5; None when there is no pair.

    **Source:** as `between_seeds`.
    """
    common = sorted(one.keys() & other.keys())
    signs = [[np.sign(m[a] - m[b]) for a, b in combinations(common, 2)] for m in (one, other)]
    if not signs[0]:
        return None
    return float(((1 + np.array(signs[0]) * np.array(signs[1])) / 2).mean())


def _one_and_others(arm: Arm) -> Float2D:
    """Every run's value beside the mean of the units that it is not of, `(r, 2)`."""
    m = len(arm.units)
    others = (arm.units.sum() - arm.units[arm.unit_of]) / (m - 1)
    return np.stack([arm.values, others], axis=1)
