"""What tells rows of nearly one text apart that teach opposites: labels, or which answer is better.

Two labelled answers are opposites when their labels differ. Two preference pairs are when what one
prefers is what the other rejects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from xxhash import xxh3_64_intdigest

from didact.data.formats import labelled
from didact.data.reading.json_rows import json_row
from didact.data.rows.labels import spelled
from didact.text.minhash import signatures

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from didact.core.arrays import Bool1D, Int1D, UInt32s
    from didact.core.pool import Kind, Pool

_EXACT: Final = 8  # bytes of a side that tell whether it is the same text
_GOOD: Final = np.uint32(1)
_CLEAR: Final = 2  # standard deviations of a difference that is chance


def keyed_by_label(keys: UInt32s, pool: Pool, rows: Int1D) -> UInt32s:
    """Keys `(bands, m)` of labelled rows, of which those of other labels are never equal."""
    columns = pool.meta["columns"]
    labels = (spelled(labelled.given(json_row(row)[0], columns)) for row in pool.records(rows))
    good = np.fromiter((label is True for label in labels), np.uint32, len(rows))
    return (keys & ~_GOOD) | good


def sides_shape(kind: Kind, permutations: int) -> tuple[int, int]:
    """The shape of the sides of one sample; only preference pairs have any."""
    return 2, _EXACT + permutations if kind == "pair" else 0


def sides_of(pool: Pool, rows: Int1D, ngram: int, permutations: int) -> npt.NDArray[np.uint8]:
    """The two answers of preference pairs, in short.

    Returns:
        `(m, *sides_shape)`, chosen before rejected: 8 bytes of a hash of the text, and a signature
        of its words and of its runs of words, half of it each.

    **Cost:** of pairs as signing the text; of others nothing.
    """
    if pool.kind != "pair":
        return np.empty((len(rows), *sides_shape(pool.kind, permutations)), np.uint8)
    both = pool.read(rows, ["chosen", "rejected"])
    return np.stack([_side(texts, ngram, permutations) for texts in both.columns], axis=1)


def _side(texts: pa.LargeStringArray, ngram: int, permutations: int) -> npt.NDArray[np.uint8]:
    exact = [xxh3_64_intdigest(text.strip().encode()) for text in texts.to_pylist()]
    hashed = np.array(exact, np.uint64).view(np.uint8).reshape(-1, _EXACT)
    # An edit of a short answer leaves none of its runs, but most of its words; of a long answer
    # whose words are those of every other the runs tell it apart.
    of_words = signatures(texts, 1, permutations // 2)
    of_runs = signatures(texts, ngram, permutations - permutations // 2)
    return np.concatenate([hashed, of_words.astype(np.uint8), of_runs.astype(np.uint8)], axis=1)


def agrees(one: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> Bool1D:
    """Whether pairs prefer the same: answers are nearer to those of their own side than crosswise.

    Answers that are the same text decide; where as many are on their own side as crosswise, the
    places of the signatures in which they agree. Where that is not clear, as of short answers that
    share nothing, pairs do not prefer the same: what is lost cannot be told from an opposite.

    Args:
        one: The sides of a pair, `(2, w)`.
        others: Those of others, `(k, 2, w)`; `w` is 0 of what are no pairs, which all agree.
    """
    if not one.size:
        return np.ones(len(others), np.bool_)
    straight, crossed = others == one, others == one[::-1]
    same, opposite = (given[..., :_EXACT].all(axis=2).sum(axis=1) for given in (straight, crossed))
    near, across = straight[..., _EXACT:], crossed[..., _EXACT:]
    only_near, only_across = (
        given.sum(axis=(1, 2), dtype=np.int64) for given in (near & ~across, across & ~near)
    )
    more = only_near - only_across
    clear = near.all(axis=(1, 2)) | (more > _CLEAR * np.sqrt(only_near + only_across))
    by_words = (more > 0) & clear
    either_way = same == len(one)  # both pairs are of one text alone
    found: Bool1D = np.where(same == opposite, either_way | by_words, same > opposite)
    return found
