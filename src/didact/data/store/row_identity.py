"""Who a row is: hashes of ids and contents, copies of a content, the validation split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Int1D, Int32s, UInt64s
from didact.core.errors import DataError
from didact.core.hashing import mix

_POSITION: Final = np.uint64(0xD1B54A32D192ED03)  # odd: distinct positions stay distinct
_AT_ONCE: Final = 2**18  # rows


def mixed(values: UInt64s) -> UInt64s:
    """A step of SplitMix64, a bijection: well-spread 64-bit hashes of 64-bit numbers.

    **Source:** Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", fig. 19.
    """
    return mix(values + np.uint64(0x9E3779B97F4A7C15))


def text_hashes(texts: pa.StringArray) -> UInt64s:
    """blake2b of each text's UTF-8 bytes, 64 bits, `(n,)`; never 0. Texts without nulls."""
    return _hashes(texts, np.arange(len(texts) + 1))


def _hashes(texts: pa.StringArray, bounds: Int1D) -> UInt64s:
    """blake2b of the bytes of texts `bounds[i]` to `bounds[i + 1]`, joined, for each `i`."""
    _, offset_buffer, data_buffer = texts.buffers()
    if data_buffer is None or offset_buffer is None:
        data, offsets = memoryview(b""), np.zeros(len(texts) + 1, np.int32)
    else:
        data = memoryview(data_buffer)
        offsets = np.frombuffer(offset_buffer, np.int32, len(texts) + 1, offset=4 * texts.offset)
    blake2b = hashlib.blake2b
    places = pairwise(offsets[bounds].tolist())
    digests = b"".join([blake2b(data[a:b], digest_size=8).digest() for a, b in places])
    return np.maximum(np.frombuffer(digests, np.uint64), 1)


def content_hashes(turns: pa.ListArray, beside: UInt64s) -> UInt64s:
    """64 bits that are equal for equal content, `(n,)`.

    Content is every turn's part, role, text and weight, their order, the label, and images and the
    like.

    Args:
        turns: The turns of `n` rows, at least one each.
        beside: A number for each row's label, images and the like, 0 for none, `(n,)`.
    """
    starts = turns.offsets.to_numpy().astype(np.int64)
    starts -= starts[0]
    turn = turns.flatten()
    texts = turn.field("content")
    roles = turn.field("role").dictionary_encode()
    role = text_hashes(roles.dictionary)[roles.indices.to_numpy()]
    branch = turn.field("part").to_numpy().astype(np.uint64)
    weight = turn.field("weight").to_numpy().view(np.uint32).astype(np.uint64)
    length = pc.binary_length(texts).to_numpy().astype(np.uint64)
    position = (np.arange(len(turn)) - np.repeat(starts[:-1], np.diff(starts))).astype(np.uint64)
    # The words of a row are hashed as one text; lengths say where its turns begin.
    kind = mixed(role ^ (branch << np.uint64(32)) ^ weight) + length
    frame = np.add.reduceat(mixed(kind + position * _POSITION), starts[:-1])
    return mixed(_hashes(texts, starts) + mixed(frame + mixed(beside)))


class Seen:
    """Hashes met so far, as a few sorted arrays that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[UInt64s] = []

    def repeats(self, hashes: UInt64s) -> Bool1D:
        """True where a hash was met before, earlier in this array or in an earlier call."""
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=bool)
        again[first] = False
        for run in self._runs:
            at = np.searchsorted(run, hashes)
            again |= run[np.minimum(at, len(run) - 1)] == hashes
        new = np.sort(hashes[~again])
        while len(new) and self._runs and 2 * len(new) > len(self._runs[-1]):
            new = np.concatenate([self._runs.pop(), new])
            new.sort()
        if len(new):
            self._runs.append(new)
        return again


def copy_numbers(contents: UInt64s) -> Int32s:
    """For each row, which copy of its content it is, from 1, in row order, `(n,)`.

    **Cost:** 13 bytes a row in memory, 25 where every row has a copy; 4 of them are what it gives.
    """
    out = np.ones(len(contents), dtype=np.int32)
    ordered = np.sort(contents)
    again = ordered[1:] == ordered[:-1]
    repeated = np.unique(ordered[1:][again])
    del ordered, again
    met = np.zeros(len(repeated), np.int32)
    for start, at, found in _found(contents, repeated):
        rows = np.flatnonzero(found)  # only rows with copies are counted
        order = rows[np.argsort(at[rows], kind="stable")]
        begins = np.flatnonzero(np.diff(at[order], prepend=-1))
        counts = np.diff(begins, append=len(order))
        place = np.arange(len(order)) - np.repeat(begins, counts) + 1
        which = at[order[begins]]
        out[start + order] = np.repeat(met[which], counts) + place
        met[which] += counts.astype(np.int32)
    return out


def among(contents: UInt64s, chosen: Bool1D) -> Bool1D:
    """The chosen rows and their copies, `(n,)`."""
    out = np.zeros(len(contents), dtype=bool)
    for start, _, found in _found(contents, np.unique(contents[chosen])):
        out[start : start + len(found)] = found
    return out


def _found(contents: UInt64s, some: UInt64s) -> Iterator[tuple[int, Int1D, Bool1D]]:
    """Part by part of the rows: the first of them, where each is among `some`, and which are.

    Args:
        contents: Of `n` rows.
        some: Distinct contents, ascending.
    """
    if not len(some):
        return
    for start in range(0, len(contents), _AT_ONCE):
        part = contents[start : start + _AT_ONCE]
        at = np.minimum(np.searchsorted(some, part), len(some) - 1)
        yield start, at, some[at] == part


def validation_split(contents: UInt64s, counted: Bool1D, amount: float, seed: int) -> Bool1D:
    """Rows set aside: every copy of a content, drawn by a hash of content and seed.

    Args:
        contents: Content hashes, `(n,)`.
        counted: The rows that count towards the amount, `(n,)`: all, or the first of each content.
        amount: A share of all rows below 1, or a number of rows.
        seed: Another seed draws another split.

    Returns:
        True on the rows set aside, `(n,)`: the amount (a share is floored) of the rows that count,
        more only by copies of the last one drawn, and all copies of them. Depends on contents,
        not on row order.

    Raises:
        DataError: Nothing would be left to select from.
    """
    n = len(contents)
    wanted = int(amount * n + 1e-9) if amount < 1 else int(amount)
    if wanted == 0:
        return np.zeros(n, dtype=bool)
    keys = mixed(contents ^ mixed(np.array([seed], dtype=np.uint64)))
    drawn = keys[counted]
    if wanted < len(drawn):
        set_aside: Bool1D = keys <= np.partition(drawn, wanted - 1)[wanted - 1]
        if not set_aside.all():
            return set_aside
    raise DataError(
        f"data.validation: {wanted} rows would be all of the pool, which has {len(drawn)} rows "
        f"that count, {n} with exact copies; ask for fewer"
    )
