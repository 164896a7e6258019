"""From panels that were measured to one that was not: rankings, and rates with their spread.

What carries over is a method's rate beside that of random, ln λ_m − ln λ_random, and the rates
themselves, on the scale where the base model is 0 and the full pass 1. Panels are the unit: within
one, methods share the model, the task and the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float2D
from didact.planning.comparison import RANDOM
from didact.planning.law import LawFit
from didact.planning.resampling import Draws

_LEAST: Final = 1e-3


def logs(rates: npt.ArrayLike) -> Float2D:
    """Ln λ; of a λ under 0.001, which a full pass cannot tell from 0, that of 0.001."""
    return np.asarray(np.log(np.maximum(rates, _LEAST)))


def log_rates(fits: Sequence[LawFit], methods: Sequence[str]) -> Float2D:
    """Ln λ of fits, `(fits, methods)`."""
    return logs([[fit.rates[method] for method in methods] for fit in fits])


def log_gains(fits: Sequence[LawFit], methods: Sequence[str]) -> Float2D:
    """Ln λ less that of random, `(fits, methods)`: 0.69 is twice as fast from as many samples."""
    return log_rates(fits, methods) - log_rates(fits, (RANDOM,))


def alike(
    fits: Sequence[LawFit],
    methods: Sequence[str],
    *,
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
    measured = log_rates(fits, methods)
    n, mean_logs = len(measured), measured.mean(axis=0)
    rng = np.random.default_rng(seed)
    apart = (measured - mean_logs) / np.sqrt(n - 1)
    wide = np.sqrt((0 if mean else 1) + 1 / n)
    normal = rng.standard_normal((draws, n)) @ apart
    heavy = np.sqrt(rng.chisquare(n - 1, draws) / (n - 1))
    rates = np.exp(mean_logs + wide * normal / heavy[:, None])
    return Draws(tuple(methods), np.ones(len(rates)), np.zeros(rates.shape), rates)
