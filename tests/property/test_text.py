"""Laws of the text kernels, on any text."""

from __future__ import annotations

import re
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from didact.text import bm25
from didact.text.compression import compressed_sizes
from didact.text.overlap import overlap_with
from didact.text.words import count_words, hash_words, word_strings

# Letters of several scripts, punctuation, digits, spaces, anything else that UTF-8 can write.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("aAbB zZ_09.,;!?-'\n\t\0éßÀ×。、猫が「ไа́🎉—\u200d한"),
        st.characters(codec="utf-8"),
    ),
    max_size=60,
)
BATCHES = st.lists(TEXTS, max_size=12)
SHORT = st.lists(st.sampled_from(["a", "b", "c"]), max_size=9).map(" ".join)


def strings(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@given(BATCHES)
def test_hashes_stand_for_word_strings(texts: list[str]) -> None:
    found = hash_words(strings(texts))
    names = [word_strings(text) for text in texts]
    assert found.counts.tolist() == [len(n) for n in names] == count_words(strings(texts)).tolist()
    flat = [name for of_text in names for name in of_text]
    by_name = dict(zip(flat, found.hashes.tolist(), strict=True))
    assert [by_name[name] for name in flat] == found.hashes.tolist()
    assert len(set(by_name.values())) == len(by_name)


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_words_of_ascii_are_those_of_a_regular_expression(text: str) -> None:
    assert word_strings(text) == re.findall(r"[a-z0-9_]+", text.lower())


@given(TEXTS)
def test_words_are_parts_of_the_text_in_order(text: str) -> None:
    lower = pc.utf8_lower(pa.scalar(text, pa.large_string())).as_py()
    at = 0
    for word in word_strings(text):
        assert word
        at = lower.index(word, at) + len(word)


@given(BATCHES, st.data())
def test_a_text_has_the_same_words_in_any_batch(texts: list[str], data: st.DataObject) -> None:
    whole = hash_words(strings(texts))
    order = data.draw(st.permutations(range(len(texts))))
    moved = hash_words(strings([texts[i] for i in order]))
    for to, i in enumerate(order):
        here = moved.hashes[moved.offsets[to] : moved.offsets[to + 1]]
        assert here.tolist() == whole.hashes[whole.offsets[i] : whole.offsets[i + 1]].tolist()


@given(BATCHES)
def test_compressed_sizes_are_those_of_zlib(texts: list[str]) -> None:
    expected = [len(zlib.compress(text.encode(), 9)) for text in texts]
    assert compressed_sizes(strings(texts)).tolist() == expected


@given(st.lists(SHORT, max_size=4), st.lists(SHORT, max_size=6), st.integers(1, 5))
def test_overlap_is_a_shared_run_of_words(held_out: list[str], texts: list[str], n: int) -> None:
    def runs(text: str) -> list[tuple[str, ...]]:
        words = text.split()
        if len(words) < n:
            return [("whole", *words)] if words else []
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    known = {run for text in held_out for run in runs(text)}
    expected = [
        (row, " ".join(w for w in next(r for r in runs(text) if r in known) if w != "whole"))
        for row, text in enumerate(texts)
        if known & set(runs(text))
    ]
    assert overlap_with([strings(held_out)], n=n)(strings(texts)) == expected


@given(
    st.lists(SHORT, min_size=1, max_size=10),
    st.lists(SHORT, min_size=1, max_size=3),
    st.integers(1, 10),
    st.sampled_from(["okapi", "lucene"]),
)
def test_bm25_does_not_depend_on_batches_and_scores_only_shared_words(
    documents: list[str], queries: list[str], batch: int, variant: bm25.Variant
) -> None:
    asked = bm25.Queries.of([(strings(queries), np.arange(len(queries)))], len(queries))

    def score(size: int) -> np.ndarray:
        parts = [strings(documents[at : at + size]) for at in range(0, len(documents), size)]
        totals = bm25.Totals(asked.among)
        for part in parts:
            for counts in bm25.count_batch(part, asked.among, vocabulary=variant == "okapi"):
                totals.add(counts)
        fitted = bm25.statistics(totals, variant, k1=1.5, b=0.75, epsilon=0.25)
        return np.concatenate([bm25.score_batch(part, asked, fitted) for part in parts])

    found = score(len(documents))
    assert score(batch).tobytes() == found.tobytes()
    assert np.isfinite(found).all()
    for i, document in enumerate(documents):
        for k, query in enumerate(queries):
            if not set(document.split()) & set(query.split()):
                assert found[i, k] == 0
            elif variant == "lucene":
                assert found[i, k] > 0
