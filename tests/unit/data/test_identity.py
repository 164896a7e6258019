"""Copies, the validation split and the hashes met so far, against plain Python."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.errors import DataError
from didact.data.store import row_identity
from didact.data.store.row_identity import (
    Seen,
    among,
    copy_numbers,
    mixed,
    text_hashes,
    validation_split,
)

CONTENTS = st.lists(st.integers(0, 12) | st.integers(2**64 - 3, 2**64 - 1), max_size=60)


def array(values):
    return np.array(values, dtype=np.uint64)


def test_mixed_matches_splitmix64():
    # First outputs of splitmix64 seeded with 0 and 1234567, from Rosetta Code "Pseudo-random
    # numbers/Splitmix64" (which states 1234567's) and the Java SplittableRandom for 0.
    gamma = 0x9E3779B97F4A7C15
    states = array([(1234567 + gamma * i) % 2**64 for i in range(5)])
    assert mixed(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    assert int(mixed(array([0]))[0]) == 0xE220A8397B1DCDAF


@given(CONTENTS)
def test_copies_count_from_one_in_row_order(contents):
    met: Counter[int] = Counter()
    expected = []
    for group in contents:
        met[group] += 1
        expected.append(met[group])
    assert copy_numbers(array(contents)).tolist() == expected


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=12))
def test_seen(batches):
    seen, met = Seen(), set()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value in met)
            met.add(value)
        assert seen.repeats(array(batch)).tolist() == expected


def test_seen_keeps_few_arrays():
    seen = Seen()
    for i in range(500):
        seen.repeats(np.arange(i * 10, i * 10 + 10, dtype=np.uint64))
    assert len(seen._runs) <= 10
    assert sum(map(len, seen._runs)) == 5000


@given(CONTENTS.filter(bool), st.integers(1, 30), st.integers(0, 3), st.booleans())
def test_validation_split(contents, amount, seed, dedup):
    hashed = array(contents)
    counted = (copy_numbers(hashed) == 1) | (not dedup)
    n = int(counted.sum())
    if amount >= n:
        with pytest.raises(DataError, match="ask for fewer"):
            validation_split(hashed, counted, amount, seed)
        return
    try:
        held = validation_split(hashed, counted, amount, seed)
    except DataError:  # the copies of the rows drawn are all the rest
        assert not dedup
        return
    assert 0 < held.sum() < len(contents)
    assert not set(hashed[held].tolist()) & set(hashed[~held].tolist())
    reached = int((held & counted).sum())
    most = max(Counter(contents).values()) - 1
    assert reached == amount if dedup else amount <= reached <= amount + most
    moved = np.random.default_rng(0).permutation(len(contents))
    counted = (copy_numbers(hashed[moved]) == 1) | (not dedup)
    assert np.array_equal(validation_split(hashed[moved], counted, amount, seed), held[moved])


def test_a_share_is_of_all_rows_and_floored():
    contents = np.arange(100, dtype=np.uint64)
    everyone = np.ones(100, bool)
    for share, expected in ((0.0, 0), (0.29, 29), (0.001, 0), (0.999, 99)):
        assert validation_split(contents, everyone, share, 0).sum() == expected


def test_a_split_that_leaves_nothing():
    same = np.zeros(10, np.uint64)
    with pytest.raises(DataError, match="ask for fewer"):
        validation_split(same, np.ones(10, bool), 1, 0)


def test_text_hashes_of_slices():
    texts = pa.array(["a", "", "猫", "b" * 1000, "a"])
    whole = text_hashes(texts)
    assert whole[0] == whole[4]
    assert len(set(whole.tolist())) == 4
    assert text_hashes(texts.slice(2)).tolist() == whole[2:].tolist()
    assert text_hashes(texts.slice(1, 0)).tolist() == []
    assert text_hashes(pa.array([], pa.string())).tolist() == []
    # blake2b-64 of b"a", little endian; from Python's hashlib 3.11
    assert int(whole[0]) == int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little")


def test_copies_are_found_part_by_part_in_little_memory(monkeypatch):
    monkeypatch.setattr(row_identity, "_AT_ONCE", 2**12)
    n = 100_000
    contents = mixed(np.random.default_rng(0).integers(0, n // 3, n).astype(np.uint64))
    chosen = np.arange(n) % 97 == 5
    met = Counter[int]()
    expected = []
    for content in contents.tolist():
        met[content] += 1
        expected.append(met[content])
    tracemalloc.start()
    copies = copy_numbers(contents)
    held = among(contents, chosen)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert copies.tolist() == expected
    assert np.array_equal(held, np.isin(contents, contents[chosen]))
    assert peak < 32 * n
