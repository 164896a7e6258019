"""Samples of a pool on their way into a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from didact.accounting.flops import NOTHING, Lengths
from didact.accounting.lengths import executed_steps, padded_lengths, shared_batches
from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.core.protocols import Progress, ProgressCallback, ignore_progress
from didact.models.batches import Batch, collate
from didact.models.encode import Encoding, encode
from didact.models.tokens import Sample, Tokens, ragged

BLOCK = 256  # samples tokenised at a time
_FORETOLD: Final = 64  # steps whose samples are tokenised to foretell what a training executes


# Row of the pool, a block of tokens, the place in the block.
SampleInBlock = tuple[int, Tokens, int]


class Samples(torch.utils.data.Dataset[SampleInBlock]):
    """Rows of a pool as tokens, in a sequence of its own for each epoch; a block at a time.

    Args:
        pool: The pool.
        epochs: Rows in training sequence, of equal number in every epoch; each begins a step.
        tokenizer: The model's tokenizer.
        how: The encoding of samples as tokens.
        passes: Passes over the data that every epoch holds, written out one after another.
    """

    def __init__(
        self, pool: Pool, epochs: Sequence[Int1D], tokenizer: Any, how: Encoding, *, passes: int = 1
    ) -> None:
        self.pool, self.epochs, self.tokenizer, self.how = pool, epochs, tokenizer, how
        self.passes = passes
        self._epoch = 0
        self._block: tuple[tuple[int, int], Tokens] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop when an epoch begins."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.epochs[0])

    def steps(self, batch_size: int, most: int | None = None) -> int:
        """Number of optimizer steps over all epochs, `most` at most."""
        steps = len(self.epochs) * -(-len(self) // batch_size)
        return min(steps, most or steps)

    def epoch_of(self, step: int, batch_size: int) -> int:
        """The pass over the data in which a step begins, from 1; steps count from 0."""
        epoch, inside = divmod(step, -(-len(self) // batch_size))
        return 1 + epoch * self.passes + inside * batch_size * self.passes // len(self)

    def __getitem__(self, index: int) -> SampleInBlock:
        rows = self.epochs[self._epoch]
        place = (self._epoch, index // BLOCK)
        if self._block is None or self._block[0] != place:
            part = rows[place[1] * BLOCK : (place[1] + 1) * BLOCK]
            self._block = (place, self.tokens(part))
        return int(rows[index]), self._block[1], index % BLOCK

    def tokens(self, rows: Int1D) -> Tokens:
        """Rows of the pool as tokens."""
        turns = self.pool.read(rows, ["turns"]).column("turns")
        return encode(turns, self.tokenizer, self.how)


class StepSamples:
    """The samples of one optimizer step, and their share for each of several devices.

    Samples without a loss are in none.

    Attributes:
        rows: int64 `(n,)`: rows of the pool, in sequence.
        weights: float64 `(n,)`: loss weight of the tokens that are learnt of each.
        weight: That of all.
        samples: Number of samples that have a loss.
        shares: Device → its micro-batches of places in `rows`.
        tokens: Number of tokens, without padding.
        executed: Lengths of what runs on all devices, padding included.
    """

    def __init__(
        self, samples: Sequence[SampleInBlock], tokens_per_batch: int, *, devices: int = 1
    ) -> None:
        self._samples = samples
        self.rows = np.asarray([row for row, _, _ in samples], np.int64)
        lengths = np.zeros(len(samples), np.int64)
        self.weights = np.zeros(len(samples))
        for place, (_, tokens, at) in enumerate(samples):
            if at not in tokens.missing:
                ids, weights = tokens.sample(at)
                lengths[place], self.weights[place] = len(ids), weights.sum()
        self.weight = float(self.weights.sum())
        self.samples = int(np.count_nonzero(lengths))
        self.shares = shared_batches(lengths, tokens_per_batch, devices=devices)
        self.tokens = int(lengths.sum())
        self.executed = sum((padded_lengths(lengths, share) for share in self.shares), NOTHING)

    def batches(
        self, device: int, *, pad_id: int, on: torch.device
    ) -> Iterator[tuple[Batch, bool]]:
        """The micro-batches of a device, and whether it is the last; a masked token if it has none.

        `rows` of a batch are places in `rows` of the step.
        """
        share = self.shares[device]
        for places in share:
            tokens = ragged([self._sample(place) for place in places])
            batch = collate(tokens, np.arange(len(places)), pad_id=pad_id, device=on)
            yield replace(batch, rows=places), places is share[-1]
        if not share:
            nothing = ragged([(np.full(1, pad_id, np.int32), np.zeros(1, np.float32))])
            batch = collate(nothing, np.arange(1), pad_id=pad_id, device=on)
            yield replace(batch, rows=np.empty(0, np.int64)), True

    def _sample(self, place: int) -> Sample:
        _, tokens, at = self._samples[place]
        return tokens.sample(at)


def steps_ahead(
    samples: Samples,
    *,
    batch_size: int,
    steps: int,
    tokens_per_batch: int,
    devices: int = 1,
    progress: ProgressCallback = ignore_progress,
) -> list[Lengths]:
    """Lengths of sequences that each step will execute, padding included: what `StepSamples` has.

    **Cost:** tokenises every row once; no model.
    """
    rows, place = np.unique(np.concatenate(samples.epochs), return_inverse=True)
    lengths = np.zeros(len(rows), np.int64)
    progress(Progress("tokenize", 0, len(rows)))
    for at in range(0, len(rows), BLOCK):
        tokens = samples.tokens(rows[at : at + BLOCK])
        lengths[at + tokens.scored] = tokens.lengths[tokens.scored]
        progress(Progress("tokenize", min(at + BLOCK, len(rows)), len(rows)))
    sequence = lengths[place]
    out: list[Lengths] = []
    per_epoch = len(samples)
    for first in range(0, len(sequence), per_epoch):
        for at in range(first, first + per_epoch, batch_size):
            if len(out) == steps:
                return out
            step = sequence[at : min(at + batch_size, first + per_epoch)]
            shares = shared_batches(step, tokens_per_batch, devices=devices)
            out.append(sum((padded_lengths(step, share) for share in shares), NOTHING))
    return out


def foretold(samples: Samples, *, batch_size: int, steps: int, tokens_per_batch: int) -> Lengths:
    """Lengths of sequences as a training will execute them, padding included.

    Some steps, evenly spread, are tokenised; the others are taken to cost as many FLOPs for each
    token that the pool counts.

    **Cost:** tokenises at most 64 steps; no model.
    """
    total = NOTHING
    left = steps
    for rows in samples.epochs:
        starts = np.arange(0, len(rows), batch_size)[:left]
        left -= len(starts)
        if not len(starts):
            break
        spread = np.unique(np.linspace(0, len(starts) - 1, _FORETOLD).round().astype(np.int64))
        looked_at = [rows[at : at + batch_size] for at in starts[spread]]
        lengths = []
        for part in looked_at:
            tokens = samples.tokens(part)
            lengths.append(tokens.lengths[tokens.scored])
        ran = executed_steps(lengths, tokens_per_batch)
        counted = np.minimum(samples.pool.n_tokens, samples.how.max_length or np.inf)
        of_all = rows[: int(starts[-1]) + batch_size]
        scale = float(counted[of_all].sum() / max(counted[np.concatenate(looked_at)].sum(), 1))
        total += Lengths(round(ran.n * scale), round(ran.tokens * scale), ran.squares * scale)
    return total
