"""The length of a sample: simple, free, and hard to beat for instruction data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sample_field import SampleField, check_sample_field
from didact.text.words import count_words

Unit = Literal["tokens", "words", "characters", "bytes"]

# Processor seconds a byte on one core of an AMD EPYC (Zen 3), rows of 600 bytes; only `estimate`
# uses them. Tokens were counted when the pool was read.
_SECONDS_PER_BYTE: dict[Unit, float] = {
    "tokens": 0.0, "words": 5.5e-9, "characters": 1e-9, "bytes": 1e-9
}  # fmt: skip


@method("length")
@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a sample is; the longest are preferred unless `prefer` says otherwise.

    Args:
        unit: `tokens` as the pool counts them (an estimate without a tokenizer), `words` of
            `didact.text.words`, Unicode `characters`, or UTF-8 `bytes`.
        prefer: Which end is better.
        field: `text` is the whole sample; parts of it cannot be counted in tokens.

    **Source:** Zhao et al. 2024, "Long Is More for Alignment" (arXiv:2402.04833): the longest
    completions as a baseline.
    **Cost:** at most 4.5 ns a byte on one core; tokens and bytes of the text are already counted.
    """

    unit: Unit = "tokens"
    prefer: Literal["longest", "shortest"] = "longest"
    field: SampleField = "text"
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes times the rate of the unit."""
        del target
        return Cost(cpu_seconds=_SECONDS_PER_BYTE[self.unit] * pool.n_bytes)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check that the pool has the field and the unit."""
        del target, ctx
        check_sample_field(pool, self.field, "score.length.field")
        if self.unit == "tokens" and self.field != "text":
            raise ConfigError(
                f"score.length: tokens of the {self.field} are not counted; use unit=words, "
                "characters or bytes, or field=text"
            )
        better = self.prefer == "longest"
        if self.unit == "tokens":
            facts = {"tokens": pool.token_counter, "estimated": pool.tokens_are_estimated}
            score = partial(stored, column="n_tokens")
            return one_pass(score, ("n_tokens",), higher_is_better=better, facts=facts)
        if self.unit == "bytes" and self.field == "text":
            score = partial(stored, column="n_bytes")
            return one_pass(score, ("n_bytes",), higher_is_better=better)
        score = partial(measured, unit=self.unit)
        return one_pass(score, (self.field,), higher_is_better=better)


def stored(batch: pa.RecordBatch, *, column: str) -> npt.NDArray[np.float64]:
    """A length that the pool keeps."""
    lengths: npt.NDArray[np.float64] = batch.column(column).to_numpy().astype(np.float64)
    return lengths


def measured(batch: pa.RecordBatch, *, unit: Unit) -> npt.NDArray[np.float64]:
    """Words, characters or bytes of the batch's only column."""
    texts = batch.column(0)
    if unit == "words":
        return count_words(texts).astype(np.float64)
    count = pc.utf8_length if unit == "characters" else pc.binary_length
    lengths: npt.NDArray[np.float64] = count(texts).to_numpy().astype(np.float64)
    return lengths
