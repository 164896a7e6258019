"""Plans: every part can be recomputed from the rows, and follows the rule that it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from didact.accounting.catalog import described
from didact.accounting.counts import stats_from_counts
from didact.accounting.devices import device, rate
from didact.core.errors import BudgetError, ConfigError
from didact.planning.compared import compared_prior
from didact.planning.comparison import Comparison
from didact.planning.compute_budget import ComputeBudget
from didact.planning.costs import WITHOUT_MODEL
from didact.planning.plan import Plan, Question, make_plan
from didact.planning.prior import NOTHING_KNOWN, Prior
from didact.planning.published import published_prior

METHODS = ("random", "bm25", "embedding", "perplexity", "less", "length")


def question(
    budget: float, model: str = "7B", judges: tuple[str, ...] = ("7B",), **more: Any
) -> Question:
    given = ComputeBudget(f"{budget:g}", budget, budget, budget)
    return Question(
        pool=stats_from_counts(300_000, 350), model=described(model), budget=given,
        rate=rate(device("H100")), judges=tuple(described(j) for j in judges),
        encoder=described("gtr-t5-base", encoder=True), methods=METHODS, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def published() -> Prior:
    return published_prior("chat", 7e10)


@pytest.fixture(scope="module")
def full() -> float:
    """FLOPs of a full pass of a 7B model over the pool."""
    return make_plan(question(1e18), NOTHING_KNOWN).training.flops


@pytest.fixture
def own(comparison: Any) -> Prior:
    return compared_prior(Comparison.from_json(comparison()), 1.5e8, "x.json")


def test_every_part_follows_from_the_rows(published: Prior) -> None:
    plan = make_plan(question(1.5e19, "70B"), published)
    k, c = 1.5e19, plan.training.flops
    whole = next(
        r for r in plan.rows if r.method == "random" and r.fraction == pytest.approx(k / c)
    )
    for row in plan.rows:
        scoring = next(
            s for s in plan.scoring if (s.method, s.selector) == (row.method, row.selector)
        )
        assert row.selection_flops == scoring.cost.flops
        assert row.training_flops == pytest.approx(row.fraction * c)
        assert row.feasible == (row.total_flops <= k * (1 + 1e-9))
        assert row.device_hours == pytest.approx(row.total_flops / 989.4e12 / 0.4 / 3600)
        if row.predicted is None:
            assert row.source == "none"
            assert row.utility is None
            continue
        at = 1.0 if row.fraction >= 1 else -math.expm1(-published.rates[row.method] * row.fraction)
        assert row.predicted == pytest.approx(at)
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.high
        assert (row.utility is None) == (not row.feasible)
        if row.utility is not None:
            assert row.utility == pytest.approx(row.predicted - whole.predicted)
    known = [i for i, r in enumerate(plan.rows) if r.feasible and r.predicted is not None]
    for i in known:
        beaten = any(
            plan.rows[j].total_flops <= plan.rows[i].total_flops
            and plan.rows[j].predicted >= plan.rows[i].predicted
            and (plan.rows[j].total_flops, -plan.rows[j].predicted)
            != (plan.rows[i].total_flops, -plan.rows[i].predicted)
            for j in known
        )
        assert beaten == (i not in plan.frontier)
    assert json.loads(json.dumps(plan.to_json(), allow_nan=False)) == plan.to_json()


def test_each_method_uses_the_budget_up_after_its_scoring(published: Prior) -> None:
    plan = make_plan(question(1.5e19, "70B"), published)
    for scoring in plan.scoring:
        left = 1.5e19 - scoring.cost.flops
        rows = [r for r in plan.rows if r.method == scoring.method and r.feasible]
        if left > 0:
            assert max(r.total_flops for r in rows) == pytest.approx(1.5e19)
        else:
            assert rows == []


def recommended(plan: Plan) -> Any:
    return None if plan.recommended is None else plan.rows[plan.recommended]


def test_a_budget_of_a_full_pass_is_spent_on_all_of_it(published: Prior, full: float) -> None:
    for prior in (published, NOTHING_KNOWN):
        plan = make_plan(question(1.01 * full), prior)
        assert plan.verdict.code == "all"
        assert (recommended(plan).method, recommended(plan).fraction) == ("random", 1.0)
        assert plan.pilot is None
        assert plan.runner_up is None
    many = make_plan(question(20 * full), published)
    assert "filters lose" in many.verdict.text
    assert any("repeats add little" in note for note in many.notes)
    assert max(r.fraction for r in many.rows) == 4
    assert next(r for r in many.rows if r.fraction == 4).predicted is None


def test_nothing_known_is_no_value_and_no_recommendation() -> None:
    plan = make_plan(question(1e18), NOTHING_KNOWN)
    assert plan.verdict.code == "unknown"
    assert plan.recommended is plan.runner_up is plan.p_beats_random is None
    assert plan.frontier == ()
    assert all(row.predicted is None and row.source == "none" for row in plan.rows)
    assert plan.pilot is not None
    assert plan.pilot.grid["arms"][0]["name"] in {"bm25", "embedding"}


def test_scoring_that_eats_the_budget_is_not_recommended(published: Prior) -> None:
    """Equal sizes: gradients cost more than a full pass, perplexity a third of one."""
    plan = make_plan(question(1e18), published)  # a quarter of a full pass
    assert not any(r.feasible for r in plan.rows if r.method in {"less", "perplexity"})
    assert plan.verdict.code == "select"
    assert recommended(plan).method == "bm25"
    assert plan.p_beats_random == recommended(plan).p_beats_random
    assert 0.7 < plan.p_beats_random < 0.8  # it lost on one published task of three


def test_ten_times_the_scoring_model_pays_for_perplexity(published: Prior) -> None:
    plan = make_plan(question(4e19, "70B"), published)
    row = recommended(plan)
    assert plan.verdict.code == "select"
    assert (row.method, row.selector) == ("perplexity", "7B")
    assert row.utility_low > 0
    assert plan.p_beats_random == row.p_beats_random > 0.9
    assert plan.break_even is not None
    assert 0.5 < plan.break_even.ratio < 10
    assert plan.break_even.tasks is None  # perplexity is of one target


def test_the_rule_of_the_best_lower_end_and_of_the_cheaper(own: Prior) -> None:
    """bm25 (λ 5) and embedding (λ 6) cannot be told apart from curves of ±.002 a point."""
    plan = make_plan(question(1e18), own)
    row = recommended(plan)
    assert plan.verdict.code == "select"
    assert row.source == "compare"
    lows = {r.method: r.utility_low for r in plan.rows if r.utility_low and r.utility_low > 0}
    assert {"bm25", "embedding"} <= lows.keys()
    rows = {r.method: r for r in plan.rows if r.feasible and r.method in lows}
    gap = np.expm1(-own.middle["bm25"] * rows["bm25"].fraction) - np.expm1(
        -own.middle["embedding"] * rows["embedding"].fraction
    )
    apart = np.quantile(gap, 0.05) > 0 and lows["embedding"] > lows["bm25"]
    assert row.method == ("embedding" if apart else "bm25")


def test_a_smaller_scoring_model_than_measured_is_marked_and_not_recommended(
    published: Prior,
) -> None:
    plan = make_plan(question(4e18, "70B", judges=("150M",)), published)
    small = [r for r in plan.rows if r.selector == "150M"]
    assert {mark for r in small if r.predicted is not None for mark in r.marks} == {
        "scoring model smaller than measured"
    }
    best = max((r for r in plan.rows if r.utility is not None), key=lambda r: r.utility)
    assert best.selector == "150M"
    assert recommended(plan).selector != "150M"


def test_predictions_from_small_models_are_marked(comparison: Any) -> None:
    tiny = {"arms": [a | {"train_params": 3_000_000} for a in comparison()["arms"]]}
    prior = compared_prior(Comparison.from_json(tiny), 7e9, "x.json")
    plan = make_plan(question(1e18), prior)
    assert all(
        "rests on models under 15M parameters" in r.marks
        for r in plan.rows if r.predicted is not None and r.fraction < 1
    )  # fmt: skip
    assert any("may not hold" in note for note in plan.notes)


def test_tasks_share_the_scoring(published: Prior) -> None:
    alone, shared = (make_plan(question(2e18, tasks=n), published) for n in (1, 20))
    for a, b in zip(alone.scoring, shared.scoring, strict=True):
        assert a == b
    costs = [
        {r.selection_flops for r in p.rows if r.method == "less"} for p in (alone, shared)
    ]  # fmt: skip
    assert len(costs[0]) == len(costs[1]) == 1
    assert costs[0].pop() == pytest.approx(20 * costs[1].pop())


def test_what_takes_all_tasks_as_one_is_not_shared() -> None:
    asked = replace(question(1e18, tasks=20), methods=WITHOUT_MODEL)
    scoring = make_plan(asked, NOTHING_KNOWN).scoring
    assert {s.method for s in scoring if not s.shared} == {"classifier", "ngram_perplexity"}


def test_break_even_is_where_both_train_as_far(published: Prior) -> None:
    plan = make_plan(question(1.5e19, "70B"), published)
    assert plan.break_even is not None
    of, against = plan.rows[plan.break_even.of], plan.rows[plan.break_even.against]
    assert (of.method, against.selection_flops) == ("perplexity", 0)
    scale = plan.break_even.ratio * of.selector_params / described("70B").spec.n_total
    left = 1.5e19 - of.selection_flops / scale  # a judge smaller by as much costs less by as much
    assert published.rates["perplexity"] * left == pytest.approx(
        published.rates[against.method] * 1.5e19
    )
    assert plan.to_json()["break_even_ratio"] == plan.break_even.ratio
    assert make_plan(question(1.5e19, "70B"), NOTHING_KNOWN).to_json()["break_even_of"] is None


def doubtful(prior: Prior) -> Prior:
    """The published panels where they agree less, so that no lower end is above 0."""
    wide = {m: d ** np.where(np.arange(len(d)) % 4, 1.0, -1.0) for m, d in prior.middle.items()}
    return replace(prior, middle=wide | {"random": prior.middle["random"]})


def test_a_pilot_costs_less_than_it_can_gain(published: Prior) -> None:
    cheap = replace(question(4e18, "70B"), methods=("bm25", "embedding"))
    plan = make_plan(cheap, doubtful(published))
    assert recommended(plan).method == "random"
    assert plan.verdict.code == "unknown"
    settle = plan.pilot
    assert settle is not None
    assert settle.flops <= min(settle.gains, 4e18)
    rows = [plan.rows[i] for i in (plan.recommended, plan.runner_up) if i is not None]
    small = plan.training.flops * 150e6 / described("70B").spec.n_total
    paid = [row.selection_flops / small for row in rows]
    budgets = [max(paid) + max(r.fraction for r in rows) / b for b in (2, 1)]
    arms = [0.0, *(p for p, r in zip(paid, rows, strict=True) if r.method != "random")]
    runs = settle.seeds * sum(b - p for b in budgets for p in arms) + 2
    assert settle.flops == pytest.approx((sum(paid) + runs) * small)
    assert settle.grid["budgets"] == pytest.approx(budgets, abs=1e-4)
    assert settle.hours == pytest.approx(settle.flops / (0.4 * 989.4e12) / 3600)


def test_a_pilot_that_does_not_pay_is_said(published: Prior) -> None:
    plan = make_plan(question(2e16, "0.5B", judges=("0.5B",)), doubtful(published))
    assert plan.verdict.code == "random"
    assert plan.pilot is None
    assert "Finding out takes more than 20 seeds an arm" in plan.verdict.text


def test_a_budget_below_one_step_is_refused(published: Prior) -> None:
    with pytest.raises(BudgetError, match="one optimizer step of 32 samples takes"):
        make_plan(question(1e13), published)


def test_bad_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match="tasks=0"):
        question(1e18, tasks=0)
    with pytest.raises(ConfigError, match="did you mean 'perplexity'"):
        make_plan(replace(question(1e18), methods=("perplexty",)), NOTHING_KNOWN)


def test_an_answer_that_hangs_on_the_devices_rate_is_said(full: float, published: Prior) -> None:
    def asked(share: float) -> Question:
        k = share * full
        return replace(question(k), budget=ComputeBudget("h", k, 0.75 * k, 1.25 * k))

    near = make_plan(asked(1.1), published)
    assert near.verdict.code == "all"
    assert any(n.startswith("at the low end") and "bm25 would be" in n for n in near.notes)
    below = make_plan(asked(0.9), published)
    assert any(n.startswith("at the high end") and "all of it would" in n for n in below.notes)
    assert not any("end of the device" in n for n in make_plan(asked(3), published).notes)


def test_nothing_known_of_the_methods_asked_for(published: Prior) -> None:
    plan = make_plan(replace(question(1e18), methods=("length", "zip")), published)
    assert plan.verdict.code == "unknown"
    assert plan.verdict.text.startswith("Nobody can know: no run that was measured tells what ")
    assert recommended(plan).method == "random"  # the safe choice
    alone = make_plan(replace(question(1e18), methods=()), published)
    assert alone.verdict.code == "random"


def test_what_is_cut_and_whose_the_budget_is_are_said(published: Prior) -> None:
    (cut,) = (n for n in make_plan(question(1e18, max_length=64), published).notes if "cut" in n)
    assert cut.startswith("samples are cut at 64 tokens: 17.6%")
    (each,) = (n for n in make_plan(question(1e18, tasks=20), published).notes if "each" in n)
    assert each.startswith("the budget is of each of the 20 tasks")
    assert not any("cut" in n or "each of" in n for n in make_plan(question(1e18), published).notes)


def test_small_and_large_shares_are_said_in_digits(published: Prior, full: float) -> None:
    assert "takes 0.00429% of the budget" in make_plan(question(1e23), published).verdict.text
    assert "takes 50.0% of the budget" in make_plan(question(2 * full), published).verdict.text


def test_a_pilot_nearly_as_large_as_the_training_costs_more_than_it_can_gain(
    published: Prior,
) -> None:
    small = replace(question(7e15, "30M", judges=("30M",)), methods=("bm25", "embedding"))
    plan = make_plan(small, doubtful(published))
    assert plan.verdict.code == "random"
    assert plan.pilot is None
    assert "Finding out costs more than it can gain" in plan.verdict.text
