"""The target set of LESS: its samples as tokens, its tasks, and whether they point anywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.models.encode import Encoding, encode
from didact.models.tokens import Tokens

if TYPE_CHECKING:
    from didact.gradients.influence import SampleResults
    from didact.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class TargetSet:
    """A target set and how its samples become tokens.

    Attributes:
        pool: The samples.
        encoding: How they become tokens.
    """

    pool: Pool
    encoding: Encoding

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the K tasks."""
        return self.pool.task_names

    @property
    def key(self) -> list[Any]:
        """What values depend on that are made of it, JSON values."""
        return [self.pool.fingerprint, asdict(self.encoding)]

    def tokens(self, model: LanguageModel) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Tokens of every target sample, and its task.

        Raises:
            DataError: A task has no sample with a loss.
        """
        tokens = encode(
            self.pool.read(range(len(self.pool)), ["turns"]).column("turns"),
            model.tokenizer,
            self.encoding,
        )
        tasks = self.pool.task_codes.astype(np.int64)
        for k, name in enumerate(self.task_names):
            if not np.isin(tokens.scored, np.flatnonzero(tasks == k)).any():
                row = int(np.flatnonzero(tasks == k)[0])
                raise DataError(
                    f"target task {name!r}: no sample has a loss; row {row}: "
                    f"{tokens.missing[row]}; or drop the task"
                )
        return tokens, tasks

    def check_gradients(self, tasks: npt.NDArray[np.int64], ran: SampleResults) -> None:
        """Raise DataError when a task has no sample with a gradient to point along."""
        usable = np.isfinite(ran.values).all(axis=1) & (ran.values != 0).any(axis=1)
        for k, name in enumerate(self.task_names):
            if not usable[tasks == k].any():
                raise DataError(
                    f"target task {name!r}: the gradients of all its samples are zero or not "
                    "finite; drop the task, or look at the judging model"
                )
