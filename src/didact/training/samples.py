"""Samples of a pool on their way into a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.models.batches import Batch, collate
from didact.models.encode import Encoding, encode
from didact.models.tokens import Sample, Tokens, ragged
from didact.training.telemetry import rows_digest

__all__ = ["BLOCK", "SampleInBlock", "Samples", "padded_micro_batches", "rows_digest"]

BLOCK = 256  # samples tokenised at a time


# Row of the pool, a block of tokens, the place in the block.
SampleInBlock = tuple[int, Tokens, int]


class Samples(torch.utils.data.Dataset[SampleInBlock]):
    """Rows of a pool as tokens, in a sequence of its own for each epoch; a block at a time.

    Args:
        pool: The pool.
        epochs: Rows in training sequence, of equal number in every epoch.
        tokenizer: The model's tokenizer.
        how: The encoding of samples as tokens.
    """

    def __init__(self, pool: Pool, epochs: Sequence[Int1D], tokenizer: Any, how: Encoding) -> None:
        self.pool, self.epochs, self.tokenizer, self.how = pool, epochs, tokenizer, how
        self._epoch = 0
        self._block: tuple[tuple[int, int], Tokens] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop when an epoch begins."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __getitem__(self, index: int) -> SampleInBlock:
        rows = self.epochs[self._epoch]
        place = (self._epoch, index // BLOCK)
        if self._block is None or self._block[0] != place:
            part = rows[place[1] * BLOCK : (place[1] + 1) * BLOCK]
            turns = self.pool.read(part, ["turns"]).column("turns")
            self._block = (place, encode(turns, self.tokenizer, self.how))
        return int(rows[index]), self._block[1], index % BLOCK


def padded_micro_batches(samples: Sequence[SampleInBlock], count: int, pad_id: int) -> list[Batch]:
    """Samples with a loss in `count` batches of like lengths; a masked token where there is none.

    The order inside an optimizer step changes nothing but rounding, so it is used against padding.
    `rows` of a batch are places in `samples`.
    """
    kept = sorted(
        (
            (place, tokens.sample(at))
            for place, (_, tokens, at) in enumerate(samples)
            if at not in tokens.missing
        ),
        key=lambda found: -len(found[1][0]),
    )
    nothing = (0, (np.full(1, pad_id, np.int32), np.zeros(1, np.float32)))
    cuts = [round(i * len(kept) / count) for i in range(count + 1)]
    return [_padded(kept[a:b] or [nothing], pad_id) for a, b in pairwise(cuts)]


def _padded(found: Sequence[tuple[int, Sample]], pad_id: int) -> Batch:
    tokens = ragged([sample for _, sample in found])
    batch = collate(tokens, np.arange(len(found)), pad_id=pad_id, device="cpu")
    return replace(batch, rows=np.asarray([place for place, _ in found]))
