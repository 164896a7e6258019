"""MinHash signatures: of the right sets, and agreeing as often as the sets overlap."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from didact.text.minhash import band_keys, banding, shingles, signatures
from didact.text.words import word_strings

TEXTS = [
    "One two three four five six.",
    "",
    "short text",
    "?!",
    "five words are one run",
    "你好世界你好世界",
    "again and again and again and again and again",
    "Short text!",
]


def arrow(texts):
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize("n", [1, 2, 5])
def test_runs_are_those_of_each_text_alone(n):
    hashes, offsets = shingles(arrow(TEXTS), n)
    of_run = {}
    for i, text in enumerate(TEXTS):
        words = word_strings(text)
        expected = [tuple(words[k : k + n]) for k in range(max(len(words) - n + 1, bool(words)))]
        found = hashes[offsets[i] : offsets[i + 1]].tolist()
        assert len(found) == len(expected)
        for run, number in zip(expected, found, strict=True):
            assert of_run.setdefault(run, number) == number
    assert len(set(of_run.values())) == len(of_run)


def test_signatures_agree_as_often_as_sets_overlap():
    rng = np.random.default_rng(0)
    wrong = []
    for shared in (20, 60, 90, 99):
        for _ in range(20):
            pool = [f"w{w}" for w in rng.permutation(10_000)[: 200 - shared]]
            one, other = pool[:100], pool[100 - shared :]
            signed = signatures(arrow([" ".join(one), " ".join(other)]), 1, 256)
            wrong.append((signed[0] == signed[1]).mean() - shared / (200 - shared))
    assert abs(np.mean(wrong)) < 0.01
    assert np.abs(wrong).max() < 4 * 0.5 / np.sqrt(256)


def test_order_and_repeats_do_not_count_and_a_text_without_words_stands_apart():
    signed = signatures(arrow(["a b c", "c b a a", "", "..."]), 1, 32)
    assert np.array_equal(signed[0], signed[1])
    assert (signed[2:] == 2**32 - 1).all()
    assert not (signed[:2] == 2**32 - 1).any()
    assert signatures(arrow([]), 5, 32).shape == (0, 32)


def test_signatures_are_the_same_everywhere():
    # rensa 0.5.0, its algorithm version 2, on x86-64. Others would choose other rows.
    (signed,) = signatures(arrow(["didact decides what a language model should read"]), 5, 16)
    assert signed[:4].tolist() == [1461396826, 3731328350, 3136110433, 3333352005]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("permutations", [16, 128, 500])
def test_bands_are_the_longest_that_find_pairs_at_the_threshold(similarity, permutations):
    bands, places = banding(similarity, permutations)
    assert bands * places <= permutations

    def found(bands, places):
        return 1 - (1 - similarity**places) ** bands

    assert found(bands, places) >= 0.99
    assert bands == 1 or found(bands - 1, places) < 0.99
    assert places == permutations or found(permutations // (places + 1), places + 1) < 0.99


def test_equal_bands_have_equal_keys_and_others_do_not():
    rng = np.random.default_rng(1)
    signed = rng.integers(0, 2, (500, 10)).astype(np.uint32)  # few values: many equal bands
    keys = band_keys(signed, 3, 3)
    assert keys.shape == (3, 500)
    for band in range(3):
        of_band = {}
        for row in range(500):
            part = tuple(signed[row, 3 * band : 3 * band + 3].tolist())
            assert of_band.setdefault(part, keys[band, row]) == keys[band, row]
        assert len(set(of_band.values())) == 8
