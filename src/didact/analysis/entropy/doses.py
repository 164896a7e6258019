"""Doses: what was done to a family's own set, and what R, L and performance then did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from didact.analysis.entropy.runs import LawSet
from didact.analysis.intervals import Estimate
from didact.analysis.spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """A set with a dose beside the natural sets of its family.

    Attributes:
        set: Its name.
        family: Its family.
        dose: What was done.
        backbone: The model that the training began with.
        stage: Its stage.
        base: Names of the family's natural sets on that backbone in that stage, averaged.
        ratio: R of the dose less that of the base.
        first_epoch_loss: L likewise, nats per token.
        performance: Likewise; above 0 is better than the base.
        low: 95 % interval of that difference; None where the noise is not known.
        high: The upper end.
    """

    set: str
    family: str
    dose: str
    backbone: str
    stage: str
    base: tuple[str, ...]
    ratio: float
    first_epoch_loss: float
    performance: float
    low: float | None
    high: float | None


def doses_of(
    sets: Sequence[LawSet], spread: Spread | None
) -> tuple[tuple[Dose, ...], tuple[str, ...]]:
    """Every dose against its family's base, and notes on those that have none.

    The noise is that between the base's sets where there are several (draws of one recipe differ
    by more than seeds of one draw), else that between runs of a set.

    Args:
        sets: All sets.
        spread: Variance of runs within a set, pooled; None where no set has two.
    """
    out, alone = [], []
    for each in sets:
        if each.dose is None:
            continue
        base = [
            s for s in sets
            if s.dose is None and (s.family, s.group) == (each.family, each.group)
        ]  # fmt: skip
        if not base:
            alone.append(each.name)
            continue
        moved = each.performance - float(np.mean([s.performance for s in base]))
        low, high = _interval(each, base, moved, spread)
        out.append(
            Dose(
                set=each.set, family=each.family, dose=each.dose, backbone=each.backbone,
                stage=each.stage, base=tuple(s.set for s in base),
                ratio=each.ratio - float(np.mean([s.ratio for s in base])),
                first_epoch_loss=each.first_epoch_loss
                - float(np.mean([s.first_epoch_loss for s in base])),
                performance=moved, low=low, high=high,
            )
        )  # fmt: skip
    if not alone:
        return tuple(out), ()
    note = (
        "Doses without a natural set of their family, on the same backbone and in the same stage, "
        f"are not in the table: {', '.join(alone)}."
    )
    return tuple(out), (note,)


def _interval(
    each: LawSet, base: Sequence[LawSet], moved: float, spread: Spread | None
) -> tuple[float | None, float | None]:
    b = len(base)
    if b > 1:
        noise = Spread(float(np.var([s.performance for s in base], ddof=1)), b - 1)
        variance = noise.variance * (1 + 1 / b)
    elif spread is not None:
        noise = spread
        variance = noise.variance * (1 / len(each.values) + 1 / len(base[0].values))
    else:
        return None, None
    if variance <= 0:
        return None, None
    return Estimate(moved, math.sqrt(variance), noise.df).interval()
