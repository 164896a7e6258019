"""The cheapest comparison that would settle one row of a plan against another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from didact.analysis.power import seeds_needed
from didact.planning.comparison import RANDOM
from didact.planning.costs import method_sections
from didact.planning.rows import Row, Terms

# One ranking at 150M decides about four pairs of five at 1B (DataDecide, arXiv:2504.11393); those
# at 15M correlate with 1B by about .89 (Olmix, arXiv:2602.12237).
TRAIN_PARAMS: Final = (150e6, 15e6, 500e6, 1.5e9, 5e9, 15e9)
LEAST_SEEDS, MOST_SEEDS = 3, 20  # runs of an arm; nobody makes more
WORTH_FINDING: Final = 0.1  # of the gap, where nothing says how large the difference is
USUAL_NOISE: Final = 0.1  # SD of a run in the gap's unit, likewise
TRIED: Final = ("bm25", "embedding")  # where nothing is known: they are cheap, and see a target
ENDS: Final = 2  # runs of the full pass, which fixes the scale


@dataclass(frozen=True, slots=True)
class Pilot:
    """A comparison that would settle a choice.

    Attributes:
        grid: As a comparison reads it; words in capitals are the user's to replace.
        flops: Of scoring and of all trainings.
        hours: Of one device.
        seeds: Runs of each arm.
        gains: FLOPs that the worse of the two would need on top, over all tasks, to reach the
            better one's value.
    """

    grid: Mapping[str, Any]
    flops: float
    hours: float
    seeds: int
    gains: float

    def pays(self, budget: float) -> bool:
        """Whether it costs no more than it can gain, and less than the budget it is to save."""
        return self.flops <= min(self.gains, budget)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "grid": dict(self.grid), "flops": self.flops, "hours": self.hours, "seeds": self.seeds,
            "gains": self.gains,
        }  # fmt: skip


def pilot(terms: Terms, first: Row, second: Row, train_params: float) -> Pilot | None:
    """The comparison of two rows on a smaller model, each paying for its scoring there too.

    Both are trained on their share of a full pass and on half of it, and random samples with as
    much compute in all; the full pass twice. There are as many seeds as find the difference
    foretold with 80 % power at 5 %. Of the sizes in `TRAIN_PARAMS` it is the first that pays, up to
    the model that will be trained.

    Args:
        terms: The plan's.
        first: One row.
        second: The other.
        train_params: Parameters of the model that will be trained.

    Returns:
        None where the difference is too small to be found with 20 seeds, or where at no size the
        scoring leaves anything to train with.
    """
    known = first.predicted is not None and second.predicted is not None
    wanted = abs((first.predicted or 0.0) - (second.predicted or 0.0)) if known else WORTH_FINDING
    seeds = seeds_needed(wanted, terms.prior.noise or USUAL_NOISE) if wanted > 0 else None
    if seeds is None or seeds > MOST_SEEDS:
        return None
    seeds = max(seeds, LEAST_SEEDS)
    sizes = dict.fromkeys(min(train_params, size) for size in TRAIN_PARAMS)
    tried = (_of_size(terms, (first, second), size / train_params, seeds, size) for size in sizes)
    found = [each for each in tried if each is not None]
    paying = (each for each in found if each.pays(terms.budget * terms.tasks))
    return next(paying, found[-1] if found else None)


def _of_size(
    terms: Terms, rows: tuple[Row, Row], share: float, seeds: int, params: float
) -> Pilot | None:
    """The pilot on a model of a size, a share of that which will be trained."""
    full_pass = terms.full_pass * share
    paid = [row.selection_flops * row.shared_by / full_pass for row in rows]
    dearest = max(paid)
    fraction = max(row.fraction for row in rows)
    budgets = [dearest + fraction / 2, dearest + fraction]
    if budgets[-1] > 1:  # beyond a full pass there is nothing to compare
        return None
    arms = [cost for row, cost in zip(rows, paid, strict=True) if row.method != RANDOM]
    trained = seeds * sum(budget - cost for budget in budgets for cost in (0.0, *arms)) + ENDS
    flops = (sum(paid) + trained) * full_pass
    return Pilot(
        grid=_grid(rows, [round(budget, 4) for budget in budgets], seeds, params),
        flops=flops,
        hours=terms.hours(flops),
        seeds=seeds,
        gains=_gains(terms, rows) * terms.full_pass * terms.tasks,
    )


def _gains(terms: Terms, rows: tuple[Row, Row]) -> float:
    """What the worse row would have to train on top to reach the other, as a share of a pass."""
    first, second = rows
    if first.predicted is None or second.predicted is None:  # the choice may be worth it all
        return 1 - second.fraction
    rates = terms.prior.rates
    better, other = sorted(rows, key=lambda row: -(row.predicted or 0.0))
    reached = min(1.0, rates[better.method] / rates[other.method] * better.fraction)
    return max(reached - other.fraction, 0.0)


def _grid(rows: tuple[Row, Row], budgets: list[float], seeds: int, params: float) -> dict[str, Any]:
    """Both rows as arms; random samples, the base model and the full pass are in every grid."""
    return {
        "data": "POOL",
        "base": f"A MODEL OF {params / 1e6:,.3g}M PARAMETERS",
        "target": "TARGET",
        "choose_on": ["VALIDATION"],
        "tell_on": ["TEST"],
        "budgets": budgets,
        "seeds": list(range(seeds)),
        "arms": [
            {"name": row.method, **method_sections(row.method, row.selector)}
            for row in rows
            if row.method != RANDOM
        ],
    }
