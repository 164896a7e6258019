"""Whether sets of training samples can be told apart, by every measure of their runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

import numpy as np

from didact.analysis.arms import Arm, Table, tables
from didact.analysis.decisions import between_seeds, ranked_alike
from didact.analysis.intervals import (
    Estimate,
    difference_estimate,
    holm_levels,
    mean_estimate,
    rest_variance,
    sample_spread,
)
from didact.analysis.power import power_constant, seeds_needed
from didact.analysis.runs import Run, checked, without_twins
from didact.analysis.spread import Spread, run_sd, set_sd, spreads
from didact.analysis.told import LEAST_SNR, Difference, SetMean, Told
from didact.core.errors import ConfigError

Wanted = float | Mapping[str, float] | None
_FEW: Final = 50  # effective samples below which intervals of ratios hold less than they say


def told_apart(
    runs: Sequence[Run], wanted: Wanted = None
) -> tuple[tuple[Told, ...], tuple[str, ...]]:
    """What can be told of the sets by every file, task, metric and size.

    Args:
        runs: Runs of two sets at least.
        wanted: The difference that one wants to find, or metric → difference; the SD of the sets'
            means where none is given.

    Returns:
        One `Told` a measure, by file, task, metric and size; and notes on the runs.

    Raises:
        DataError: There is one set, a run is given twice, a value is no number, directions
            disagree, or the runs have no file or too few samples in common.
        ConfigError: `wanted` is not above 0.

    **Cost:** O(runs · n) a measure.
    """
    kept, notes = without_twins(checked(runs))
    found = tables(kept)
    known = {table.what.metric for table in found}
    for metric, value in wanted.items() if isinstance(wanted, Mapping) else [("", wanted)]:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"wanted: {value} is no difference; expected a number above 0")
        if metric and metric not in known:
            raise ConfigError(
                f"wanted: there is no metric {metric!r}; expected one of {', '.join(sorted(known))}"
            )
    return tuple(_told(table, wanted, found) for table in found), notes


@dataclass(frozen=True, slots=True)
class Family:
    """Differences that Holm's test holds to their levels together.

    Attributes:
        differences: A pair each.
        estimates: What each is an estimate of; None where the spread of runs is not known.
        detectable: The smallest difference that is found with 80 % power at 5 % among them; None
            where nothing is known.
    """

    differences: tuple[Difference, ...]
    estimates: tuple[Estimate | None, ...]
    detectable: float | None


def tested(pairs: Sequence[tuple[Arm, Arm]], spread: Mapping[str, Spread], rest: float) -> Family:
    """The differences of some pairs of sets, by Holm's test over all of them.

    Args:
        pairs: The pairs; of each the mean of the first less that of the second.
        spread: Label of a set → how far its runs come apart, of `spread.spreads`.
        rest: As in `intervals.mean_estimate`.

    **Source:** Holm 1979; the power of the first step, for the pooled standard error.
    **Cost:** O(pairs · n).
    """
    estimates = tuple(difference_estimate(a, b, spread, rest) for a, b in pairs)
    known = [e for e in estimates if e is not None]
    least = None
    if known:
        error = math.sqrt(float(np.mean([e.error**2 for e in known])))
        least = power_constant(len(pairs), median(e.df for e in known)) * error
    return Family(_differences(pairs, estimates), estimates, least)


def _told(table: Table, wanted: Wanted, found: Sequence[Table]) -> Told:
    arms = sorted(table.arms, key=lambda a: -a.mean if table.higher_is_better else a.mean)
    spread, notes = spreads(arms)
    rest = rest_variance(arms)
    between, within = set_sd(arms), run_sd(arms)
    snr = between / within if within else None
    pairs = list(combinations(arms, 2))
    family = tested(pairs, spread, rest)
    asked = wanted.get(table.what.metric) if isinstance(wanted, Mapping) else wanted
    asked = asked or between or None
    least, needed = None, None
    if snr is not None:
        least = family.detectable
        needed = _needed(asked, pairs, spread, rest) if asked else None
        if needed is not None and asked and least is not None and asked < least:
            # what these runs cannot show takes more of them, whatever their spreads' freedom
            needed = max(needed, 1 + min(len(arm.values) for arm in arms))
    size = table.size or 0
    larger = {
        str(other.size): share
        for other in found
        if other.what == table.what and (other.size or 0) > size
        if (share := ranked_alike(_means(arms), _means(other.arms))) is not None
    }
    return Told(
        file=table.what.file,
        task=table.what.task,
        metric=table.what.metric,
        higher_is_better=table.higher_is_better,
        size=table.size,
        unit="runs and samples" if table.n_samples else "runs",
        n_samples=table.n_samples,
        snr=snr,
        set_sd=between,
        run_sd=within,
        detectable=least,
        wanted=asked,
        seeds_needed=needed,
        decision_accuracy=between_seeds(arms),
        decides_larger=larger,
        ties=tuple((d.a, d.b) for d in family.differences if d.tie),
        ranking=tuple(a.set for a in arms) if snr is not None and snr >= LEAST_SNR else None,
        sets=tuple(_set_mean(arm, mean_estimate(arm, spread, rest)) for arm in arms),
        differences=family.differences,
        notes=(*table.notes, *notes, *cautions(table, arms)),
    )


def _means(arms: Sequence[Arm]) -> dict[str, float]:
    return {arm.set: arm.mean for arm in arms}


def _set_mean(arm: Arm, estimate: Estimate | None) -> SetMean:
    low, high = estimate.interval() if estimate else (None, None)
    return SetMean(
        set=arm.set,
        mean=arm.mean,
        low=low,
        high=high,
        runs=len(arm.values),
        draws=len(arm.units) if arm.draws else None,
        sd=float(arm.values.std(ddof=1)) if len(arm.values) > 1 else None,
    )


def _differences(
    pairs: Sequence[tuple[Arm, Arm]], estimates: Sequence[Estimate | None]
) -> tuple[Difference, ...]:
    p_values = [e.p_value if e else 1.0 for e in estimates]
    levels, passed = holm_levels(p_values)
    found = []
    for (a, b), e, level, apart in zip(pairs, estimates, levels, passed, strict=True):
        low, high = e.interval() if e else (None, None)
        holm_low, holm_high = e.interval(level) if e else (None, None)
        found.append(
            Difference(
                a=a.set,
                b=b.set,
                difference=a.mean - b.mean,
                low=low,
                high=high,
                holm_low=holm_low,
                holm_high=holm_high,
                p=e.p_value if e else None,
                tie=not apart,
            )
        )
    return tuple(found)


def _needed(
    wanted: float,
    pairs: Sequence[tuple[Arm, Arm]],
    spread: Mapping[str, Spread],
    rest: float,
) -> int | None:
    """Seeds for a difference between two sets as these are on average."""
    units = np.mean([spread[arm.set].variance for pair in pairs for arm in pair])
    sampled = [sample_spread([(a, 1.0), (b, -1.0)], rest) for a, b in pairs]
    some = [s for s in sampled if s is not None]
    mean = None
    if some:
        variance = sum(s.variance for s in some) / len(pairs)
        mean = Spread(variance, median(s.df for s in some))
    sets = len({arm.set for pair in pairs for arm in pair})
    return seeds_needed(
        wanted, math.sqrt(float(units)), sets=sets, comparisons=len(pairs), sampled=mean
    )


def cautions(table: Table, arms: Sequence[Arm]) -> tuple[str, ...]:
    """Where intervals of these sets hold less than they say, in sentences."""
    notes = []
    if not table.n_samples:
        notes.append(
            "Samples are not known: intervals are of other trainings on these very samples."
        )
    elif table.effective < _FEW:
        notes.append(
            f"The {table.n_samples:,} samples weigh as much as {table.effective:.0f} of equal size "
            "would: intervals of so few hold the mean in about 92 % of cases, not 95 %."
        )
    several = [len(arm.units) for arm in arms if len(arm.units) > 1]
    if several and max(several) >= 2 * min(several):
        notes.append(
            f"Sets have from {min(several)} to {max(several)} runs, all taken to vary alike: if "
            "those of few runs vary more, their intervals hold less than 95 %. Equal numbers "
            "are safe."
        )
    single = [arm.set for arm in arms if len(arm.units) == 1]
    if single and len(single) < len(arms):
        notes.append(
            f"One run only, taken to vary as the others do: {', '.join(map(repr, single))}."
        )
    return tuple(notes)
