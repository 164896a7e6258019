"""The rows of a plan: method × fraction × scoring model, with its bill and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from didact.core.arrays import Float1D
from didact.planning.comparison import RANDOM
from didact.planning.costs import Scoring
from didact.planning.prior import NONE, Prior, Source

SMALL: Final = 15e6  # parameters below which the order of sets is known to change with size
FRACTIONS: Final = (0.025, 0.05, 0.1, 0.25, 0.5)
LEVEL: Final = 0.8  # of the interval of a value on a task like those that were measured
UTILITY_LEVEL: Final = 0.9  # of the interval of a utility, on average over such tasks
MOST_PASSES: Final = 4.0  # repeats beyond are known to add little (Muennighoff et al. 2305.16264)
SMALLER: Final = 0.5  # a scoring model below this part of the smallest measured is another one
EXTRAPOLATED: Final = "scoring model smaller than measured"
SMALL_MARK: Final = "rests on models under 15M parameters"
_SLACK: Final = 1e-9


def named(method: str, selector: str | None) -> str:
    """A method, with the model that scores."""
    return method if selector is None else f"{method} by {selector}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that the budget could be spent on.

    Attributes:
        method: Name of a scorer, of a selector that needs no scores, or `random`.
        selector: The scoring model as it was given; None without one.
        selector_params: Its parameters; None without one.
        fraction: Share of a full pass that is trained on; above 1 with repeats.
        shared_by: Tasks that share the scoring: 1 where it is of one target.
        selection_flops: FLOPs of scoring, shared out over them.
        selection_cpu_seconds: Processor seconds of scoring, beside the FLOPs, shared out.
        training_flops: FLOPs of training.
        device_hours: Of both, on one device, at the middle of its rate.
        feasible: Whether the budget pays for both.
        predicted: Share of the gap that is closed: 0 the base model, 1 the full pass; None where
            nothing is known.
        low: Lower end of its interval (80 %): where a task like those measured may lie.
        high: Upper end.
        utility: Value here less that of random samples for the whole budget; None where it is not
            feasible or nothing is known.
        utility_low: Lower end of its interval (90 %), on average over tasks like those measured.
        utility_high: Upper end.
        p_beats_random: Chance that on such a task the utility is above 0.
        source: Where the values come from.
        marks: What they rest on that was not measured so, in words.
    """

    method: str
    selector: str | None
    selector_params: int | None
    fraction: float
    shared_by: int
    selection_flops: float
    selection_cpu_seconds: float
    training_flops: float
    device_hours: float
    feasible: bool
    predicted: float | None
    low: float | None
    high: float | None
    utility: float | None
    utility_low: float | None
    utility_high: float | None
    p_beats_random: float | None
    source: Source
    marks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What chooses."""
        return named(self.method, self.selector)

    @property
    def total_flops(self) -> float:
        """FLOPs of scoring and training."""
        return self.selection_flops + self.training_flops

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "marks": list(self.marks)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all rows of a plan have in common.

    Attributes:
        budget: K, FLOPs.
        full_pass: C, FLOPs of one pass over the whole pool.
        flops_per_second: Of the device.
        prior: What is known of the methods.
        tasks: Tasks that share the scoring.
        least: Smallest fraction worth a row: one optimizer step.
    """

    budget: float
    full_pass: float
    flops_per_second: float
    prior: Prior
    tasks: int
    least: float

    @property
    def beta(self) -> float:
        """The budget as a share of a full pass."""
        return self.budget / self.full_pass

    def hours(self, flops: float) -> float:
        """Hours of the device."""
        return flops / self.flops_per_second / 3600


def least_fraction(samples: int, batch_size: int) -> float:
    """Share of a full pass that one optimizer step is."""
    return min(1.0, batch_size / samples)


def all_rows(terms: Terms, scorings: Sequence[Scoring]) -> list[Row]:
    """Every row; that of random samples for the whole budget is always among them."""
    return [row for scoring in scorings for row in _of(terms, scoring)]


def _of(terms: Terms, scoring: Scoring) -> Iterator[Row]:
    left = (terms.budget - scoring.cost.flops / scoring.over(terms.tasks)) / terms.full_pass
    if scoring.method == RANDOM:
        fractions = {*FRACTIONS, 1.0, min(left, MOST_PASSES)}
    else:  # the whole pool is the same set by every ranking: only scoring is paid more
        fractions = {*FRACTIONS, left if 0 < left < 1 else FRACTIONS[0]}
    for fraction in sorted(f for f in fractions if f >= terms.least * (1 - _SLACK)):
        yield _row(terms, scoring, fraction)


def _row(terms: Terms, scoring: Scoring, fraction: float) -> Row:
    prior = terms.prior
    shared = scoring.over(terms.tasks)
    selection = scoring.cost.flops / shared
    training = fraction * terms.full_pass
    feasible = selection + training <= terms.budget * (1 + _SLACK)
    told = fraction == 1 or (scoring.method in prior.rates and fraction < 1)
    known = prior.source != NONE and told  # what repeats are worth was not measured
    predicted = low = high = utility = utility_low = utility_high = beats = None
    if known:
        predicted = _point(prior, scoring.method, fraction)
        low, high = interval(reached(prior.draws, scoring.method, fraction), LEVEL)
    if predicted is not None and feasible:
        whole = min(terms.beta, 1.0)
        utility = predicted - _point(prior, RANDOM, whole)
        apart = [
            reached(drawn, scoring.method, fraction) - reached(drawn, RANDOM, whole)
            for drawn in (prior.middle, prior.draws)
        ]
        utility_low, utility_high = interval(apart[0], UTILITY_LEVEL)
        beats = float(np.nanmean((np.sign(apart[1]) + 1) / 2))
    return Row(
        method=scoring.method, selector=scoring.selector, selector_params=scoring.selector_params,
        fraction=fraction, selection_flops=selection,
        selection_cpu_seconds=scoring.cost.cpu_seconds / shared, shared_by=shared,
        training_flops=training,
        device_hours=terms.hours(selection + training),
        feasible=feasible, predicted=predicted, low=low, high=high, utility=utility,
        utility_low=utility_low, utility_high=utility_high, p_beats_random=beats,
        source=prior.source if known else NONE,
        marks=_marks(prior, scoring) if known and fraction < 1 else (),
    )  # fmt: skip


def value(rate: float | Float1D, fraction: float) -> Any:
    """Share of the gap that is closed after a fraction of a full pass; 1 at the whole."""
    if fraction >= 1:
        return np.ones_like(rate) if isinstance(rate, np.ndarray) else 1.0
    return -np.expm1(-np.asarray(rate) * fraction)


def _point(prior: Prior, method: str, fraction: float) -> float:
    return float(value(prior.rates.get(method, 0.0), fraction))


def reached(drawn: Mapping[str, Float1D], method: str, fraction: float) -> Float1D:
    """What a method reaches by every λ that was drawn, `(d,)`."""
    found: Float1D = value(drawn[method if method in drawn else RANDOM], fraction)
    return found


def interval(values: Float1D, level: float) -> tuple[float, float]:
    """The ends between which a share of the values lies; NaN is left out."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _marks(prior: Prior, scoring: Scoring) -> tuple[str, ...]:
    """What a prediction rests on that was measured otherwise."""
    marks = []
    measured = prior.selector_params.get(scoring.method)
    params = scoring.selector_params
    if measured is not None and params is not None and params < SMALLER * measured[0]:
        marks.append(EXTRAPOLATED)
    if prior.train_params[0] < SMALL:
        marks.append(SMALL_MARK)
    return tuple(marks)
