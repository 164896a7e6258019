"""Compression ratio: how redundant each sample is on its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.cost import Cost
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.core.sample_field import SampleField, check_sample_field
from didact.text.compression import Codec, compressed_sizes, library, resolve_level, worth_counting

# Processor seconds a byte by codec and level (the nearest level below counts), on one core of an
# AMD EPYC (Zen 3), rows of 600 bytes, 2 ns for reading included; only `estimate` uses them.
_SECONDS_PER_BYTE: dict[Codec, dict[int, float]] = {
    "zlib": {1: 34e-9, 6: 38e-9},
    "isal": {0: 9e-9, 1: 19e-9},
    "zstd": {1: 13e-9, 3: 14e-9, 6: 25e-9, 9: 34e-9, 12: 63e-9, 15: 96e-9, 19: 160e-9},
}
# Where there is enough text sizes are counted, in 0.57 of the time of zlib 9, by a kernel that is
# loaded first.
_COUNTED_SECONDS_PER_BYTE: Final = 2e-9 + 0.57 * 36e-9
_KERNEL_SECONDS: Final = 0.6
_MISSING = "empty text: a compression ratio needs at least one byte"


@method("compression", libraries=("isal", "zstandard"))
@dataclass(frozen=True, kw_only=True)
class Compression:
    """Raw bytes ÷ compressed bytes of each sample by itself; lower is better.

    A high ratio means that the sample repeats itself: copied lines, boilerplate, loops of a model
    that got stuck. The entropy law (arXiv:2407.06645) finds that the less data compresses, the
    more a model gains from each byte. Two limits to know: a compressor needs a few hundred bytes
    to find anything, so *short samples have low ratios* (below 1 under about 40 bytes, where the
    container outweighs the gain); and a sample's own ratio says nothing of what it shares with
    other samples. An empty text is missing.

    Args:
        codec: `zlib` is the reference; `isal` writes the same format and `zstd` another one, both
            two to three times faster. Ratios differ by some per cent between codecs, levels and
            library versions, so the manifest keeps all three.
        level: The codec's own: zlib 1-9 (9), isal 0-3 (2), zstd 1-22 (3); default in brackets.
        field: The part of the sample to compress.

    **Source:** Yin et al. 2024, "Entropy Law" (arXiv:2407.06645), equation for the compression
    ratio R, here of single samples; DEFLATE by zlib (RFC 1950).
    **Cost:** about 38 ns a byte on one core for zlib 9, 14 for zstd 3, 19 for isal 2. From 200 MB
    of text on sizes of zlib 9 are counted, with the same result, where the extra `fast` is
    installed: 23.
    """

    codec: Codec = "zlib"
    level: int | None = None
    field: SampleField = "text"
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes times the rate of codec and level, or of counting."""
        del target
        rates = _SECONDS_PER_BYTE[self.codec]
        level = resolve_level(self.codec, self.level)
        if worth_counting(self.codec, level, pool.n_bytes):
            return Cost(cpu_seconds=_KERNEL_SECONDS + _COUNTED_SECONDS_PER_BYTE * pool.n_bytes)
        return Cost(cpu_seconds=rates[max(at for at in rates if at <= level)] * pool.n_bytes)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check level and field; note the library's version."""
        del target, ctx
        check_sample_field(pool, self.field, "score.compression.field")
        level = resolve_level(self.codec, self.level)
        facts = {"codec": self.codec, "level": level, "library": library(self.codec)}
        counted = worth_counting(self.codec, level, int(pool.n_bytes.sum()))
        score = partial(ratios, codec=self.codec, level=level, counted=counted)
        return one_pass(score, (self.field,), higher_is_better=False, facts=facts)


def ratios(
    batch: pa.RecordBatch, *, codec: Codec, level: int, counted: bool = False
) -> BatchScores:
    """Compression ratio of each text in the batch's only column; empty texts are missing."""
    texts = batch.column(0)
    raw = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    values = raw / compressed_sizes(texts, codec, level, counted=counted)
    missing = {int(row): _MISSING for row in np.flatnonzero(raw == 0)}
    return BatchScores(values.reshape(-1, 1), missing=missing)
