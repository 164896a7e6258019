"""Plan: every way to spend a budget on a pool and a model, and the one to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from didact._version import __version__
from didact.accounting.catalog import Described
from didact.accounting.devices import Rate
from didact.core.errors import BudgetError, ConfigError
from didact.core.pool import PoolStats
from didact.planning.choice import BreakEven, break_even, frontier, recommend
from didact.planning.comparison import RANDOM
from didact.planning.compute_budget import ComputeBudget
from didact.planning.costs import METHODS, Scoring, Training, scoring_costs, training_cost
from didact.planning.pilot import Pilot
from didact.planning.prior import Prior
from didact.planning.rows import (
    EXTRAPOLATED,
    LEVEL,
    MOST_PASSES,
    UTILITY_LEVEL,
    Row,
    Terms,
    all_rows,
    least_fraction,
)
from didact.planning.verdict import Verdict, judged

PLAN_VERSION: Final = 1
_MOST_CUT: Final = 0.05  # of the tokens, unsaid
_TARGET_SAMPLES: Final = 100  # of a target set that was not described


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        pool: Sizes of the pool: the samples that may be trained on.
        model: The model to train.
        budget: What there is to spend, on choosing and training together.
        rate: What the device does that hours are of.
        judges: Models that might score.
        encoder: The sentence encoder of `embedding`.
        target: Sizes of the target set; about a hundred samples like the pool's when None.
        tasks: Tasks that share the scoring.
        batch_size: Samples per optimizer step.
        max_length: Most tokens of a sample; the model's context when None.
        lora_rank: Rank of adapters; None for all weights.
        methods: Which to look at.
        pool_fingerprint: Identity of the pool; None where only its sizes are known.
        pool_name: What messages call it.
        tokens_by: How its tokens were estimated; None where they were counted or given.
    """

    pool: PoolStats
    model: Described
    budget: ComputeBudget
    rate: Rate
    judges: tuple[Described, ...]
    encoder: Described
    target: PoolStats | None = None
    tasks: int = 1
    batch_size: int = 32
    max_length: int | None = None
    lora_rank: int | None = None
    methods: tuple[str, ...] = METHODS
    pool_fingerprint: str | None = None
    pool_name: str = "the pool"
    tokens_by: str | None = None

    def __post_init__(self) -> None:
        if self.pool.n < 1 or self.pool.n_tokens < 1:
            raise ConfigError(f"{self.pool_name}: no samples or no tokens; nothing to plan for")
        for name in ("tasks", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}; expected 1 or more")

    def to_json(self) -> dict[str, Any]:
        """JSON values: what a reader of the plan should know, not all of it."""
        return {
            "pool": {
                "name": self.pool_name, "samples": self.pool.n, "tokens": self.pool.n_tokens,
                "kind": self.pool.kind, "fingerprint": self.pool_fingerprint,
            },
            "model": _model(self.model),
            "judges": [_model(judge) for judge in self.judges],
            "encoder": _model(self.encoder),
            "budget": self.budget.to_json(),
            "rate": asdict(self.rate),
            "tasks": self.tasks,
            "batch_size": self.batch_size,
            "max_length": self.max_length,
            "lora_rank": self.lora_rank,
        }  # fmt: skip


