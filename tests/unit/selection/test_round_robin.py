"""Tasks take turns."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.errors import ConfigError
from didact.core.scores import Budget
from didact.selection.around.quotas import Quotas
from didact.selection.round_robin import round_robin, turns

# maths prefers 0, 1, 2, …; law prefers 0, 3, 4, …
BY_TASK = np.array([[9, 9], [8, 0], [7, 0], [0, 8], [1, 7]], float)


def scores_by_task(scores_of, by_task=BY_TASK, **more):
    return scores_of(by_task.mean(axis=1), by_task=by_task, tasks=("maths", "law"), **more)


def test_each_task_takes_its_best_free_row(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 5)
    chosen = round_robin(pool, scores_by_task(scores_of), Budget(samples=5), ctx)
    assert chosen.best_first().tolist() == [0, 3, 1, 4, 2]
    assert [chosen.reasons[w] for w in chosen.why] == [
        "task: maths", "task: maths", "task: maths", "task: law", "task: law",
    ]  # fmt: skip


def test_lower_can_be_better(pool_of, scores_of, ctx):
    scores = scores_by_task(scores_of, -BY_TASK, higher_is_better=False)
    chosen = round_robin(pool_of(["web"] * 5), scores, Budget(samples=3), ctx)
    assert chosen.best_first().tolist() == [0, 3, 1]


def test_a_duplicate_costs_no_task_its_turn(pool_of, scores_of, ctx):
    by_task = np.array([[9, 0], [9, 8], [5, 1], [4, 7]], float)
    pool = pool_of(["web"] * 4, group=[0, 0, 2, 3])
    chosen = round_robin(pool, scores_by_task(scores_of, by_task), Budget(samples=3), ctx)
    assert chosen.best_first().tolist() == [0, 3, 2]  # law skips row 1, a copy of maths's row 0


def test_rows_that_may_not_be_chosen_cost_no_turn(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 5, held=[0])
    scores = scores_by_task(scores_of, missing=[3])
    chosen = round_robin(pool, scores, Budget(samples=2), ctx)
    assert chosen.best_first().tolist() == [1, 4]


def test_budgets_in_tokens_and_quotas_see_the_whole_ranking(pool_of, scores_of, ctx):
    pool = pool_of(["web", "web", "books", "web", "books"])
    scores = scores_by_task(scores_of)
    tokens = round_robin(pool, scores, Budget(tokens=35), ctx)
    assert tokens.best_first().tolist() == [0, 3, 1]
    least = round_robin(pool, scores, Budget(samples=2), ctx, quotas=Quotas(at_least={"books": 2}))
    assert least.rows.tolist() == [2, 4]


def test_a_task_s_nan_is_its_worst():
    utility = np.array([[np.nan, 1.0], [-5.0, 2.0], [-6.0, 3.0]])
    rows, tasks = turns(utility)
    assert rows.tolist() == [1, 2, 0]
    assert tasks.tolist() == [0, 1, 0]


def test_no_rows_and_no_limit():
    for utility, limit in ((np.empty((0, 3)), None), (np.ones((4, 3)), 0)):
        rows, tasks = turns(utility, limit=limit)
        assert (len(rows), len(tasks)) == (0, 0)


def test_scores_without_tasks_are_refused_with_the_way_out(pool_of, scores_of, ctx):
    scores = scores_of([1, 2], method="compression")
    with pytest.raises(ConfigError, match="'compression' gave one per sample; use a scorer with"):
        round_robin(pool_of(["web"] * 2), scores, Budget(samples=1), ctx)
