"""Log-likelihood of every token that counts: long samples in windows, or parts on their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from didact.accounting.flops import forward_flops
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.models.batches import Batch, over_batches
from didact.models.language_model import LanguageModel
from didact.models.losses import token_nll
from didact.models.tokens import Sample, Tokens, ragged


@dataclass(frozen=True, slots=True)
class Excerpts:
    """Parts of samples that the model reads one by one.

    Attributes:
        tokens: The excerpts; a weight above 0 marks a token whose prediction counts here.
        owner: int64 `(len(tokens),)`: the sample of each excerpt.
        n: Samples.
    """

    tokens: Tokens
    owner: Int1D
    n: int


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The likelihood that a model gives to the tokens that count.

    Attributes:
        counted: int64 `(n,)`: number of tokens that count.
        nats: float64 `(n,)`: their negative log-likelihood, summed.
        mean: float64 `(n,)`: the mean of that by loss weight, nats per token; NaN where nothing
            counts.
    """

    counted: Int1D
    nats: Float1D
    mean: Float1D


def whole_samples(tokens: Tokens) -> Excerpts:
    """Every sample as one excerpt."""
    return Excerpts(tokens, np.arange(len(tokens)), len(tokens))


def windows(tokens: Tokens, size: int, stride: int) -> Excerpts:
    """Samples longer than `size` in windows, a `stride` apart.

    Every token counts in one window alone, the first that reaches it, and is predicted from at
    least `size - stride` tokens where the sample has as many before it. Windows in which nothing
    counts are left out.

    Args:
        tokens: The samples.
        size: Most tokens of a window, 2 or more.
        stride: From the start of one window to the start of the next, 1 to `size - 1`.
    """
    if int(tokens.lengths.max(initial=0)) <= size:
        return whole_samples(tokens)

    def parts() -> Iterator[tuple[int, Sample]]:
        for row in tokens.scored.tolist():
            ids, weights = tokens.sample(row)
            reached = 0
            for start in range(0, max(len(ids) - size + stride, 1), stride):
                stop = min(start + size, len(ids))
                here = weights[start:stop].copy()
                here[: reached - start] = 0
                reached = stop
                if here.any():
                    yield row, (ids[start:stop], here)

    return _excerpts(parts(), len(tokens))


def counted_runs(tokens: Tokens, first: int) -> Excerpts:
    """Every unbroken run of tokens that count as an excerpt of its own, nothing before it.

    Args:
        tokens: The samples.
        first: The token put before each run, from which its first one is predicted.
    """

    def parts() -> Iterator[tuple[int, Sample]]:
        for row in tokens.scored.tolist():
            ids, weights = tokens.sample(row)
            steps = np.diff((weights != 0).astype(np.int8), prepend=0, append=0)
            for start, stop in zip(
                np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True
            ):
                yield (
                    row,
                    (
                        np.concatenate([np.asarray([first], ids.dtype), ids[start:stop]]),
                        np.concatenate([np.zeros(1, weights.dtype), weights[start:stop]]),
                    ),
                )

    return _excerpts(parts(), len(tokens))


def _excerpts(found: Iterator[tuple[int, Sample]], n: int) -> Excerpts:
    parts = list(found)
    owner = np.asarray([row for row, _ in parts], np.int64)
    return Excerpts(ragged([sample for _, sample in parts]), owner, n)


def likelihood(
    model: LanguageModel, excerpts: Excerpts, *, tokens_per_batch: int
) -> Metered[Likelihood]:
    """Negative log-likelihood of the tokens that count, each sample's excerpts together.

    Sums are float64 whatever the model's arithmetic, so that they do not depend on the number of
    windows.

    Args:
        model: The model.
        excerpts: The parts of samples it reads.
        tokens_per_batch: Most tokens of a batch, padding included.

    **Cost:** one forward pass of every excerpt; softmax only where a token counts.
    """

    def forward(batch: Batch) -> torch.Tensor:
        return token_nll(model.module(**batch.inputs, use_cache=False).logits, batch)

    counted = np.zeros(excerpts.n, np.int64)
    nats, weighted, weights = np.zeros((3, excerpts.n))
    cost = Cost()
    with torch.inference_mode():
        for batch, nll in over_batches(
            forward,
            excerpts.tokens,
            tokens_per_batch=tokens_per_batch,
            pad_id=model.pad_id,
            device=model.device,
        ):
            rows = excerpts.owner[batch.rows]
            by_weight = batch.weights.double()
            np.add.at(counted, rows, (by_weight != 0).sum(1).cpu().numpy())
            np.add.at(nats, rows, nll.double().sum(1).cpu().numpy())
            np.add.at(weighted, rows, (nll * by_weight).sum(1).cpu().numpy())
            np.add.at(weights, rows, by_weight.sum(1).cpu().numpy())
            ran = batch.executed
            flops = forward_flops(model.spec, ran.tokens, ran.squares)
            cost += Cost(flops=flops, tokens=int(batch.attention_mask.sum()))
    mean = np.full(excerpts.n, np.nan)
    np.divide(weighted, weights, out=mean, where=weights != 0)
    return Metered(Likelihood(counted, nats, mean), cost)
