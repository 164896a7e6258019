"""Negative log-likelihoods of tokens and samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from didact.models.batches import Batch


def token_nll(logits: Tensor, batch: Batch) -> Tensor:
    """Nats of every token that counts, 0 elsewhere: `(b, S)`.

    Softmax is computed in float32 (float64 for a float64 model), and only where a token counts.

    Args:
        logits: `(b, S, vocabulary)`; position t predicts token t + 1.
        batch: The samples.
    """
    counts = batch.weights[:, 1:] != 0
    chosen = logits[:, :-1][counts]
    chosen = chosen if chosen.dtype == torch.float64 else chosen.float()
    nll = functional.cross_entropy(chosen, batch.input_ids[:, 1:][counts], reduction="none")
    out = nll.new_zeros(batch.input_ids.shape)
    out[:, 1:][counts] = nll
    return out


def sample_losses(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted mean of the token losses of each sample, nats per token, `(b,)`."""
    nll = token_nll(logits, batch)
    weights = batch.weights.to(nll.dtype)
    return (nll * weights).sum(1) / weights.sum(1)


def causal_losses(model: Any, batch: Batch) -> Tensor:
    """Forward of a causal language model, then `sample_losses`: `(b,)`."""
    return sample_losses(model(**batch.inputs, use_cache=False).logits, batch)
