"""Lengths of samples as they will run, from a pool's histogram alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from didact.accounting.flops import Lengths
from didact.core.pool import LENGTH_BINS, PoolStats

Int1D = npt.NDArray[np.int64]
Grouping = Callable[[Int1D, Int1D, int], Iterator[Int1D]]


def typical_lengths(
    stats: PoolStats, *, overhead: int, max_length: int | None, most: int = 8192
) -> Int1D:
    """Lengths of `min(n, most)` samples that have the histogram's distribution.

    Equally spaced quantiles; inside a bin lengths are log-uniform, scaled by one factor so that
    their mean is the pool's.

    Args:
        stats: The pool's.
        overhead: Tokens the chat template and special tokens add to each sample.
        max_length: Tokens a sample is cut at; None for no limit.
        most: How many lengths are made at most.
    """
    n = min(stats.n, most)
    counts = np.asarray(stats.token_lengths, np.float64)
    ends = np.cumsum(counts)
    place = (np.arange(n) + 0.5) / max(n, 1) * ends[-1]
    bins = np.minimum(np.searchsorted(ends, place, side="right"), LENGTH_BINS - 1)
    inside = (place - (ends - counts)[bins]) / np.maximum(counts[bins], 1)
    raw = 2 ** ((bins + inside) / 3)
    raw *= (stats.n_tokens / max(stats.n, 1)) / max(float(raw.mean()) if n else 0.0, 1e-9)
    lengths = np.rint(raw).astype(np.int64) + overhead
    clipped: Int1D = np.clip(lengths, 1, max_length)
    return clipped


def executed(
    stats: PoolStats, lengths: Int1D, grouping: Grouping, tokens_per_batch: int, rows: int
) -> tuple[Lengths, int]:
    """What runs, padding included, and the tokens in it, when samples are grouped `rows` at a time.

    Args:
        stats: The pool's.
        lengths: Of `typical_lengths`.
        grouping: Puts samples into batches, such as `didact.models.batches.micro_batches`.
        tokens_per_batch: Most padded tokens of a batch.
        rows: Samples that are sorted together.
    """
    if not len(lengths):
        return Lengths(0, 0, 0.0), 0
    mixed = np.random.default_rng(0).permutation(lengths)
    tokens, squares = 0, 0.0
    for at in range(0, len(mixed), rows):
        part = mixed[at : at + rows]
        for group in grouping(part, np.arange(len(part)), tokens_per_batch):
            longest = int(part[group].max())
            tokens += len(group) * longest
            squares += float(len(group) * longest**2)
    scale = stats.n / len(lengths)
    whole = Lengths(stats.n, round(tokens * scale), squares * scale)
    return whole, round(int(lengths.sum()) * scale)
