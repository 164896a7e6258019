"""Hashed n-grams and log importance weights, against lists of words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from didact.text.importance import NGrams, count, log_ratio, weigh
from didact.text.words import word_strings

TEXTS = [
    "The cat saw the dog; the dog saw the cat.",
    "",
    "word",
    "?!",
    "the cat",
    "القطة تجلس على السجادة",
    "Кошка сидит на коврике, а кошка спит.",
    "def add(a, b): return a + b",
    None,
    "four 4 four 4 four",
    "word",
]


def array(texts):
    return pa.array(texts, pa.large_string())


def grams(text, order):
    words = word_strings(text or "")
    return Counter(
        tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1)
    )


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_as_many_ngrams_of_each_kind_as_in_lists(order):
    """With 2²⁰ buckets the few n-grams here do not meet."""
    ngrams = NGrams(order, 1 << 20)
    for text in TEXTS:
        found = count(array([text]), ngrams)
        assert sorted(found[found > 0]) == sorted(grams(text, order).values())
    together = count(array(TEXTS), ngrams)
    alone = sum(count(array([text]), ngrams) for text in TEXTS)
    assert (together == alone).all()  # no n-gram reaches into the next text


@pytest.mark.parametrize("features", ["words", "released"])
def test_a_sum_is_that_of_the_counts_wherever_the_text_stands(features):
    ngrams = NGrams(3, 500, features)
    ratios = np.random.default_rng(0).normal(size=(2, 500))
    sums, words, n_grams = weigh(array(TEXTS), ngrams, ratios)
    for row, text in enumerate(TEXTS):
        counts = count(array([text]), ngrams)
        np.testing.assert_allclose(sums[row], ratios @ counts, rtol=0, atol=1e-12)
        assert n_grams[row] == counts.sum()
        alone, _, _ = weigh(array([text]), ngrams, ratios)
        assert (alone[0] == sums[row]).all()
    assert words[TEXTS.index("the cat")] == 2
    assert (sums[[1, 8]] == 0).all()


def test_scripts_without_spaces_are_runs_of_characters():
    """Thai words of three letters, Chinese of two: what retrieval by words takes, too."""
    thai, chinese = "กขคง", "甲乙丙"
    for text, terms in ((thai, 2), (chinese, 2)):
        assert count(array([text]), NGrams(1, 100)).sum() == terms


def test_more_rows_than_are_looked_at_together():
    texts = array([f"row {i}" for i in range(5000)])
    ngrams = NGrams(2, 1000)
    sums, words, _ = weigh(texts, ngrams, np.ones((1, 1000)))
    assert (sums == 3).all()
    assert (words == 2).all()
    assert count(texts, ngrams).sum() == 15_000


def test_buckets_are_filled_evenly():
    """Of 100,000 words in 1,000 buckets: χ² within 5 standard deviations of its mean."""
    found = count(array([" ".join(f"w{i}" for i in range(100_000))]), NGrams(1, 1000))
    chi_squared = ((found - 100) ** 2 / 100).sum()
    assert abs(chi_squared - 999) < 5 * np.sqrt(2 * 999)


def test_log_ratio_by_hand():
    found = log_ratio(np.array([3, 1, 0]), np.array([1, 1, 2]), 1e-8)
    expected = [np.log(3), 0.0, np.log(1e-8) - np.log(0.5)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    assert np.isfinite(log_ratio(np.array([1, 0]), np.array([0, 0]), 1e-8)).all()
