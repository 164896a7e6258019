"""Lengths of samples as they will run, from a pool's histogram alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from didact.accounting.flops import NOTHING, Lengths
from didact.core.arrays import Int1D
from didact.core.errors import ConfigError
from didact.core.pool import LENGTH_BINS, PoolStats

# At 512 rows sorted together, as scorers do, a tenth was reached by most batches: real instruction
# samples took 1.096 times their tokens, 1.049 with a twentieth in batches of half the size.
MOST_PADDING = 0.05
_TYPICAL: Final = 8192  # most lengths that stand for a pool
LEAST_SHARE = 1 / 8
MOST_PADDING_OF_A_STEP: Final = 0.1


def typical_lengths(stats: PoolStats, *, overhead: int, max_length: int | None) -> Int1D:
    """Lengths of `min(n, 8192)` samples that have the histogram's distribution.

    Equally spaced quantiles; inside a bin lengths are log-uniform, scaled by one factor so that
    their mean is the pool's.

    Args:
        stats: Sizes of the pool.
        overhead: Tokens the chat template and special tokens add to each sample.
        max_length: Tokens a sample is cut at; None for no limit.
    """
    n = min(stats.n, _TYPICAL)
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


def window_and_stride(
    context: int, window: int | None, stride: int | None, *, where: str, model: str
) -> tuple[int, int]:
    """Size and stride of the windows in which a model reads long samples.

    Args:
        context: Most tokens the model reads at once.
        window: The size asked for; the context when not given.
        stride: The stride asked for; half a window when not given.
        where: Whose settings they are, for messages: "evaluate".
        model: What messages call the model.

    Raises:
        ConfigError: The window is beyond the context, or the stride leaves nothing in common.
    """
    size = context if window is None else window
    if size > context:
        raise ConfigError(f"{where}.window={size}: {model} reads at most {context} tokens")
    step = max(size // 2, 1) if stride is None else stride
    if step >= size:
        raise ConfigError(
            f"{where}.stride={step}: expected less than the window of {size} tokens, so that the "
            "first token of a window has some before it"
        )
    return size, step


def windowed_lengths(
    stats: PoolStats, *, size: int, stride: int, max_length: int | None = None, overhead: int = 0
) -> tuple[Int1D, float]:
    """Lengths of the windows of a pool's samples, and how many windows each stands for.

    From the histogram of token counts; windows in which nothing counts are included.

    Args:
        stats: Sizes of the pool; its tokens may be another tokenizer's or an estimate.
        size: Most tokens of a window.
        stride: From one window's start to the next.
        max_length: Tokens a sample is cut at; None for no limit.
        overhead: Tokens the chat template and special tokens add to each sample.
    """
    lengths = typical_lengths(stats, overhead=overhead, max_length=max_length)
    # Windows of full size before the last one of each sample, which holds the rest.
    before = np.maximum(-(-(lengths - size) // stride), 0)
    whole = np.full(int(before.sum()), size)
    return np.concatenate([lengths - before * stride, whole]), stats.n / max(len(lengths), 1)


def micro_batches(
    lengths: Int1D, rows: Int1D, tokens_per_batch: int, *, least_share: float = LEAST_SHARE
) -> Iterator[Int1D]:
    """Rows grouped by length, longest first, so that a batch too large shows at once.

    A batch also ends where further samples would make more than a twentieth of it padding, once it
    holds a certain share of what it may: smaller batches cost less than padding.

    Args:
        lengths: Tokens of every sample.
        rows: The samples to group.
        tokens_per_batch: Most padded tokens of a batch; a longer sample is a batch of its own.
        least_share: The share of `tokens_per_batch` that a batch may reach with any padding.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    at = 0
    while at < len(order):
        longest = max(int(lengths[order[at]]), 1)
        most = order[at : at + max(1, tokens_per_batch // longest)]
        padded = longest * np.arange(1, len(most) + 1)
        wasteful = np.flatnonzero(
            (np.cumsum(lengths[most]) < (1 - MOST_PADDING) * padded)
            & (padded > least_share * tokens_per_batch)
        )
        size = int(wasteful[0]) if len(wasteful) and wasteful[0] else len(most)
        yield most[:size]
        at += size


def step_batches(lengths: Int1D, rows: Int1D, tokens_per_batch: int) -> list[Int1D]:
    """The samples of one optimizer step in micro-batches: the fewest with little padding.

    Of 8 samples, or 32, few are of like length: small batches may be padded only as far as the
    step as a whole keeps to `MOST_PADDING_OF_A_STEP`.

    Args:
        lengths: Tokens of every sample.
        rows: The step's samples.
        tokens_per_batch: Most padded tokens of a batch; a longer sample is a batch of its own.
    """
    tokens = int(lengths[rows].sum())
    for least_share in (LEAST_SHARE, LEAST_SHARE / 2, LEAST_SHARE / 4, LEAST_SHARE / 8, 0.0):
        batches = list(micro_batches(lengths, rows, tokens_per_batch, least_share=least_share))
        if padded_lengths(lengths, batches).tokens <= (1 + MOST_PADDING_OF_A_STEP) * tokens:
            break
    return batches


def shared_batches(lengths: Int1D, tokens_per_batch: int, *, devices: int = 1) -> list[list[Int1D]]:
    """The samples of one optimizer step in micro-batches, for each of several devices.

    The order inside a step changes nothing but rounding, so it is used against padding.

    Args:
        lengths: Tokens of the step's samples; those of 0 are in no batch.
        tokens_per_batch: Most padded tokens of a batch; a longer sample is a batch of its own.
        devices: Number of devices that share the step.
    """
    kept = np.flatnonzero(lengths)
    longest_first = kept[np.argsort(-lengths[kept], kind="stable")]
    return [
        step_batches(lengths, longest_first[device::devices], tokens_per_batch)
        for device in range(devices)
    ]


def padded_lengths(lengths: Int1D, batches: Iterable[Int1D]) -> Lengths:
    """Lengths of sequences as batches of them run, each padded to its longest."""
    ran = NOTHING
    for rows in batches:
        longest = int(lengths[rows].max(initial=1))
        ran += Lengths(len(rows), len(rows) * longest, float(len(rows) * longest**2))
    return ran


def executed_steps(steps: Iterable[Int1D], tokens_per_batch: int) -> Lengths:
    """Lengths of sequences as a training runs them, padding included.

    Args:
        steps: Tokens of the samples of each optimizer step.
        tokens_per_batch: Most padded tokens of a micro-batch.
    """
    ran = NOTHING
    for lengths in steps:
        places = np.arange(len(lengths))
        ran += padded_lengths(lengths, step_batches(lengths, places, tokens_per_batch))
    return ran


def executed_training(
    lengths: Int1D, *, n: float, batch_size: int, tokens_per_batch: int
) -> Lengths:
    """Lengths of `n` sequences as a training on random batches of them executes them.

    Args:
        lengths: Lengths that stand for all of them, such as `typical_lengths`.
        n: Number of sequences, over all epochs.
        batch_size: Samples per optimizer step.
        tokens_per_batch: Most padded tokens of a micro-batch.
    """
    size = min(batch_size, len(lengths))
    if not size:
        return NOTHING
    rng = np.random.default_rng(0)
    drawn = max(32, len(lengths) // size)
    # Mixed first: those that stand for a pool ascend, and `resize` takes the first of them.
    mixed = rng.permutation(np.resize(rng.permutation(lengths), drawn * size)).reshape(drawn, size)
    ran = executed_steps(mixed, tokens_per_batch)
    scale = n / (drawn * size)
    return Lengths(round(n), round(ran.tokens * scale), ran.squares * scale)


def executed(
    lengths: Int1D, *, scale: float, tokens_per_batch: int, rows: int
) -> tuple[Lengths, int]:
    """Lengths of sequences as they will run, padding included, and the tokens without it.

    Args:
        lengths: Lengths that stand for more of them, such as `typical_lengths`.
        scale: Number of sequences that each stands for.
        tokens_per_batch: Most padded tokens of a batch.
        rows: Sequences that are sorted together.
    """
    mixed = np.random.default_rng(0).permutation(lengths)
    tokens, squares = 0, 0.0
    for at in range(0, len(mixed), rows):
        part = mixed[at : at + rows]
        for group in micro_batches(part, np.arange(len(part)), tokens_per_batch):
            longest = int(part[group].max())
            tokens += len(group) * longest
            squares += float(len(group) * longest**2)
    whole = Lengths(round(len(lengths) * scale), round(tokens * scale), squares * scale)
    return whole, round(int(lengths.sum()) * scale)
