"""A pool known by its counts alone, for estimates without a file."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from didact.core.errors import ConfigError
from didact.core.pool import LENGTH_BINS, Kind, PoolStats

# Standard deviations of the logarithm of token counts. Measured: 0.98 over 153,961 instruction
# chats of 51 sources, 0.89 over 4,400 of them, 0.60 over 9,634 chunks of books, code and web text;
# 0.18 to 0.39 over the samples of one benchmark.
SPREAD_CHAT: Final = 1.0
SPREAD_TEXT: Final = 0.6
# The answers' share of the bytes: 0.25 and 0.47 in those chats, 0.38 and 0.56 in two benchmarks'.
LEARNED_CHAT: Final = 0.4


def stats_from_counts(
    samples: int,
    mean_tokens: float,
    kind: Kind = "chat",
    *,
    bytes_per_token: float = 4.0,
    spread: float | None = None,
    learned: float | None = None,
    tasks: int = 1,
) -> PoolStats:
    """Sizes of a pool of so many samples of so many tokens each, with log-normal lengths.

    Args:
        samples: Number of samples.
        mean_tokens: Tokens of a sample on average, template and special tokens included.
        kind: What the samples are.
        bytes_per_token: UTF-8 bytes of a token: about 4 in English.
        spread: Standard deviation of the logarithm of lengths; 0 for equal lengths. By default
            1.0, of raw text 0.6, which is typical of pools of several sources.
        learned: Share of the bytes that a trainer learns; by default 0.4, of raw text 1.
        tasks: Number of target tasks, for a target set.

    Raises:
        ConfigError: A number is not positive, or no length of a sample.
    """
    for name, value in (("samples", samples), ("mean_tokens", mean_tokens),
                        ("bytes_per_token", bytes_per_token), ("tasks", tasks)):  # fmt: skip
        if not 0 < value < math.inf:
            raise ConfigError(f"{name}={value}: expected a number above 0")
    if samples != int(samples) or tasks != int(tasks):
        raise ConfigError(f"samples={samples}, tasks={tasks}: expected whole numbers")
    if not 1 <= mean_tokens < 2 ** (LENGTH_BINS / 3):
        raise ConfigError(
            f"mean_tokens={mean_tokens}: expected the tokens of one sample, 1 to "
            f"{2 ** (LENGTH_BINS // 3):,}; the pool has samples × mean_tokens of them"
        )
    if spread is None:
        spread = SPREAD_TEXT if kind == "text" else SPREAD_CHAT
    if not 0 <= spread <= 3:
        raise ConfigError(f"spread={spread}: expected 0 (equal lengths) to 3; 1.0 is typical")
    if learned is None:
        learned = 1.0 if kind == "text" else LEARNED_CHAT
    if not 0 <= learned <= 1:
        raise ConfigError(f"learned={learned}: expected a share of the bytes, 0 to 1")
    n_tokens = round(samples * mean_tokens)
    return PoolStats(
        n=int(samples),
        n_bytes=round(n_tokens * bytes_per_token),
        n_tokens=n_tokens,
        token_lengths=_log_normal(int(samples), mean_tokens, spread),
        tasks=tuple(f"task {i + 1}" for i in range(int(tasks))) if tasks > 1 else ("",),
        kind=kind,
        learned=learned,
    )


def _log_normal(n: int, mean: float, spread: float) -> tuple[int, ...]:
    """64 counts that sum to `n`, in the bins of `PoolStats.token_lengths`."""
    if spread == 0:
        place = min(int(3 * math.log2(mean)), LENGTH_BINS - 1)
        return tuple(n * (i == place) for i in range(LENGTH_BINS))
    curve = NormalDist(math.log(mean) - spread**2 / 2, spread)
    below = [curve.cdf((i + 1) / 3 * math.log(2)) for i in range(LENGTH_BINS - 1)]
    ends = np.rint(n * np.array([0.0, *below, 1.0])).astype(np.int64)
    return tuple(np.diff(ends).tolist())
