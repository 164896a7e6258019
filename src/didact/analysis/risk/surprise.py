"""What the previous version's model expects of a version's samples: too much, too little, of which.

Versions that are draws of one source are exchangeable: the previous version's model is as surprised
by this version's samples as the model before it was by the previous version's. Where there is no
model before it, the end of the previous training stands for it: there every sample was new, and the
model nearly done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from didact.analysis.risk.curve import Curve
from didact.analysis.risk.during import LEAST_WEIGHT, Run, between_runs
from didact.analysis.risk.expected import Losses
from didact.analysis.risk.flags import Judged
from didact.analysis.risk.odds import ENOUGH, Odds, from_earlier, from_means, limit
from didact.core.arrays import Bool1D, Float1D, Int1D

LAST: Final = 4  # the epoch's last quarter stands for its end
LEAST_ROWS: Final = 30  # of a source; of fewer the spread is not known, and it has a long tail


@dataclass(frozen=True, slots=True)
class Asked:
    """A version's samples as the previous version's model expects them.

    Attributes:
        losses: What each took, `(n,)`.
        sources: Source of each, `(n,)`.
    """

    losses: Losses
    sources: npt.NDArray[np.object_]

    def of(self, source: str) -> Bool1D:
        """The samples of a source; all of them for ""."""
        if not source:
            return np.ones(len(self.sources), bool)
        return np.asarray(self.sources == source, bool)

    def until(self, n: int) -> Asked:
        """The first `n` samples."""
        cut = Losses(self.losses.nats[:n], self.losses.tokens[:n])
        return Asked(cut, self.sources[:n])


def judge_surprise(
    this: Asked, earlier: Sequence[Asked], end: Curve | None
) -> list[tuple[Judged, Int1D]]:
    """The loss of the previous version's model on a version's samples, in all and by source.

    Args:
        this: The samples seen so far.
        earlier: The same of earlier versions, comparable ones, the previous one last.
        end: The previous version's training, for where there is none.

    Returns:
        What was judged, each with the places of its samples, those farthest off first.
    """
    tokens = float(this.losses.tokens.sum())
    names = [""] + [
        name
        for name in dict.fromkeys(this.sources.tolist())
        if this.losses.tokens[this.of(name)].sum() >= LEAST_WEIGHT * tokens
        and all(_enough(one, name) for one in (this, *earlier))
    ]
    out = []
    beyond = limit(len(names), sides=2)
    for name in names:
        chosen = this.of(name)
        seen = this.losses.mean(chosen)
        sd = math.hypot(math.sqrt(this.losses.variance(chosen)), between_runs(end) * seen)
        odds = _odds(seen, sd, name, earlier, end)
        if odds is None or not math.isfinite(odds.z):
            continue
        one = Judged(
            kind="surprise", seen=seen, expected=odds.expected, sd=odds.sd, z=odds.z, limit=beyond,
            source=name, both=True, unit=odds.expected,
        )  # fmt: skip
        out.append((one, farthest(this.losses, np.flatnonzero(chosen), one)))
    return out


def _enough(asked: Asked, name: str) -> bool:
    return int(np.count_nonzero(asked.losses.tokens[asked.of(name)])) >= LEAST_ROWS


def _odds(
    seen: float, sd: float, name: str, earlier: Sequence[Asked], end: Curve | None
) -> Odds | None:
    if not earlier:
        known = None if end is None else end_of(end, name)
        return (
            None
            if known is None
            else from_means(seen, known[0], math.hypot(sd, known[1]), math.inf)
        )
    each = [one.losses.mean(one.of(name)) for one in earlier]
    if len(each) >= ENOUGH:
        return from_earlier(seen, each, least_sd=sd)
    last = earlier[-1]
    theirs = math.sqrt(last.losses.variance(last.of(name)))
    return from_means(seen, each[-1], math.hypot(sd, theirs), math.inf)


def end_of(curve: Curve, source: str = "") -> tuple[float, float] | None:
    """The loss at the end of a first epoch, and its standard error with what it still fell.

    None where the epoch is not over, or has too few steps with the source.
    """
    if curve.seen < 1 or len(curve) < 4 * LAST:
        return None
    loss, weight = curve.sources.get(source, (None, None)) if source else (curve.loss, curve.weight)
    if loss is None or weight is None:
        return None
    at = len(loss) - len(loss) // LAST
    last = _mean(loss[at:], weight[at:])
    before = _mean(loss[2 * at - len(loss) : at], weight[2 * at - len(loss) : at])
    if last is None or before is None:
        return None
    return last[0], math.hypot(last[1], last[0] - before[0])


def _mean(loss: Float1D, weight: Float1D) -> tuple[float, float] | None:
    known = np.isfinite(loss) & (weight > 0)
    if np.count_nonzero(known) < 3:
        return None
    loss, share = loss[known], weight[known] / weight[known].sum()
    mean = float((loss * share).sum())
    return mean, math.sqrt(float((share**2 * (loss - mean) ** 2).sum()))


def farthest(losses: Losses, places: Int1D, one: Judged) -> Int1D:
    """Places of samples that move a loss to where it is, those that move it most first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = losses.nats[places] - one.expected * losses.tokens[places]
    off = off if one.z > 0 else -off
    best = np.argsort(-off, kind="stable")
    return places[best[off[best] > 0]]


def run_of(curve: Curve, asked: Asked, batch_size: int, group: Int1D) -> Run:
    """A training with what was expected of the samples of each entry of its log.

    Args:
        curve: The first epoch.
        asked: Its samples in the order in which they are read.
        batch_size: Samples of a step.
        group: Label of each sample, the same of near copies, `(n,)`.
    """
    steps, tokens = curve.step, asked.losses.tokens
    entry = np.searchsorted(steps, np.arange(len(asked.sources)) // batch_size + 1)
    first = np.full(int(group.max(initial=0)) + 1, len(steps))
    np.minimum.at(first, group, entry)

    def ratio(above: Float1D, chosen: Bool1D) -> Float1D:
        inside = chosen & (entry < len(steps))
        nats, n = (np.bincount(entry[inside], v[inside], len(steps)) for v in (above, tokens))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(nats / n)

    everything = asked.of("")
    return Run(
        curve, ratio(asked.losses.nats, everything),
        {name: ratio(asked.losses.nats, asked.of(name)) for name in curve.sources},
        ratio(tokens * (first[group] < entry), everything),
    )  # fmt: skip
