"""Sets of grams: what is in them, what is equal, what may be cut and joined."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from didact.text.gram_sets import BITS, GramSets, gram_sets, joined
from didact.text.ngrams import hash_grams


def sets(*texts: str | None) -> GramSets:
    return gram_sets(pa.array(texts, pa.large_string()))


def same(a: GramSets, b: GramSets) -> bool:
    return all(
        np.array_equal(getattr(a, k), getattr(b, k))
        for k in ("buckets", "offsets", "totals", "keys")
    )


def test_distinct_grams_and_all_of_them() -> None:
    found = sets("the cat and the cat", "", "!?", None, "cat")
    assert found.totals.tolist() == [9, 0, 0, 0, 1]
    assert found.counts.tolist() == [6, 0, 0, 0, 1]  # the cat and, the-cat cat-and and-the
    assert found.keys[1:4].tolist() == [0, 0, 0]
    assert found.buckets[-1] in found.buckets[:6]
    hashes = hash_grams(pa.array(["the cat and the cat"], pa.large_string())).hashes
    assert found.buckets[:6].tolist() == sorted({int(h) >> (64 - BITS) for h in hashes})


def test_keys_are_of_the_words() -> None:
    found = sets("A cat, a dog.", "a cat a dog", "a dog a cat", "a cat a")
    assert found.keys[0] == found.keys[1]
    assert len(np.unique(found.keys)) == 3


def test_a_text_does_not_depend_on_its_neighbors() -> None:
    texts = ["one two three", "", "猫は黒いです。", "แมวมีกี่ขา", "four five"] * 900  # two slices
    whole = sets(*texts)
    assert same(whole, joined([sets(*texts[:1001]), sets(*texts[1001:])]))
    rows = np.array([4499, 2, 0, 3, 3])
    assert same(whole.take(rows), sets(*(texts[row] for row in rows)))
    assert same(joined([]), sets())


def test_scripts_without_spaces_share_runs_and_not_single_characters() -> None:
    both = [set(sets(text).buckets.tolist()) for text in ("แมวมีกี่ขา", "สุนัขมีกี่ขา", "ขา ที่ กี")]
    assert len(both[0] & both[1]) > 5
    assert not both[0] & both[2]
