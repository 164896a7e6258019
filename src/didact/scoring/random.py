"""Random scores: the baseline every method has to beat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.cost import Cost
from didact.core.hashing import mix
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted


@method("random")
@dataclass(frozen=True, kw_only=True)
class Random:
    """A uniform number in [0, 1) for every sample, drawn from the seed and the sample's id.

    A sample keeps its number when the pool is reordered or grows.

    **Source:** SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) of the id's hash and the seed.
    **Cost:** none to speak of; reads no text.
    """

    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """About 50 ns a row."""
        del target
        return Cost(cpu_seconds=50e-9 * pool.n)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Keep the seed."""
        del pool, target
        digest = hashlib.blake2b(f"random scores {ctx.seed}".encode(), digest_size=8).digest()
        score = partial(uniform, key=int.from_bytes(digest, "little"))
        return one_pass(score, ("id_hash",), facts={"seed": ctx.seed})


def uniform(batch: pa.RecordBatch, *, key: int) -> npt.NDArray[np.float64]:
    """53 random bits of each row's id and a 64-bit key, as a number in [0, 1), `(b,)`."""
    hashes = batch.column("id_hash").to_numpy().astype(np.uint64)
    bits = mix(mix(hashes) ^ np.uint64(key)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
