"""Which row of a plan to take, which comes next, and where scoring begins to pay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from didact.planning.comparison import RANDOM
from didact.planning.frontier import non_dominated
from didact.planning.rows import EXTRAPOLATED, Row, Terms, drawn, interval


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
        alike = (i for i in measured if _low(rows[i]) > 0 and _alike(terms, rows[best], rows[i]))
        best = min(alike, key=lambda i: (_bill(rows[i]), -_low(rows[i])))
    others = {rows[best].method}
    measured_only = [row if i in set(measured) else None for i, row in enumerate(rows)]
    second = _best(measured_only, others)
    return best, second if second is not None else _best(rows, others)


def _low(row: Row) -> float:
    assert row.utility_low is not None  # noqa: S101 - of rows that are known
    return row.utility_low


def _bill(row: Row) -> tuple[float, float]:
    """What is paid for the choice: FLOPs, then processor seconds."""
    return row.selection_flops, row.selection_cpu_seconds


def _alike(terms: Terms, best: Row, other: Row) -> bool:
    """Whether two rows cannot be told apart, panel by panel."""
    apart = drawn(terms.prior, best.method, best.fraction) - drawn(
        terms.prior, other.method, other.fraction
    )
    return best is other or interval(apart)[0] <= 0


def _best(rows: Sequence[Row | None], without: set[str]) -> int | None:
    """The feasible row of highest utility of a method that is not one of some."""
    found = [
        (row.utility, -_bill(row)[0], -i)
        for i, row in enumerate(rows)
        if row is not None and row.utility is not None and row.method not in without
    ]
    return -max(found)[2] if found else None


def frontier(rows: Sequence[Row]) -> tuple[int, ...]:
    """Indices of the feasible rows that no other beats for fewer FLOPs, cheapest first."""
    known = [i for i, row in enumerate(rows) if row.feasible and row.predicted is not None]
    flops = np.array([rows[i].total_flops for i in known])
    values = np.array([rows[i].predicted for i in known], np.float64)
    return tuple(known[i] for i in non_dominated(flops, values)) if known else ()


def break_even(terms: Terms, row: Row, train_params: float) -> tuple[float | None, int | None]:
    """From which size ratio, and from how many tasks, a row's method is worth its scoring.

    Of K what is left after scoring must train as far as random samples train for all of K:
    λ_m (K − S) = λ_r K, with one base and one end.

    Args:
        terms: The plan's.
        row: A row with a scoring cost.
        train_params: Parameters of the model that will be trained.

    Returns:
        Parameters of the trained model over those of the scoring model, all else equal, and the
        number of tasks that share the scoring; None where the method learns no faster or where
        scoring takes no FLOPs.
    """
    rates = terms.prior.rates
    whole = row.selection_flops * terms.tasks
    if not whole or row.method not in rates or rates[row.method] <= rates[RANDOM]:
        return None, None
    most = min(terms.budget, terms.full_pass) * (1 - rates[RANDOM] / rates[row.method])
    ratio = None
    if row.selector_params:
        ratio = train_params / row.selector_params * row.selection_flops / most
    return ratio, math.ceil(whole / most)
