"""MinHash: short signatures whose agreement estimates how much of their word runs texts share."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt32s, UInt64s
from didact.core.hashing import mix
from didact.text.ngrams import ngram_hashes
from didact.text.words import hash_words

RECALL: Final = 0.99  # of pairs at the threshold, that share a band
_SEED: Final = 42
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


def shingles(texts: pa.LargeStringArray, n: int) -> tuple[UInt64s, Int1D]:
    """Hashes of the runs of n words of each text, repeats included.

    A text of fewer than n words has one run, all of its words; a text without words has none.
    Words are those of `didact.text.words`: case and punctuation are ignored, and scripts without
    spaces give one word per character.

    Returns:
        Hashes `(m,)` and offsets `(len(texts) + 1,)`.

    **Cost:** about 10 ns a byte on one core; memory 40 bytes a word.
    """
    words = hash_words(texts)
    counts = words.counts
    length = np.where(counts > 0, np.maximum(counts, n), 0)  # short texts are filled with zeros
    offsets = _running(length)
    filled = np.zeros(int(offsets[-1]), np.uint64)
    shift = np.repeat(offsets[:-1] - words.offsets[:-1], counts)
    filled[np.arange(len(words.hashes)) + shift] = words.hashes
    runs = ngram_hashes(filled, n)
    left = np.repeat(offsets[1:], length)[: len(runs)] - np.arange(len(runs))
    return mix(runs[left >= n]), _running(np.maximum(length - (n - 1), 0))


def signatures(texts: pa.LargeStringArray, n: int, permutations: int) -> UInt32s:
    """MinHash signatures of texts over their runs of n words.

    Two texts agree in a place with the probability of their sets' Jaccard similarity. A text
    without words has the largest number in every place.

    Args:
        texts: `m` texts.
        n: Words of a run, ≥ 1.
        permutations: Places of a signature.

    Returns:
        uint32 `(m, permutations)`; the same on every machine for one major version of rensa's
        algorithm.

    **Source:** Broder 1997, "On the resemblance and containment of documents"; the library rensa
    computes it by fast similarity sketching (Dahlgaard, Knudsen, Thorup 2017, arXiv:1704.04370).
    **Cost:** about 13 ns a byte and 0.1 µs a place on one core.
    """
    from rensa import RMinHash

    hashes, offsets = shingles(texts, n)
    # Arrays, not lists: rensa reads buffers of unsigned integers where they lie.
    offsets_u64 = offsets.astype(np.uint64)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets_u64, permutations, _SEED)
    return np.array(rows.to_rows(), np.uint32).reshape(len(texts), permutations)


def banding(similarity: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many places find similar pairs and few others.

    The longest bands with which a pair of this similarity agrees in all of one band with
    probability 0.99 or more, and no more of them than that takes.

    Returns:
        Bands and places of a band; their product is at most `permutations`.
    """
    for places in range(permutations, 0, -1):
        for bands in range(1, permutations // places + 1):
            if 1 - (1 - similarity**places) ** bands >= RECALL:
                return bands, places
    return permutations, 1


def band_keys(signed: UInt32s, bands: int, places: int) -> UInt32s:
    """One number per band that equal bands share, and other bands with probability 2⁻³².

    Args:
        signed: Signatures `(m, permutations)`.
        bands: Number of bands.
        places: Places of a signature in one band.

    Returns:
        uint32 `(bands, m)`.
    """
    keys = np.zeros((bands, len(signed)), np.uint64)
    for place in range(places):
        keys = mix(keys * _ODD + signed[:, place : bands * places : places].T)
    return (keys >> np.uint64(32)).astype(np.uint32)


def _running(sizes: Int1D) -> Int1D:
    """Offsets of pieces of these sizes."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
