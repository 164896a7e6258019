"""What a report is about: the values of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from didact.analysis.risk.flags import Watched
from didact.core.arrays import Bool1D
from didact.core.manifest import StageRecord
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection, TrainingOrder, check_pool
from didact.selection.around.budget import allowed, eligible, may_repeat
from didact.training.telemetry import Step


@dataclass(frozen=True)
class TrainingFacts:
    """A training on the order, as its log and its record tell it.

    Attributes:
        steps: The lines of `steps.jsonl`.
        about: The values of `training.json`; what is not there is not said.
    """

    steps: tuple[Step, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationFacts:
    """What held-out files say of one or more models.

    Attributes:
        records: One for each number: `model`, `file`, `task` and `source` ("" is all of them),
            `metric`, `higher_is_better`, `value`, `low` and `high` of its interval, `n`, and the
            `unit` that the interval counts: "samples" or "runs".
        notes: Decisions worth telling.
    """

    records: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """The values of one run.

    Attributes:
        pool: What was chosen from.
        scores: What was chosen by, or None.
        selection: The choice.
        order: Its sequence.
        ctx: Seed of random sets and samples.
        order_scores: What was ordered by, if other than `scores`.
        stages: Records of the stages so far.
        config: The resolved config.
        samples: False leaves all user text out: samples and ids.
        output_files: What was exported, relative to the report where possible.
        environment: Versions a result may depend on.
        training: How a model learnt from the order, or None.
        evaluation: What held-out files say of it, or None.
        risks: What a monitor found of versions of the data, this run's among them.

    Raises:
        PoolMismatchError: One of the values belongs to another pool.
    """

    pool: Pool
    scores: Scores | None
    selection: Selection
    order: TrainingOrder
    ctx: Context
    order_scores: Scores | None = None
    stages: Sequence[StageRecord] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    samples: bool = True
    output_files: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    training: TrainingFacts | None = None
    evaluation: EvaluationFacts | None = None
    risks: Sequence[Watched] = ()

    def __post_init__(self) -> None:
        self.selection.check(self.pool)
        check_pool(
            "ordered rows", self.order.pool_fingerprint, self.pool.fingerprint,
            "re-run 'didact order'",
        )  # fmt: skip
        for scores in (self.scores, self.order_scores):
            if scores is not None:
                scores.check(self.pool)

    @cached_property
    def candidates(self) -> Bool1D:
        """True on the rows that could have been chosen, `(n,)`: the chosen ones are among them.

        Of equal rows one counts: the chosen one, else the first.
        """
        chosen = self.selection.rows
        out = allowed(self.pool, self.scores)
        if self.pool.dedup:
            copies = np.flatnonzero(out & may_repeat(self.pool))
            first = np.isin(copies, chosen, assume_unique=True)
            ranking = np.concatenate([copies[first], copies[~first]])
            out[copies] = False
            out[ranking[eligible(self.pool, ranking, self.scores)]] = True
        out[chosen] = True
        return out
