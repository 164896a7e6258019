"""Tasks take turns."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.selection.around.choose import choose
from didact.selection.around.quotas import Quotas
from didact.selection.round_robin import Turns, round_robin

# maths prefers 0, 1, 2, …; law prefers 0, 3, 4, …
BY_TASK = np.array([[9, 9], [8, 0], [7, 0], [0, 8], [1, 7]], float)


def scores_by_task(scores_of, by_task=BY_TASK, **more):
    return scores_of(by_task.mean(axis=1), by_task=by_task, tasks=("maths", "law"), **more)


def test_each_task_takes_its_best_free_row(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 5)
    chosen = choose(round_robin, pool, scores_by_task(scores_of), Budget(samples=5), ctx)
    assert chosen.best_first().tolist() == [0, 3, 1, 4, 2]
    assert [chosen.reasons[w] for w in chosen.why] == [
        "task: maths", "task: maths", "task: maths", "task: law", "task: law",
    ]  # fmt: skip


def test_lower_can_be_better(pool_of, scores_of, ctx):
    scores = scores_by_task(scores_of, -BY_TASK, higher_is_better=False)
    chosen = choose(round_robin, pool_of(["web"] * 5), scores, Budget(samples=3), ctx)
    assert chosen.best_first().tolist() == [0, 3, 1]


def test_a_duplicate_costs_no_task_its_turn(pool_of, scores_of, ctx):
    by_task = np.array([[9, 0], [9, 8], [5, 1], [4, 7]], float)
    pool = pool_of(["web"] * 4, group=[0, 0, 2, 3])
    chosen = choose(round_robin, pool, scores_by_task(scores_of, by_task), Budget(samples=3), ctx)
    assert chosen.best_first().tolist() == [0, 3, 2]  # law skips row 1, a copy of maths's row 0


def test_rows_that_may_not_be_chosen_cost_no_turn(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 5, held=[0])
    scores = scores_by_task(scores_of, missing=[3])
    chosen = choose(round_robin, pool, scores, Budget(samples=2), ctx)
    assert chosen.best_first().tolist() == [1, 4]


def test_budgets_in_tokens_and_quotas_see_the_whole_ranking(pool_of, scores_of, ctx):
    pool = pool_of(["web", "web", "books", "web", "books"])
    scores = scores_by_task(scores_of)
    tokens = choose(round_robin, pool, scores, Budget(tokens=35), ctx)
    assert tokens.best_first().tolist() == [0, 3, 1]
    least = choose(
        round_robin, pool, scores, Budget(samples=2), ctx, quotas=Quotas(at_least={"books": 2})
    )
    assert least.rows.tolist() == [2, 4]


def test_a_task_s_nan_is_its_worst():
    utility = np.array([[np.nan, 1.0], [-5.0, 2.0], [-6.0, 3.0]])
    turns = Turns(utility)
    assert turns.pick(5).tolist() == [1, 2, 0]
    assert turns.takers == [0, 1, 0]


def test_no_rows_and_nothing_asked():
    for utility, most in ((np.empty((0, 3)), 5), (np.ones((4, 3)), 0)):
        turns = Turns(utility)
        assert (turns.pick(most).tolist(), turns.takers) == ([], [])


def test_one_at_a_time_is_many_and_blocked_texts_are_passed_over():
    utility, text = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) // 2
    whole = Turns(utility, text).pick(40).tolist()
    one = Turns(utility, text)
    assert [int(one.pick(1)[0]) for _ in whole] == whole
    assert len(whole) == len({row // 2 for row in whole}) == 20
    assert one.pick(1).tolist() == []
    told = Turns(utility, text)
    told.replay(np.array(whole[:7]))
    told.block(np.array([whole[7]]))  # and so the task whose turn it was takes another row
    assert whole[7] not in (rest := told.pick(40).tolist())
    assert sorted(row // 2 for row in [*whole[:8], *rest]) == list(range(20))


def test_scores_without_tasks_are_refused_with_the_way_out(pool_of, scores_of, ctx):
    scores = scores_of([1, 2], method="compression")
    with pytest.raises(ConfigError, match="'compression' gave one per sample; use a scorer with"):
        choose(round_robin, pool_of(["web"] * 2), scores, Budget(samples=1), ctx)


def test_quotas_and_copies_are_counted_as_they_are_cut(pool_of, scores_of, ctx):
    """Shares are of what a ratio finds in the end, and copies in two sources are one row of either."""
    pool = pool_of(["web", "web", "books", "books"], group=[0, 1, 0, 3])
    by_task = np.array([[1, 0], [0, 9], [8, 1], [7, 2]], float)
    scores = scores_by_task(scores_of, by_task)
    chosen = choose(
        round_robin, pool, scores, Budget(samples=3), ctx, quotas=Quotas(at_least={"books": 2})
    )
    assert chosen.rows.tolist() == [1, 2, 3]
    with pytest.raises(BudgetError, match="'books' should give 3 samples and has 2"):
        choose(
            round_robin, pool, scores, Budget(samples=3), ctx, quotas=Quotas(at_least={"books": 3})
        )
    with pytest.raises(BudgetError, match="ask for at most 3 samples"):
        choose(round_robin, pool, scores, Budget(samples=4), ctx)
