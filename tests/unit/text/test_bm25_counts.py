"""BM25's counting: term frequencies, document frequencies, the vocabulary and its sample."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from didact.text import bm25
from didact.text.hash_set import HashSet
from didact.text.words import hash_words

DOCUMENTS = ["the cat the dog", "", "a dog", "the bird the bird the bird"]


def strings(*texts: str) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def word(name: str) -> int:
    return int(hash_words(strings(name)).hashes[0] >> np.uint64(12) << np.uint64(12))


def test_terms_are_counts_per_word_and_document() -> None:
    found = bm25.term_frequencies(hash_words(strings(*DOCUMENTS)))
    rows = np.repeat(found.words, found.df).tolist()
    triples = set(zip(rows, found.documents.tolist(), found.tf.tolist(), strict=True))
    expected = {
        (word(w), i, n)
        for i, text in enumerate(DOCUMENTS)
        for w, n in Counter(text.split()).items()
    }
    assert triples == expected
    assert (np.diff(found.words.astype(object)) > 0).all()


def test_a_query_counts_its_repeated_words_and_tasks_add_up() -> None:
    batches = [(strings("cat cat dog"), np.array([1])), (strings("dog", "cat"), np.array([0, 1]))]
    queries = bm25.Queries.of(batches, 2)
    at = {w: int(queries.among.find(np.array([word(w)], np.uint64))[0]) for w in ("cat", "dog")}
    assert queries.counts.shape == (2, 2)
    assert queries.counts[:, at["cat"]].tolist() == [0, 3]
    assert queries.counts[:, at["dog"]].tolist() == [1, 1]


@pytest.mark.parametrize("vocabulary", [True, False])
def test_pass_one(vocabulary: bool) -> None:  # noqa: FBT001
    among = HashSet(np.sort(np.array([word("the"), word("dog"), word("never")], np.uint64)))
    totals = bm25.Totals(among)
    for text in (strings(*DOCUMENTS[:3]), strings(), strings(DOCUMENTS[3])):
        for counts in bm25.count_batch(text, among, vocabulary=vocabulary):
            totals.add(counts)
    assert (totals.documents, totals.n_words) == (4, 12)
    df = {w: int(totals.df[among.find(np.array([word(w)], np.uint64))[0]]) for w in ("the", "dog")}
    assert df == {"the": 2, "dog": 2}
    assert totals.df.sum() == 4  # "never" occurs nowhere
    # the, cat, dog, a, bird
    assert sorted(totals.vocabulary()[0].tolist()) == ([1, 1, 1, 2, 2] if vocabulary else [])


def test_more_than_4096_documents_in_a_batch() -> None:
    texts = strings(*(f"both w{i % 5000}" for i in range(9000)))
    among = HashSet(np.sort(np.array([word("both"), word("w3")], np.uint64)))
    totals = bm25.Totals(among)
    for counts in bm25.count_batch(texts, among, vocabulary=True):
        totals.add(counts)
    assert sorted(totals.df.tolist()) == [2, 9000]
    assert np.bincount(totals.vocabulary()[0]).tolist()[:3] == [0, 1000, 4000]
    queries = bm25.Queries.of([(strings("w3"), np.array([0]))], 1)
    fitted = bm25.statistics(totals_of(texts, queries), "lucene", k1=1.5, b=0.75, epsilon=0.25)
    assert np.flatnonzero(bm25.score_batch(texts, queries, fitted)[:, 0]).tolist() == [3, 5003]


def totals_of(texts: pa.LargeStringArray, queries: bm25.Queries) -> bm25.Totals:
    totals = bm25.Totals(queries.among)
    for counts in bm25.count_batch(texts, queries.among, vocabulary=False):
        totals.add(counts)
    return totals


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_a_large_vocabulary_is_sampled_alike_however_it_comes(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bm25, "VOCABULARY", 100)
    texts = [" ".join(f"w{j}" for j in range(i, i + 20)) for i in range(300)]
    among = HashSet(np.empty(0, np.uint64))
    totals = bm25.Totals(among)
    for at in range(0, 300, batch):
        for counts in bm25.count_batch(strings(*texts[at : at + batch]), among, vocabulary=True):
            totals.add(counts)
        if at % 50 == 0:
            totals.vocabulary()  # merging early must not change what is kept
    everything = Counter(w for text in texts for w in text.split())
    df, halvings = totals.vocabulary()
    small = [w for w in everything if word(w) < 1 << (64 - halvings)]
    assert halvings == 2  # 319 words: a half has 160 or so, a quarter 80 or so
    assert sorted(df.tolist()) == sorted(everything[w] for w in small)


def test_idf_formulas() -> None:
    # By hand for N = 10: log(9.5 / 1.5), log(5.5 / 5.5), log(0.5 / 10.5); and the 1 + of Lucene.
    assert bm25.okapi_idf([1, 5, 10], 10) == pytest.approx([1.845827, 0, -3.044522], abs=1e-6)
    assert bm25.lucene_idf([1, 5, 10], 10) == pytest.approx(
        [1.992430, 0.693147, 0.046520], abs=1e-6
    )
    floored = bm25.okapi_floor(np.array([1.0, 0.0, -3.0]), 2.0, 0.25)
    assert floored.tolist() == [1.0, 0.0, 0.5]
