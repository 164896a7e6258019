"""From panels that were measured to one that was not: rankings, and rates with their spread.

What carries over is a method's rate beside that of random, ln λ_m − ln λ_random, and the rates
themselves, on the scale where the base model is 0 and the full pass 1. Panels are the unit: within
one, methods share the model, the task and the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Final

import numpy as np

from didact.core.arrays import Float1D, Float2D
from didact.core.statistics import spearman
from didact.planning.law import Draws, LawFit, bootstrap, fit_shared
from didact.planning.panels import METHODS, PANELS, Panel, curves

BESIDE: Final = "random"


@cache
def published_fits() -> tuple[LawFit, ...]:
    """The shared form fitted to every panel, over training compute."""
    return tuple(fit_shared(curves(of), end=of.full) for of in PANELS)


@cache
def published_draws(draws: int = 1000) -> tuple[Draws, ...]:
    """Refits of every published panel.

    **Cost:** about a second for a thousand of each.
    """
    return tuple(
        bootstrap(curves(of), end=of.full, draws=draws, seed=seed) for seed, of in enumerate(PANELS)
    )


def log_rates(fits: Sequence[LawFit], methods: Sequence[str] = METHODS) -> Float2D:
    """Ln λ of fits, `(fits, methods)`; of rates under 0.001, which a full pass cannot tell from 0,
    that of 0.001.
    """
    rates = [[fit.rates[method] for method in methods] for fit in fits]
    return np.asarray(np.log(np.maximum(rates, 1e-3)))


def log_gains(fits: Sequence[LawFit], methods: Sequence[str] = METHODS) -> Float2D:
    """Ln λ less that of random, `(fits, methods)`: 0.69 is twice as fast from as many samples."""
    return log_rates(fits, methods) - log_rates(fits, (BESIDE,))


@dataclass(frozen=True, slots=True)
class Foretold:
    """A panel's ranking of methods, told from other panels, beside what was measured there.

    Attributes:
        panel: Its name.
        ranking: Methods, best first: by the median over the others of ln λ_m − ln λ_random.
        rank_correlation: Spearman with the panel's own rates, -1 to 1.
        decision_accuracy: Share of pairs of methods whose means over fractions are so ranked.
        regret: Mean over fractions of the best method less that of the first in the ranking, in
            points; scoring is free here.
        regret_random: The same of taking random.
    """

    panel: str
    ranking: tuple[str, ...]
    rank_correlation: float
    decision_accuracy: float
    regret: float
    regret_random: float


def foretold(index: int) -> Foretold:
    """A published panel from the other six.

    Args:
        index: Its place in `PANELS`.

    **Source:** decision accuracy as in Magnusson et al. 2025, "DataDecide" (arXiv:2504.11393).
    """
    fits = published_fits()
    others = [fit for i, fit in enumerate(fits) if i != index]
    told = np.median(log_gains(others), axis=0)
    of = PANELS[index]
    means = of.values.mean(axis=1)
    pairs = list(combinations(range(len(METHODS)), 2))
    hits = [np.sign(told[a] - told[b]) == np.sign(means[a] - means[b]) for a, b in pairs]
    return Foretold(
        panel=of.name,
        ranking=tuple(METHODS[i] for i in np.argsort(-told, kind="stable")),
        rank_correlation=spearman(told, log_rates(fits[index : index + 1])[0]),
        decision_accuracy=float(np.mean(hits)),
        regret=regret(of, METHODS[int(told.argmax())]),
        regret_random=regret(of, BESIDE),
    )


def regret(of: Panel, method: str) -> float:
    """What taking one method for all fractions loses to the best one, in points; free scoring."""
    means = of.values.mean(axis=1)
    return float(means.max() - means[METHODS.index(method)])


def pooled(draws: Sequence[Draws]) -> Draws:
    """A panel like any of those given, with the same weight each; base 0 and end 1."""
    rates = np.concatenate([drawn.rates for drawn in draws])
    return _standard(draws[0].methods, rates)


def alike(
    fits: Sequence[LawFit],
    *,
    methods: Sequence[str] = METHODS,
    mean: bool = False,
    draws: int = 4000,
    seed: int = 0,
) -> Draws:
    """A further panel whose ln λ are normal as those of the panels given are; base 0 and end 1.

    Every single rate, and every ratio of two, is Student's t with as many degrees of freedom as
    panels less one. What a panel's own fit leaves open is in the spread between panels.

    Args:
        fits: One of each panel, two at least.
        methods: Whose rates.
        mean: The mean over all such panels, and not one more of them.
        draws: Number of draws.
        seed: Of the random numbers.

    **Source:** the predictive distribution of a normal sample.
    """
    logs = log_rates(fits, methods)
    n = len(logs)
    rng = np.random.default_rng(seed)
    apart = (logs - logs.mean(axis=0)) / np.sqrt(n - 1)
    wide = np.sqrt((0 if mean else 1) + 1 / n)
    normal = rng.standard_normal((draws, n)) @ apart
    heavy = np.sqrt(rng.chisquare(n - 1, draws) / (n - 1))
    return _standard(methods, np.exp(logs.mean(axis=0) + wide * normal / heavy[:, None]))


def utility(draws: Draws, method: str, budgets: Float1D, selection: float = 0.0) -> Float2D:
    """P of a method less that of random at equal total budgets, `(draws, k)`.

    Args:
        draws: With base 0 and end 1 a share of what a full pass gains.
        method: Whose.
        budgets: Total compute, share of a full pass, `(k,)`.
        selection: What the method's selection costs, likewise. Below it nothing is trained: P0.
    """
    left = np.maximum(budgets - selection, 0.0)
    return draws.predict(method, left) - draws.predict(BESIDE, budgets)


def _standard(methods: Sequence[str], rates: Float2D) -> Draws:
    return Draws(tuple(methods), np.ones(len(rates)), np.zeros(rates.shape), rates)
