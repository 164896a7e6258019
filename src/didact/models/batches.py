"""Micro-batches: sorted by length, bounded in padded tokens, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from didact.accounting.flops import Lengths
from didact.accounting.lengths import micro_batches
from didact.core.arrays import Int1D
from didact.core.errors import ExecutionError
from didact.models.tokens import Tokens

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples padded on the right to one length S.

    Attributes:
        rows: int64 `(b,)`: the samples' rows in their `Tokens`.
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
    def executed(self) -> Lengths:
        """Lengths of what runs, padding included."""
        b, s = self.input_ids.shape
        return Lengths(b, b * s, float(b * s * s))

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Arguments of a causal language model's forward."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


def collate(tokens: Tokens, rows: Int1D, *, pad_id: int, device: torch.device | str) -> Batch:
    """Some samples as padded tensors on a device."""
    taken, lengths = tokens.take(rows), tokens.lengths[rows]
    longest = int(lengths.max(initial=1))
    inside = np.arange(longest) < lengths[:, None]
    ids = np.full((len(rows), longest), pad_id, np.int64)
    weights = np.zeros((len(rows), longest), np.float32)
    ids[inside] = taken.ids
    weights[inside] = taken.weights
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
    rows: Int1D | None = None,
    *,
    tokens_per_batch: int,
    pad_id: int,
    device: torch.device | str,
) -> Iterator[tuple[Batch, R]]:
    """`function` of every micro-batch of some samples, by default of all that have a loss.

    When memory runs out, the batch is halved and tried again, and later batches stay as small.

    Raises:
        ExecutionError: One sample alone does not fit.
    """
    wanted = tokens.scored if rows is None else rows
    waiting = list(micro_batches(tokens.lengths, wanted, tokens_per_batch))[::-1]
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


@contextmanager
def memory_errors(doing: str, remedy: str) -> Iterator[None]:
    """A block whose lack of memory is an ExecutionError that says what to do.

    Args:
        doing: What the block does: "training".
        remedy: What to do about it: "set a smaller batch_size".
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ExecutionError(f"memory ran out while {doing} ({error}); {remedy}") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the CPU."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
