"""Round robin: target tasks take turns, each with its own score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.protocols import Composition, Growing, Ranking
from didact.core.statistics import best_first
from didact.selection.around.budget import distinct_rows

if TYPE_CHECKING:
    from didact.core.arrays import Float2D, Int1D
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context, Grown
    from didact.core.scores import Scores


@method("round_robin")
@Composition(needs_scores=True, grows=True)
def round_robin(pool: Pool, scores: Scores, _budget: Budget | None, _ctx: Context, /) -> Growing:
    """Each target task in turn takes its best row that nobody took; ties go to the lowest row.

    A mean over tasks favours rows that are fair for all; this gives every task its own best rows,
    and equally many. The task whose best row is refused as a near-duplicate takes its next.

    Args:
        pool: The samples.
        scores: One number per sample and task.

    Raises:
        ConfigError: Scores without tasks.

    **Source:** the round robin over target tasks of RDS+ (Ivison et al. 2025, arXiv:2503.01807).
    **Cost:** K sorts and a walk of at most n·K steps for K tasks; no model.
    """
    if scores.by_task is None or not scores.tasks:
        raise ConfigError(
            f"round_robin needs one score per target task and {scores.method!r} gave one per "
            "sample; use a scorer with tasks (bm25, with a target whose rows have a 'task'), or "
            "the selector top_k"
        )
    rows = np.flatnonzero(scores.present & ~pool.in_validation)
    utility = scores.by_task[rows] if scores.higher_is_better else -scores.by_task[rows]
    reasons = tuple(f"task: {name}" for name in scores.tasks)

    @contextmanager
    def open_turns() -> Iterator[Grown]:
        turns = Turns(utility, distinct_rows(pool, rows)[1])
        yield (
            turns,
            lambda picks: Ranking(rows=rows[picks], reasons=reasons, why=np.array(turns.takers)),
        )

    return Growing(rows=rows, open=open_turns, resumable=False)


class Turns:
    """Who takes what when K tasks take turns; a `Growth`.

    Args:
        utility: `(n, K)`, larger is better; NaN counts as the worst.
        text: The text of each row, from 0: of each only one row is taken. None: all differ.

    Attributes:
        takers: The task of each pick so far.

    **Cost:** K sorts of n numbers, then at most n·K steps of some 60 ns.
    """

    chunk = 4096

    def __init__(self, utility: Float2D, text: Int1D | None = None) -> None:
        self.takers: list[int] = []
        self._text = np.arange(len(utility)) if text is None else text
        n_texts = int(self._text.max(initial=-1)) + 1
        self._taken, self._left = bytearray(n_texts), n_texts
        self._picks = self._sequence(utility)

    def pick(self, most: int) -> Int1D:
        """The next picks; see `Growth`."""
        return np.fromiter(islice(self._picks, most), np.int64)

    def block(self, positions: Int1D) -> None:
        """Rows whose text may no longer be taken; see `Growth`."""
        for text in self._text[positions].tolist():
            self._left -= not self._taken[text]
            self._taken[text] = 1

    def replay(self, positions: Int1D) -> None:
        """Taken again: whose turn it is follows from the picks; see `Growth`."""
        self.pick(len(positions))

    def _sequence(self, utility: Float2D) -> Iterator[int]:
        queues = []
        for task in range(utility.shape[1] if self._left else 0):
            column = utility[:, task]
            order = best_first(np.where(np.isnan(column), -np.inf, column))
            queues.append(zip(order.data, self._text[order].data, strict=True))
        taken = self._taken
        while self._left:
            for task, queue in enumerate(queues):
                for row, text in queue:
                    if not taken[text]:
                        taken[text] = 1
                        self._left -= 1
                        self.takers.append(task)
                        yield row
                        break
                if not self._left:
                    break
