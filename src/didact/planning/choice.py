"""Which row of a plan to take, which comes next, and where scoring begins to pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from didact.planning.break_even import Side, tasks
from didact.planning.comparison import RANDOM
from didact.planning.costs import BY_LANGUAGE_MODEL, OF_ONE_TARGET
from didact.planning.frontier import non_dominated
from didact.planning.rows import EXTRAPOLATED, UTILITY_LEVEL, Row, Terms, interval, reached


def recommend(terms: Terms, rows: Sequence[Row]) -> tuple[int | None, int | None]:
    """Indices of the row to take and of the runner-up.

    Taken is the row with the best lower end of its utility; of those that cannot be told from it
    the one that costs least, random samples before all. A scoring model smaller than any that was
    measured is never recommended. With a budget of a full pass or more it is the full pass.

    Args:
        terms: What the rows have in common.
        rows: All of them.

    Returns:
        None for the row to take where nothing is known below a full pass. The runner-up is the
        feasible row of another method with the highest utility; None where there is none.
    """
    if terms.beta >= 1:
        whole = (i for i, r in enumerate(rows) if r.method == RANDOM and r.fraction == 1)
        return next(whole), None
    known = [i for i, row in enumerate(rows) if row.utility_low is not None]
    measured = [i for i in known if EXTRAPOLATED not in rows[i].marks]
    if not measured:
        return None, None
    best = max(measured, key=lambda i: (_low(rows[i]), -_bill(rows[i])[0]))
    if _low(rows[best]) <= 0:
        best = max(
            (i for i in measured if rows[i].method == RANDOM), key=lambda i: rows[i].fraction
        )
    else:
        tied = (i for i in measured if _low(rows[i]) > 0 and _tied(terms, rows[best], rows[i]))
        best = min(tied, key=lambda i: (_bill(rows[i]), -_low(rows[i])))
    second = _best_of_another(rows, measured, rows[best].method)
    if second is None:
        second = _best_of_another(rows, known, rows[best].method)
    return best, second


def _low(row: Row) -> float:
    assert row.utility_low is not None  # noqa: S101 - of rows that are known
    return row.utility_low


def _bill(row: Row) -> tuple[float, float]:
    """What is paid for the choice: FLOPs, then processor seconds."""
    return row.selection_flops, row.selection_cpu_seconds


def _tied(terms: Terms, best: Row, other: Row) -> bool:
    """Whether two rows cannot be told apart, on average over tasks like those measured."""
    drawn = terms.prior.middle
    apart = reached(drawn, best.method, best.fraction) - reached(
        drawn, other.method, other.fraction
    )
    return best is other or interval(apart, UTILITY_LEVEL)[0] <= 0


def _best_of_another(rows: Sequence[Row], known: Sequence[int], method: str) -> int | None:
    """Of the rows that are known, the one of highest utility whose method is another."""
    return max(
        (i for i in known if rows[i].method != method),
        key=lambda i: (rows[i].utility or 0.0, -rows[i].selection_flops, -i),
        default=None,
    )


def frontier(rows: Sequence[Row]) -> tuple[int, ...]:
    """Indices of the feasible rows that no other beats for fewer FLOPs, cheapest first."""
    known = [i for i, row in enumerate(rows) if row.feasible and row.predicted is not None]
    flops = np.array([rows[i].total_flops for i in known])
    values = np.array([rows[i].predicted for i in known], np.float64)
    return tuple(known[i] for i in non_dominated(flops, values)) if known else ()


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where scoring with a language model begins to pay.

    Attributes:
        of: Index of a row of that method and scoring model: of all the one nearest to paying.
        against: Index of the best row without any scoring FLOPs.
        ratio: Parameters of the trained model over those of the scoring model, all else equal.
        tasks: Tasks that share the scoring; None where it is of one target and cannot be shared.
    """

    of: int
    against: int
    ratio: float
    tasks: int | None


def break_even(terms: Terms, rows: Sequence[Row], train_params: float) -> BreakEven | None:
    """From which size ratio, and from how many tasks, scoring with a language model pays.

    Args:
        terms: What the rows have in common.
        rows: All of them.
        train_params: Parameters of the model that will be trained.

    Returns:
        None where no such method learns faster than what costs no FLOPs.

    **Source:** `didact.planning.break_even.tasks`, with one base and one end for all methods.
    """
    rates = terms.prior.rates
    free = [i for i, r in enumerate(rows) if r.utility is not None and not r.selection_flops]
    paying = {
        (r.method, r.selector): i
        for i, r in reversed(list(enumerate(rows)))
        if r.method in BY_LANGUAGE_MODEL and r.method in rates and EXTRAPOLATED not in r.marks
    }
    if not free or not paying:
        return None
    against = max(free, key=lambda i: (rows[i].utility or 0.0, -i))
    rival, budget = Side(rates[rows[against].method]), min(terms.beta, 1.0)

    def sharing(i: int) -> float:
        """How many times over the cost of a row's scoring has to be shared."""
        paid = rows[i].selection_flops / terms.full_pass
        return float(tasks(Side(rates[rows[i].method], paid), rival, budget))

    share, of = min((sharing(i), i) for i in paying.values())
    if not math.isfinite(share):
        return None
    ratio = share * train_params / (rows[of].selector_params or train_params)
    shared = rows[of].method not in OF_ONE_TARGET
    return BreakEven(of, against, ratio, math.ceil(share * terms.tasks) if shared else None)
