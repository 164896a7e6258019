"""Round robin: target tasks take turns, each with its own score."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from didact.core.binding import as_json
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.protocols import estimated_by
from didact.selection.around.budget import required, take
from didact.selection.around.near_duplicates import (
    NearDuplicates,
    Refusal,
    compared_by,
    estimate_all,
)
from didact.selection.around.quotas import Quotas
from didact.selection.rank import best_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from didact.core.arrays import Float2D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Budget, Scores, Selection


@method("round_robin", libraries=compared_by)
@estimated_by(estimate_all)
def round_robin(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
) -> Selection:
    """Each target task in turn takes its best row that nobody took; ties go to the lowest row.

    A mean over tasks favours rows that are fair for all; this gives every task its own best rows,
    and equally many.

    Args:
        pool: The samples.
        scores: One number per sample and task.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Its workers read the texts that `near_duplicates` compares.
        quotas: Limits per source.
        near_duplicates: Refuse rows that are nearly one that any task took; the task whose best row
            is refused takes its next.

    Raises:
        ConfigError: No scores, scores without tasks, or a quota that names an unknown source.
        BudgetError: No budget, more than the pool has, or quotas that cannot be met.

    **Source:** the round robin over target tasks of RDS+ (Ivison et al. 2025, arXiv:2503.01807).
    **Cost:** K sorts and a walk of at most n·K steps for K tasks; no model.
    `near_duplicates` reads every text.
    """
    scores = required(scores, pool, "round_robin")
    if scores.by_task is None or not scores.tasks:
        raise ConfigError(
            f"round_robin needs one score per target task and {scores.method!r} gave one per "
            "sample; use a scorer with tasks (bm25, with a target whose rows have a 'task'), or "
            "the selector top_k"
        )
    rows = np.flatnonzero(scores.present & ~pool.in_validation)
    utility = scores.by_task[rows] if scores.higher_is_better else -scores.by_task[rows]
    group, first = None, np.arange(len(rows))
    if pool.dedup and (pool.copy_number > 1).any():
        _, first, group = np.unique(pool.content_hash[rows], return_index=True, return_inverse=True)
    wanted = None  # a fixed number of rows needs no longer ranking; quotas and tokens may
    if budget is not None and budget.unit == "samples" and not quotas:
        wanted = budget.amount(len(pool))
    refusal = None
    if near_duplicates is not None and wanted != 0:
        refusal = Refusal(pool, rows[first], near_duplicates, ctx)
    refuse = None if refusal is None else refusal.after
    picked, task = turns(utility, group, limit=wanted, refuse=refuse)
    return take(
        pool,
        rows[picked],
        budget,
        quotas,
        method="round_robin",
        settings=as_json(round_robin, {"quotas": quotas, "near_duplicates": near_duplicates}),
        scores=scores,
        reasons=tuple(f"task: {name}" for name in scores.tasks),
        why=task,
        refused=0 if refusal is None else refusal.refused,
    )


def turns(
    utility: Float2D,
    group: Int1D | None = None,
    *,
    limit: int | None = None,
    refuse: Callable[[int], Int1D] | None = None,
) -> tuple[Int1D, Int1D]:
    """Who takes what when K tasks take turns.

    Args:
        utility: `(n, K)`, larger is better; NaN counts as the worst.
        group: 0..G-1 per row; of each group only one row is taken. None: every row is its own.
        limit: Stop after this many rows; None takes one row of every group.
        refuse: Told of the group of each row taken; names groups of which no row may be taken any
            more.

    Returns:
        Rows in the order they were taken, and the task that took each.

    **Cost:** K sorts of n numbers, then at most n·K steps of some 60 ns.
    """
    n, n_tasks = utility.shape
    own = np.arange(n) if group is None else group
    n_groups = n if group is None else int(group.max(initial=-1)) + 1
    wanted = n_groups if limit is None else limit
    left = n_groups
    queues = []
    for task in range(n_tasks if left and wanted else 0):
        column = utility[:, task]
        order = best_first(np.where(np.isnan(column), -np.inf, column))
        queues.append(zip(order.data, own[order].data, strict=True))
    taken = bytearray(n_groups)
    rows, tasks = array("q"), array("q")
    while left and len(rows) < wanted:
        for task, queue in enumerate(queues):
            for row, its_group in queue:
                if not taken[its_group]:
                    taken[its_group] = 1
                    rows.append(row)
                    tasks.append(task)
                    left -= 1
                    for near in refuse(its_group).tolist() if refuse is not None else ():
                        left -= not taken[near]
                        taken[near] = 1
                    break
            if not left or len(rows) == wanted:
                break
    return np.array(rows, np.int64), np.array(tasks, np.int64)
