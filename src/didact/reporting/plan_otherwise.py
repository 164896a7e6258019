"""What a plan would say of another budget, another size of model, another number of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from didact.core.cost import Cost
from didact.planning.choice import recommend
from didact.planning.comparison import RANDOM
from didact.planning.costs import Scoring
from didact.planning.pilot import TRIED
from didact.planning.prior import NONE, Prior
from didact.planning.rows import Row, Terms, all_rows, least_fraction
from didact.planning.verdict import Code, judged

PASSES: Final = (0.03, 0.1, 0.3, 1.0)  # budgets, as shares of a full pass
BUDGETS: Final = (0.5, 2.0)  # as multiples of the one asked
SIZES: Final = (0.1, 0.25, 4.0, 10.0)
TASKS: Final = (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan would say.

    Attributes:
        code: The verdict; None where the budget does not pay for one step.
        row: The row to take; None where nothing can be recommended.
        runner_up: The best row of another method.
    """

    code: Code | None
    row: Row | None = None
    runner_up: Row | None = None


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A line of the table of what would change the answer.

    Attributes:
        what: What is different.
        budget: FLOPs.
        params: Parameters of the trained model.
        tasks: Tasks that share the scoring.
        outcome: What the plan would say then.
    """

    what: str
    budget: float
    params: float
    tasks: int
    outcome: Outcome


def outcome(
    values: Mapping[str, Any], *, budget: float = 1.0, size: float = 1.0, tasks: int | None = None
) -> Outcome:
    """What a plan would say of another question.

    Training is in proportion to the model's parameters, and so is scoring by the trained model
    itself; other scoring models stay as they are.

    Args:
        values: A plan's JSON values.
        budget: FLOPs as a multiple of the plan's.
        size: Parameters of the trained model, likewise.
        tasks: Tasks that share the scoring; the plan's when None.

    **Cost:** some tens of milliseconds.
    """
    question = values["question"]
    terms = Terms(
        budget=question["budget"]["flops"] * budget,
        full_pass=values["training"]["flops"] * size,
        flops_per_second=question["rate"]["middle"],
        prior=_prior(values["prior"]),
        tasks=question["tasks"] if tasks is None else tasks,
        least=least_fraction(question["pool"]["samples"], question["batch_size"]),
    )
    if terms.beta < terms.least:
        return Outcome(None)
    rows = all_rows(terms, _scorings(values, terms.prior, size))
    first, second = (None if i is None else rows[i] for i in recommend(terms, rows))
    verdict, _ = judged(terms, rows, first, second, question["model"]["params"] * size)
    return Outcome(verdict.code, first, second)


def changes(values: Mapping[str, Any]) -> list[Otherwise]:
    """The table: one thing different in each line, the question itself first."""
    question = values["question"]
    budget, params = question["budget"]["flops"], question["model"]["params"]
    tasks = question["tasks"]
    out = [Otherwise("as asked", budget, params, tasks, outcome(values))]
    out.extend(
        Otherwise(f"budget × {b:g}", budget * b, params, tasks, outcome(values, budget=b))
        for b in BUDGETS
    )
    for share in PASSES:
        there = share * values["training"]["flops"]
        what = f"budget {share:.0%} of a full pass"
        out.append(Otherwise(what, there, params, tasks, outcome(values, budget=there / budget)))
    out.extend(
        Otherwise(f"model × {s:g}", budget, params * s, tasks, outcome(values, size=s))
        for s in SIZES
    )
    out.extend(
        Otherwise(f"{n} task{'s' if n > 1 else ''}", budget, params, n, outcome(values, tasks=n))
        for n in TASKS
        if n != tasks
    )
    return out


def distinct(scorings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each method and scoring model once, with its place."""
    seen = set()
    for i, scoring in enumerate(scorings):
        key = scoring["method"], scoring["selector"]
        if key not in seen:
            seen.add(key)
            yield i, scoring


def grows(values: Mapping[str, Any], scoring: Mapping[str, Any]) -> bool:
    """Whether the scoring model is the one that is trained."""
    return bool(scoring["selector"] == values["question"]["model"]["given"])


def _scorings(values: Mapping[str, Any], prior: Prior, size: float) -> list[Scoring]:
    """Those whose value is known, or that a pilot may try."""
    wanted = (RANDOM, *TRIED) if prior.source == NONE else prior.rates
    out = []
    for _, entry in distinct(values["scoring"]):
        if entry["method"] in wanted:
            cost, params = Cost(**entry["cost"]), entry["selector_params"]
            if grows(values, entry):
                cost, params = replace(cost, flops=cost.flops * size), params * size
            out.append(
                Scoring(entry["method"], entry["selector"], params, cost, {}, entry["shared"])
            )
    return out


def _prior(values: Mapping[str, Any]) -> Prior:
    return Prior(
        source=values["source"],
        panels=tuple(values["panels"]),
        rates=values["rates"],
        middle={m: np.array(d, np.float64) for m, d in values["middle"].items()},
        draws={m: np.array(d, np.float64) for m, d in values["draws"].items()},
        selector_params={m: (low, high) for m, (low, high) in values["selector_params"].items()},
        train_params=(values["train_params"][0], values["train_params"][1]),
        noise=values["noise"],
    )