def _model(model: Described) -> dict[str, Any]:
    return {
        "given": model.given, "params": model.spec.n_total, "low": model.low, "high": model.high,
        "source": model.source,
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer.

    Attributes:
        question: What was asked, as JSON values.
        rows: Every way to spend the budget; see `Row`.
        frontier: Indices of the rows that no other beats at fewer FLOPs, cheapest first.
        recommended: Index of the row to take; None where nothing can be recommended.
        runner_up: Index of the best row of another method; None where there is none.
        p_beats_random: Chance that the recommended row beats random samples for the whole budget,
            or, where random is recommended, that the runner-up does.
        break_even: Where scoring with a language model begins to pay, in JSON `break_even_ratio`,
            `break_even_tasks`, and the rows `break_even_of` and `break_even_against`; None where
            no such method learns faster than what costs no FLOPs.
        pilot: What would settle it; None where nothing is open or finding out costs too much.
        verdict: `{code: select|random|all|unknown, text}`.
        training: One pass over the whole pool.
        scoring: What every method costs, for one task, as counted and as published.
        prior: Where predictions come from.
        notes: What should be known, in sentences.
        version: didact's.
    """

    question: Mapping[str, Any]
    rows: tuple[Row, ...]
    frontier: tuple[int, ...]
    recommended: int | None
    runner_up: int | None
    p_beats_random: float | None
    break_even: BreakEven | None
    pilot: Pilot | None
    verdict: Verdict
    training: Training
    scoring: tuple[Scoring, ...]
    prior: Prior
    notes: tuple[str, ...] = field(default=())
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """JSON values: `plan.json`."""
        return {
            "plan": PLAN_VERSION,
            "version": self.version,
            "question": dict(self.question),
            "rows": [row.to_json() for row in self.rows],
            "frontier": list(self.frontier),
            "recommended": self.recommended,
            "runner_up": self.runner_up,
            "p_beats_random": self.p_beats_random,
            **self._break_even_json(),
            "pilot": None if self.pilot is None else self.pilot.to_json(),
            "verdict": asdict(self.verdict),
            "training": asdict(self.training),
            "scoring": [scoring.to_json() for scoring in self.scoring],
            "prior": self.prior.to_json(),
            "levels": {"value": LEVEL, "utility": UTILITY_LEVEL},
            "notes": list(self.notes),
        }

    def _break_even_json(self) -> dict[str, Any]:
        names = ("ratio", "tasks", "of", "against")
        found = {} if self.break_even is None else asdict(self.break_even)
        return {f"break_even_{name}": found.get(name) for name in names}


def make_plan(question: Question, prior: Prior) -> Plan:
    """What to do with the compute there is.

    A method is worth its value after it has paid for its scoring, at what the budget still trains,
    less that of random samples for the whole budget. The one with the best lower end of that is
    recommended; within noise of it the cheapest, random first.

    Args:
        question: Pool, model, budget.
        prior: How fast methods learn; `prior.NOTHING_KNOWN` where nothing is known.

    Raises:
        BudgetError: The budget does not pay for one optimizer step.

    **Source:** own; cost-aware utility after Yin and Rush (arXiv:2410.16208).
    **Cost:** milliseconds a method; opens no file.
    """
    training = training_cost(
        question.pool, question.model.spec, batch_size=question.batch_size,
        max_length=question.max_length, lora_rank=question.lora_rank,
    )  # fmt: skip
    least = least_fraction(question.pool.n, question.batch_size)
    budget = question.budget
    if budget.flops < least * training.flops:
        raise BudgetError(
            f"budget {budget.given!r} is {budget.flops:.3g} FLOPs; one optimizer step of "
            f"{question.batch_size} samples takes {least * training.flops:.3g}, the whole pool "
            f"{training.flops:.3g}: give more, or a smaller model"
        )
    target = question.target or _typical_target(question.pool)
    scoring, left_out = scoring_costs(
        question.pool, target, question.judges, question.encoder, question.methods
    )
    terms = Terms(
        budget=budget.flops, full_pass=training.flops,
        flops_per_second=question.rate.middle, prior=prior, tasks=question.tasks,
        least=least,
    )  # fmt: skip
    rows = all_rows(terms, scoring)
    recommended, runner_up = recommend(terms, rows)
    first, second = (None if i is None else rows[i] for i in (recommended, runner_up))
    challenger = next((r for r in (first, second) if r is not None and r.method != RANDOM), None)
    params = question.model.spec.n_total
    verdict, settle = judged(terms, rows, first, second, params)
    return Plan(
        question=question.to_json(), rows=tuple(rows), frontier=frontier(rows),
        recommended=recommended, runner_up=runner_up,
        p_beats_random=None if challenger is None else challenger.p_beats_random,
        break_even=break_even(terms, rows, params) if terms.beta < 1 else None,
        pilot=settle, verdict=verdict,
        training=training, scoring=tuple(scoring), prior=prior,
        notes=(*_notes(question, terms, training, scoring, rows, first), *left_out),
    )  # fmt: skip


def _typical_target(pool: PoolStats) -> PoolStats:
    """A target set of about a hundred samples like the pool's."""
    share = min(1.0, _TARGET_SAMPLES / pool.n)
    counts = np.rint(np.array(pool.token_lengths) * share).astype(int)
    return replace(
        pool, n=max(1, round(pool.n * share)), n_bytes=round(pool.n_bytes * share),
        n_tokens=max(1, round(pool.n_tokens * share)), token_lengths=tuple(counts.tolist()),
    )  # fmt: skip


def _notes(
    question: Question,
    terms: Terms,
    training: Training,
    scoring: Sequence[Scoring],
    rows: Sequence[Row],
    first: Row | None,
) -> Iterator[str]:
    model = question.model
    if model.low != 1 or model.high != 1:
        yield (
            f"{model.given} is a size: {model.spec.n_total * model.low:.3g} to "
            f"{model.spec.n_total * model.high:.3g} parameters; FLOPs of training are of "
            f"{model.spec.n_total:.3g}"
        )
    if question.target is None:
        yield f"no target set was given: costs are for {_TARGET_SAMPLES} samples like the pool's"
    if question.tokens_by is not None:
        yield (
            f"the pool's tokens are an estimate ({question.tokens_by}), and so is every cost; "
            "count them with the model's tokenizer: --data tokenizer=tokenizer.json"
        )
    if training.tokens < (1 - _MOST_CUT) * question.pool.n_tokens:
        longest = question.max_length or model.spec.context
        part = training.tokens / question.pool.n_tokens
        yield f"samples are cut at {longest:,} tokens: {part:.1%} of the pool's are trained on"
    if question.tasks > 1:
        yield (
            f"the budget is of each of the {question.tasks:,} tasks, which pays its own training "
            "and its share of the scoring"
        )
    yield (
        f"training is counted without padding; batches of {question.batch_size} add about "
        f"{training.padding:.1%}"
    )
    yield from _at_the_ends(question, terms, scoring, first)
    rate = question.rate
    spread = f"{rate.low:.3g} to {rate.high:.3g}" if rate.low < rate.high else f"{rate.middle:.3g}"
    yield f"hours are of one {rate.device} at {spread} FLOP/s ({rate.source})"
    if any(EXTRAPOLATED in row.marks for row in rows):
        smallest = min(low for low, _ in terms.prior.selector_params.values())
        yield (
            f"scoring models below {smallest / 2:.3g} parameters were not measured: their values "
            f"are those of a model of {smallest:.3g}, and they are not recommended"
        )
    if question.pool.kind == "pair":
        yield (
            "training on pairs is counted as one model reading both answers; the reference model "
            "of DPO adds a third"
        )
    if terms.beta > MOST_PASSES:
        yield (
            f"the budget is {terms.beta:.1f} passes over the pool; beyond {MOST_PASSES:.0f} "
            "repeats add little (arXiv:2305.16264)"
        )
    yield from terms.prior.notes


def _at_the_ends(
    question: Question, terms: Terms, scoring: Sequence[Scoring], first: Row | None
) -> Iterator[str]:
    """What would be recommended were the device as slow, or as fast, as it may be."""
    budget = question.budget
    for flops, end in ((budget.low, "low"), (budget.high, "high")):
        if first is None or flops == budget.flops:
            continue
        there = replace(terms, budget=flops)
        rows = all_rows(there, scoring)
        found, _ = recommend(there, rows)
        if found is not None and _way(rows[found]) != _way(first):
            yield (
                f"at the {end} end of the device's rate the budget is {flops:.2g} FLOPs, and "
                f"{_way(rows[found])} would be recommended"
            )


def _way(row: Row) -> str:
    return "all of it" if row.fraction >= 1 else row.name
