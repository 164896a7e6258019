"""How often the intervals of `didact evaluate --runs` hold the truth, by simulation.

    python benchmarks/interval_coverage.py [--tables 4000] [-o FILE]

A table of runs is drawn: sets without a difference, runs that vary, held-out samples of lognormal
length that all runs share, what a set does to a sample, and the rest. The value is a ratio of sums
like bits per byte. The truth is known: over all trainings and all samples. Counted are the tables
whose 95 % interval of a set's mean, and of the difference of two sets, holds it; the same
difference by samples alone and by runs alone; and how often Holm's test finds any difference among
all pairs, which is to be 5 % at most. Last, differences as large as what is told to be detectable
are put in, and how often they are found is counted, which is to be 80 %.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from didact.analysis.arms import Arm, influences
from didact.analysis.intervals import (
    Estimate,
    difference_estimate,
    holm_levels,
    mean_estimate,
    rest_variance,
    sample_spread,
)
from didact.analysis.power import detectable
from didact.analysis.runs import Samples
from didact.analysis.spread import spreads

RESULTS = Path(__file__).resolve().parent / "results" / "interval_coverage.json"


@dataclass(frozen=True, kw_only=True)
class Regime:
    """What a table of runs is drawn from; SDs in bits per byte.

    Attributes:
        runs: Number of runs of each set.
        run_sd: What a training adds; of each set where they differ.
        sample_sd: What a sample adds to all runs alike, half as much again with its length.
        own_sd: What a set does to a sample.
        rest_sd: What is left in a sample of one run.
        samples: Number of held-out samples.
        lengths: SD of the logarithm of the samples' bytes; 0 for equal ones.
    """

    runs: tuple[int, ...] = (3, 3)
    run_sd: float | tuple[float, ...] = 0.0037
    sample_sd: float = 0.5
    own_sd: float = 0.01
    rest_sd: float = 0.02
    samples: int = 250
    lengths: float = 1.0


MEASURED = Regime()  # near the noise of 272k-parameter models on 250 rows
NOISES = {
    "as measured": MEASURED,
    "runs vary most": replace(MEASURED, run_sd=0.03),
    "samples vary most": replace(MEASURED, run_sd=0.001, own_sd=0.3),
    "the rest is most": replace(MEASURED, run_sd=0.001, own_sd=0.0, rest_sd=0.5),
}
RUNS = ((2, 2), (3, 3), (5, 5), (2, 3, 5), (3, 3, 3, 3, 3))
OTHERS = {
    "60 samples, lengths as before": replace(MEASURED, samples=60),
    "60 samples of one length": replace(MEASURED, samples=60, lengths=0.0),
    "1,000 samples": replace(MEASURED, samples=1000),
    "one of two sets varies three times as much": replace(MEASURED, run_sd=(0.0037, 0.011)),
    "one of five varies three times as much": replace(
        MEASURED, runs=(3,) * 5, run_sd=(0.0037,) * 4 + (0.011,)
    ),
    "few runs vary three times as much as many": replace(
        MEASURED, runs=(12, 3), run_sd=(0.0037, 0.011)
    ),
    "many runs vary three times as much as few": replace(
        MEASURED, runs=(12, 3), run_sd=(0.011, 0.0037)
    ),
}
MEAN = 2.8


def drawn(regime: Regime, rng: np.random.Generator) -> list[Arm]:
    """The sets of one table."""
    n, spread = regime.samples, regime.lengths
    sizes = rng.lognormal(4, spread, n)
    # in mean 0 when weighted by bytes, so that the truth stays where it is
    longer = (np.log(sizes) - 4 - spread**2) / spread if spread else np.zeros(n)
    common = regime.sample_sd * (rng.normal(size=n) + longer / 2)
    arms = []
    for i, m in enumerate(regime.runs):
        run_sd = regime.run_sd[i] if isinstance(regime.run_sd, tuple) else regime.run_sd
        own = regime.own_sd * rng.normal(size=n)
        values, moved = [], []
        for _ in range(m):
            rest = regime.rest_sd * rng.normal(size=n)
            bits = sizes * (MEAN + run_sd * rng.normal() + common + own + rest)
            samples = Samples(np.arange(n), bits, sizes)
            values.append(samples.value)
            moved.append(influences(samples))
        arm = Arm(
            set=str(i),
            values=np.array(values),
            unit_of=np.arange(m),
            influences=np.stack(moved),
        )
        arms.append(arm)
    return arms


def holds(estimate: Estimate, truth: float) -> bool:
    low, high = estimate.interval()
    return low <= truth <= high


def of_samples_alone(a: Arm, b: Arm) -> Estimate:
    """What pairing by sample gives when a model is taken for the only one."""
    spread = sample_spread([(a, 1.0), (b, -1.0)], 0.0)
    return Estimate(a.mean - b.mean, math.sqrt(spread.variance), spread.df)


def of_runs_alone(a: Arm, b: Arm, rest: float) -> Estimate:
    bare = [replace(arm, influences=None) for arm in (a, b)]
    return difference_estimate(*bare, spreads(bare)[0], rest)


def coverage(regime: Regime, tables: int, seed: int = 0) -> dict[str, float]:
    """Shares over so many tables."""
    rng = np.random.default_rng(seed)
    means: list[bool] = []
    differences: list[bool] = []
    samples_alone: list[bool] = []
    runs_alone: list[bool] = []
    any_found: list[bool] = []
    for arms in (drawn(regime, rng) for _ in range(tables)):
        found, rest = spreads(arms)[0], rest_variance(arms)
        means += [holds(mean_estimate(arm, found, rest), MEAN) for arm in arms]
        pairs = list(combinations(arms, 2))
        estimates = [difference_estimate(a, b, found, rest) for a, b in pairs]
        differences += [holds(e, 0.0) for e in estimates]
        samples_alone += [holds(of_samples_alone(a, b), 0.0) for a, b in pairs]
        runs_alone += [holds(of_runs_alone(a, b, rest), 0.0) for a, b in pairs]
        any_found.append(any(holm_levels([e.p_value for e in estimates])[1]))
    parts = {
        "mean": means,
        "difference": differences,
        "difference by samples alone": samples_alone,
        "difference by runs alone": runs_alone,
        "any difference found": any_found,
    }
    return {name: round(float(np.mean(part)), 4) for name, part in parts.items()}


def power(runs: int, sets: int, tables: int, seed: int = 0) -> float:
    """How often a difference as large as is told to be detectable is found among all pairs.

    One pair of the sets differs by it, the others are far apart, so that Holm's test holds the pair
    to no less than its first level: found means a p-value under 5 % ÷ number of pairs.
    """
    rng = np.random.default_rng(seed)
    comparisons = sets * (sets - 1) // 2
    least = detectable(1.0, runs, comparisons=comparisons, df=sets * (runs - 1))
    hits = 0
    for _ in range(tables):
        values = rng.normal(size=(sets, runs))
        values[0] += least
        arms = [Arm(set=str(i), values=v, unit_of=np.arange(runs)) for i, v in enumerate(values)]
        estimate = difference_estimate(arms[0], arms[1], spreads(arms)[0], 0.0)
        hits += estimate.p_value < 0.05 / comparisons
    return hits / tables


def regimes() -> Iterator[tuple[str, Regime]]:
    for name, regime in NOISES.items():
        for runs in RUNS:
            yield f"{name}, runs {' '.join(map(str, runs))}", replace(regime, runs=runs)
    yield from OTHERS.items()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", type=int, default=4000)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    from main_job import machine  # beside this script; tests load the rest of it

    found = {}
    for name, regime in regimes():
        began = time.perf_counter()
        shares = coverage(regime, options.tables)
        found[name] = {"drawn from": asdict(regime), "coverage": shares}
        print(f"{name}: {shares} ({time.perf_counter() - began:.0f} s)", flush=True)
    powers = {
        f"{sets} sets, {runs} runs": power(runs, sets, options.tables)
        for sets in (2, 5)
        for runs in (2, 3, 5)
    }
    print(powers)
    result = {
        "tables": options.tables,
        "regimes": found,
        "power at what is detectable": powers,
        "machine": machine(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
