"""R and L of a training: its text as the model read it, and the loss of its first epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.analysis.entropy.runs import SHARES
from didact.core.arrays import Int1D
from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.models.encode import Encoding, encode
from didact.training.telemetry import Step

BLOCK: Final = 256  # samples tokenised together


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """The first epoch's training loss.

    Attributes:
        loss: L, nats per token, each step before its update; steps weigh by their learnt tokens.
        early: Share of the epoch's learnt tokens → L up to there.
        tokens: Tokens of the epoch, without padding; None where the telemetry has none.
        steps: Number of its steps.
    """

    loss: float
    early: Mapping[float, float]
    tokens: int | None
    steps: int


def first_epoch_loss(
    steps: Sequence[Step], shares: Sequence[float] = SHARES, *, what: str = "the telemetry"
) -> EpochLoss:
    """L of a training, and L after a part of its first epoch.

    Args:
        steps: Steps in sequence. Where no epoch is told, all are of the first.
        shares: Parts of the epoch, 0 to 1; those that end before the first step has are left out.
        what: What messages call the telemetry.

    Raises:
        DataError: The first epoch's beginning is missing.

    **Source:** Yin et al. 2024 (arXiv:2407.06645), who read the first epoch's loss; the weights by
    tokens are didact's.
    """
    first = [step for step in steps if step.epoch in {None, 1}]
    if not steps or steps[0].step > 1 or not first:
        begins = f"step {steps[0].step}, epoch {steps[0].epoch}" if steps else "nothing"
        raise DataError(
            f"{what}: has no first epoch, it begins with {begins}; expected steps from the first "
            "on: give the log of the whole training"
        )
    weights = np.array([_weight(step) for step in first])
    losses = np.array([step.loss for step in first])
    if not weights.sum() > 0:
        raise DataError(f"{what}: no step of its first epoch learnt a token; train on other rows")
    losses[weights == 0] = 0.0
    so_far, sums = np.cumsum(weights), np.cumsum(weights * losses)
    early = {}
    for share in shares:
        # whole steps: the last one that ends within the share
        done = int(np.searchsorted(so_far, share * so_far[-1] * (1 + 1e-9), side="right"))
        if done and so_far[done - 1] > 0:
            early[share] = float(sums[done - 1] / so_far[done - 1])
    tokens = [step.tokens for step in first if step.tokens is not None]
    known = sum(tokens) if len(tokens) == len(first) else None
    return EpochLoss(float(sums[-1] / so_far[-1]), early, known, len(first))


def _weight(step: Step) -> float:
    """Learnt tokens of a step; where they are not told its tokens, else 1 for every step."""
    if step.learnt is not None:
        return float(step.learnt)
    if step.tokens is not None:
        return float(step.tokens)
    return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class AsRead:
    """The rows of a first epoch, and the way a model reads them; nothing is read yet.

    Attributes:
        pool: The pool.
        rows: Rows of the first epoch, as often as it has them.
        tokenizer: The model's tokenizer, fast.
        how: The training's encoding: template, loss, length.
    """

    pool: Pool
    rows: Int1D
    tokenizer: Any
    how: Encoding

    def lengths(self) -> Int1D:
        """Tokens of each row as read, ascending by row; 0 of rows left out.

        **Cost:** tokenises every row.
        """
        return np.array([len(ids) for ids in self._ids(np.sort(self.rows))], np.int64)

    def texts(self, n_tokens: int | None = None) -> Iterator[str]:
        """The text of rows in one fixed shuffle, template in and cut off, up to `n_tokens` in all.

        The shuffle depends on which rows there are and not on the order they were trained in. The
        last text is cut to the token. Rows without a token to learn are left out, as in training.
        """
        shuffled = np.random.default_rng(0).permutation(np.sort(self.rows))
        left = math.inf if n_tokens is None else n_tokens
        # transformers' own decoding may tidy spaces; the library under it gives what was read
        decode = self.tokenizer.backend_tokenizer.decode
        for ids in self._ids(shuffled):
            if len(ids):
                yield decode(ids[: int(min(left, len(ids)))], skip_special_tokens=False)
                left -= len(ids)
                if left <= 0:
                    return

    def _ids(self, rows: Int1D) -> Iterator[list[int]]:
        for at in range(0, len(rows), BLOCK):
            turns = self.pool.read(rows[at : at + BLOCK], ["turns"]).column("turns")
            tokens = encode(turns, self.tokenizer, self.how)
            for i in range(len(tokens)):
                yield [] if i in tokens.missing else tokens.sample(i)[0].tolist()
