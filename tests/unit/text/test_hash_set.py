"""The set that words and n-grams are looked up in."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from didact.core.hashing import mix
from didact.text import hash_set
from didact.text.hash_set import HashSet


def hashes(start: int, stop: int) -> np.ndarray:
    return mix(np.arange(start, stop, dtype=np.uint64))


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 40_000])
def test_members_are_found_and_others_are_not(size: int) -> None:
    members, others = np.sort(hashes(0, size)), hashes(size, size + 5000)
    found = HashSet(members)
    assert found.may_contain(members).all()
    assert found.find(members).tolist() == list(range(size))
    assert (found.find(others) == -1).all()
    # one bit in sixteen is set at most, so at most about 6 % of the others pass the bitmap
    assert found.may_contain(others).mean() < 0.1


def test_a_full_bitmap_still_finds_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_set, "_MOST_BITS", 3)
    members = np.sort(hashes(0, 500))
    found = HashSet(members)
    assert found.may_contain(members).all()
    assert (found.find(hashes(500, 900)) == -1).all()


def test_pickles_as_its_hashes() -> None:
    found = HashSet(np.sort(hashes(0, 3)))
    data = pickle.dumps(found)
    assert len(data) < 1000
    assert pickle.loads(data).find(found.hashes).tolist() == [0, 1, 2]  # noqa: S301
