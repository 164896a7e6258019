"""Cutting a ranking: who may be chosen, how far a budget reaches, what is said about it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError, PoolMismatchError
from didact.core.protocols import Ranking
from didact.selection.around.budget import cut, eligible, may_repeat
from didact.selection.around.choose import choose
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k
from didact.testing import make_pool


def test_a_budget_above_the_candidates_counts_what_is_in_the_way(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 10, group=[0, 0, 0, *range(3, 10)], held=[9])
    scores = scores_of(range(10), missing=[8])
    with pytest.raises(BudgetError) as caught:
        choose(top_k, pool, scores, Budget(samples=7), ctx)
    assert str(caught.value) == (
        "budget samples=7 is more than the pool has: 10 rows with 100 tokens, of which 6 rows may "
        "be chosen (2 exact duplicates, 1 validation rows and 1 rows without a score may not); "
        "ask for at most 6 samples, or give a ratio"
    )
    assert choose(top_k, pool, scores, Budget(samples=6), ctx).rows.tolist() == [2, 3, 4, 5, 6, 7]


def test_a_ratio_is_clamped_and_says_so(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 10, held=[0, 1, 2])
    chosen = choose(top_k, pool, scores_of(range(10)), Budget(ratio=0.9), ctx)
    assert len(chosen) == 7
    (note,) = chosen.notes
    assert note == (
        "budget ratio=0.9 asks for 9, more than the 7 samples that may be chosen: the pool has 10 "
        "rows with 100 tokens, of which 7 rows may be chosen (0 exact duplicates, 3 validation "
        "rows and 0 rows without a score may not)"
    )


def test_tokens_above_the_pool_are_an_error_and_above_the_candidates_a_note(
    pool_of, scores_of, ctx
):
    pool = pool_of(["web"] * 10, held=[0])
    scores = scores_of(range(10))
    with pytest.raises(BudgetError, match="at most 100 tokens"):
        choose(top_k, pool, scores, Budget(tokens=101), ctx)
    chosen = choose(top_k, pool, scores, Budget(tokens=100), ctx)
    assert len(chosen) == 9
    assert "asks for 100, more than the 90 tokens that may be chosen" in chosen.notes[0]


def test_tokens_never_go_over_and_leave_no_gap(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 4, tokens=[5, 50, 5, 5])
    chosen = choose(top_k, pool, scores_of([4, 3, 2, 1]), Budget(tokens=30), ctx)
    assert chosen.rows.tolist() == [0]  # row 1 does not fit, and rows behind it are not slipped in


def test_a_first_row_over_the_budget_gives_nothing_and_says_so(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 2, tokens=[50, 5])
    chosen = choose(top_k, pool, scores_of([2, 1]), Budget(tokens=30), ctx)
    assert len(chosen) == 0
    assert chosen.notes == ("nothing chosen: the best row alone is over the 30 tokens",)


@pytest.mark.parametrize("budget", [Budget(samples=0), Budget(tokens=0), Budget(ratio=0.0)])
def test_nothing_asked_gives_nothing_even_of_rows_without_tokens(pool_of, scores_of, ctx, budget):
    chosen = choose(
        top_k, pool_of(["web"] * 3, tokens=[0, 0, 0]), scores_of([1, 2, 3]), budget, ctx
    )
    assert chosen.rows.tolist() == []
    assert chosen.notes == (f"nothing was chosen: {budget} lets no sample pass",)


def test_the_best_copy_of_a_duplicate_is_chosen_once(pool_of, scores_of, ctx):
    sources, group, values = ["web", "books", "web"], [7, 7, 8], [1, 5, 3]
    pool = pool_of(sources, group=group)
    assert choose(top_k, pool, scores_of(values), Budget(samples=2), ctx).rows.tolist() == [1, 2]
    every = pool_of(sources, group=group, dedup=False)
    assert choose(top_k, every, scores_of(values), Budget(samples=3), ctx).rows.tolist() == [
        0,
        1,
        2,
    ]


def test_equal_copies_are_the_first_row(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 3, group=[7, 7, 7])
    assert choose(top_k, pool, scores_of([1, 1, 1]), Budget(samples=1), ctx).rows.tolist() == [0]


def test_no_budget_is_for_threshold_only(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 3), scores_of([1, 2, 3])
    with pytest.raises(
        BudgetError, match="top_k needs a budget of samples=N, tokens=N, ratio=R or flops"
    ):
        choose(top_k, pool, scores, None, ctx)
    assert choose(threshold, pool, scores, None, ctx, value=1).rows.tolist() == [1, 2]


def test_a_budget_is_a_ceiling_for_threshold(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 4), scores_of([1, 2, 3, 4])
    assert choose(threshold, pool, scores, Budget(samples=1), ctx, value=2).rows.tolist() == [3]
    chosen = choose(threshold, pool, scores, Budget(samples=3), ctx, value=2)
    assert chosen.rows.tolist() == [2, 3]
    assert "asks for 3, more than the 2 samples that passed" in chosen.notes[0]
    with pytest.raises(BudgetError, match="of which 4 rows may be chosen"):
        choose(threshold, pool, scores, Budget(samples=5), ctx, value=2)


def test_scores_are_needed_and_of_this_pool(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 3)
    with pytest.raises(ConfigError, match="top_k needs scores: add a 'score:' section"):
        choose(top_k, pool, None, Budget(samples=1), ctx)
    with pytest.raises(PoolMismatchError, match="scores belong to pool eeee"):
        choose(top_k, pool, scores_of([1, 2, 3], pool_fingerprint="e" * 32), Budget(samples=1), ctx)


def test_settings_hold_the_method_s_own_and_the_budget(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 3), scores_of([1, 2, 3])
    chosen = choose(threshold, pool, scores, Budget(ratio=0.5), ctx, value=1)
    assert chosen.settings == {
        "value": 1.0,
        "quotas": None,
        "near_duplicates": None,
        "budget": "ratio=0.5",
    }
    assert choose(threshold, pool, scores, None, ctx, value=1).settings["budget"] == "none"


def test_a_ranking_that_needs_no_scores_is_cut(pool_of, ctx):
    pool = pool_of(["web"] * 4, held=[3])
    ranking = Ranking(
        rows=np.array([3, 2, 0, 1]), reasons=("odd", "even"), why=np.array([0, 1, 1, 0])
    )
    chosen = cut(pool, ranking, Budget(samples=2), ctx, method="mine")
    assert chosen.best_first().tolist() == [2, 0]
    assert chosen.reasons == ("even",)  # only what occurs
    assert chosen.why.tolist() == [0, 0]


def test_an_empty_pool_gives_the_empty_selection(pool_of, scores_of, ctx):
    chosen = choose(top_k, pool_of([]), scores_of([]), Budget(samples=0), ctx)
    assert (len(chosen), chosen.reasons) == (0, ())
    assert chosen.notes == ("nothing was chosen: samples=0 lets no sample pass",)


def test_rows_that_may_have_copies_are_found_among_many(tmp_path):
    rows = [{"id": f"{i}", "text": f"text {i % 400 if i % 7 == 0 else i}"} for i in range(700)]
    pool = make_pool(rows, tmp_path, dedup="exact")
    counts = Counter(row["text"] for row in rows)
    copied = np.array([counts[row["text"]] > 1 for row in rows])
    found = may_repeat(pool)
    assert found[copied].all()
    assert found.sum() < copied.sum() + 150
    ranking = np.random.default_rng(0).permutation(len(rows))
    first = {}
    for at, row in enumerate(ranking.tolist()):
        first.setdefault(rows[row]["text"], at)
    assert eligible(pool, ranking).tolist() == sorted(first.values())
