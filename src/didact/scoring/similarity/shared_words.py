"""Whether pool and target share words at all: where they do not, closeness is an accident."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import UInt64s
from didact.core.pool import Pool
from didact.core.sample_field import SampleField
from didact.core.sampling import drawable_rows, shuffled_rows, within_bytes
from didact.text.words import hash_words

_SAMPLED: Final = 2000  # rows of the pool that are looked at for the target's words
_FEW: Final = 0.1  # share of them in these rows, below which the two are hardly of one language


def words_of_sample(pool: Pool, field: SampleField, key: int) -> UInt64s:
    """The distinct words of a sample of the pool, ascending: rows drawn by their content.

    Args:
        pool: The pool.
        field: The field of its samples.
        key: What the draw depends on beside the content, as of `random_key`.
    """
    rows = within_bytes(pool, shuffled_rows(pool, drawable_rows(pool), key)[:_SAMPLED])
    return np.unique(hash_words(pool.read(np.sort(rows), [field]).column(0)).hashes)


def words_known(texts: pa.LargeStringArray, sampled: UInt64s) -> tuple[int, int]:
    """How many words of some texts are in the sample of the pool, and how many they have."""
    words = hash_words(texts).hashes
    return int(np.isin(words, sampled).sum()), len(words)


def note_on_words(known: float, accidents: str) -> str:
    """That a target has hardly any word that the pool has; else "".

    Args:
        known: Share of the target's words that are in the sample of the pool.
        accidents: What a choice then goes by.
    """
    if known >= _FEW:
        return ""
    return (
        f"of the target's words {known:.0%} are in a sample of the pool: they hardly share a "
        f"language or a script, and what is chosen is chosen by {accidents}; give a "
        "target in the pool's language, or a pool that has the target's"
    )
