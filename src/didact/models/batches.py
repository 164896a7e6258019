"""Micro-batches: sorted by length, bounded in padded tokens, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from didact.core.errors import ExecutionError
from didact.models.encode import Tokens

R = TypeVar("R")
Int1D = npt.NDArray[np.int64]

MOST_PADDING = 0.1
LEAST_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples padded on the right to one length S.

    Attributes:
        rows: int64 `(b,)`: which samples of the `Tokens`.
        input_ids: int64 `(b, S)`.
        attention_mask: int64 `(b, S)`, 0 on padding.
        position_ids: int64 `(b, S)`; explicit, so that every module sees the batch.
        weights: float32 `(b, S)`: loss weight of predicting token t; 0 for t = 0 and padding.
    """

    rows: Int1D
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What a causal language model is called with."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


def micro_batches(lengths: Int1D, rows: Int1D, tokens_per_batch: int) -> Iterator[Int1D]:
    """Rows grouped by length, longest first, so that a batch too large shows at once.

    A batch also ends where further samples would make more than a tenth of it padding, once it
    holds an eighth of what it may: smaller batches cost less than padding.

    Args:
        lengths: Tokens of every sample.
        rows: The samples to group.
        tokens_per_batch: Most padded tokens of a batch; a longer sample is a batch of its own.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    at = 0
    while at < len(order):
        longest = max(int(lengths[order[at]]), 1)
        most = order[at : at + max(1, tokens_per_batch // longest)]
        padded = longest * np.arange(1, len(most) + 1)
        wasteful = np.flatnonzero(
            (np.cumsum(lengths[most]) < (1 - MOST_PADDING) * padded)
            & (padded > LEAST_SHARE * tokens_per_batch)
        )
        size = int(wasteful[0]) if len(wasteful) and wasteful[0] else len(most)
        yield most[:size]
        at += size


def collate(tokens: Tokens, rows: Int1D, *, pad_id: int, device: torch.device | str) -> Batch:
    """Some samples as padded tensors on a device."""
    lengths = tokens.lengths[rows]
    longest = int(lengths.max(initial=1))
    inside = np.arange(longest) < lengths[:, None]
    ids = np.full((len(rows), longest), pad_id, np.int64)
    weights = np.zeros((len(rows), longest), np.float32)
    flat = np.concatenate([np.arange(tokens.offsets[r], tokens.offsets[r + 1]) for r in rows])
    ids[inside] = tokens.ids[flat]
    weights[inside] = tokens.weights[flat]
    positions = np.tile(np.arange(longest), (len(rows), 1))

    def put(array: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    return Batch(
        rows=rows,
        input_ids=put(ids),
        attention_mask=put(inside.astype(np.int64)),
        position_ids=put(positions),
        weights=put(weights),
    )


def over_batches(
    function: Callable[[Batch], R],
    tokens: Tokens,
    *,
    tokens_per_batch: int,
    pad_id: int,
    device: torch.device | str,
) -> Iterator[tuple[Batch, R]]:
    """`function` of every micro-batch of the samples that have a loss.

    When memory runs out, the batch is halved and tried again, and later batches stay as small.

    Raises:
        ExecutionError: One sample alone does not fit.
    """
    waiting = list(micro_batches(tokens.lengths, tokens.scored, tokens_per_batch))[::-1]
    most: int | None = None
    while waiting:
        rows = waiting.pop()
        longest = int(tokens.lengths[rows].max())
        if most is not None and len(rows) > 1 and len(rows) * longest > most:
            waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
            continue
        batch = collate(tokens, rows, pad_id=pad_id, device=device)
        try:
            result = function(batch)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(rows) == 1:
                raise ExecutionError(
                    f"a sample of {longest} tokens does not fit into the memory of {device}; set "
                    "max_length, dtype=bfloat16 or a smaller model"
                ) from error
            most = (len(rows) * longest) // 2
            waiting.append(rows)
        else:
            yield batch, result
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the CPU."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
