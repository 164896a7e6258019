"""N-grams of words: runs of any length, and 1- and 2-grams against a list of strings."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from didact.text.ngrams import hash_grams, ngram_hashes, run_hashes
from didact.text.words import hash_words, word_strings

TEXTS = [
    "The cat saw the dog; the dog saw The CAT.",
    "",
    "word",
    "?!",
    "the cat",
    "cat the",
    "猫の足は何本ですか。",
    "four 4 four 4 four",
    "q" * 100 + " " + "q" * 100,
]


def naive(text):
    """First word, first pair, second word, …"""
    words = word_strings(text)
    out = []
    for i, word in enumerate(words):
        out.append((word,))
        out.append(tuple(words[i : i + 2]))
    return out[:-1]


def grams_of(texts):
    return hash_grams(pa.array(texts, pa.large_string()))


def test_as_many_and_the_same_ones_are_equal():
    grams = grams_of(TEXTS)
    wanted = [naive(text) for text in TEXTS]
    assert np.diff(grams.offsets).tolist() == [len(w) for w in wanted]
    flat = [gram for text in wanted for gram in text]
    assert len(flat) == len(grams.hashes)
    of = dict(zip(flat, grams.hashes.tolist(), strict=True))
    assert [of[gram] for gram in flat] == grams.hashes.tolist()
    assert len(set(of.values())) == len(of)


def test_the_lowest_bit_tells_pairs_from_words():
    grams = grams_of(TEXTS)
    sizes = [len(gram) for text in TEXTS for gram in naive(text)]
    assert (grams.hashes & np.uint64(1)).tolist() == [size - 1 for size in sizes]


def test_a_text_has_its_grams_whatever_is_around_it():
    together = grams_of(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = grams_of([text])
        inside = together.hashes[together.offsets[i] : together.offsets[i + 1]]
        assert alone.hashes.tolist() == inside.tolist()


def test_no_texts_and_texts_without_words():
    assert grams_of([]).offsets.tolist() == [0]
    nothing = grams_of(["", "...", ""])
    assert nothing.offsets.tolist() == [0, 0, 0, 0]
    assert len(nothing.hashes) == 0


def test_a_character_of_a_script_without_spaces_is_a_word():
    grams = grams_of(["北京大学", "北京"])
    first, second = (
        set(grams.hashes[a:b].tolist())
        for a, b in zip(grams.offsets[:-1], grams.offsets[1:], strict=True)
    )
    assert len(first) == 7
    assert second < first


def strings(*texts: str) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def numbered(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13, 64])
def test_runs_of_equal_words_have_equal_hashes_and_others_do_not(n: int) -> None:
    words = hash_words(strings(numbered(*range(200)) + " " + numbered(*range(n)))).hashes
    hashes = ngram_hashes(words, n)
    assert len(hashes) == 200 + n - n + 1
    assert hashes[0] == hashes[-1]
    assert len(set(hashes.tolist())) == len(hashes) - 1


def test_the_order_of_words_matters() -> None:
    a, b = (ngram_hashes(hash_words(strings(t)).hashes, 3) for t in ("a b c", "a c b"))
    assert a[0] != b[0]


def test_too_few_words_have_no_ngram() -> None:
    assert len(ngram_hashes(hash_words(strings("one two")).hashes, 3)) == 0


def test_runs_of_any_length_are_hashed_like_n_grams() -> None:
    words = hash_words(strings(numbered(*range(400)))).hashes
    for n in (1, 2, 13, 60):
        ends = np.arange(n, len(words) + 1)
        assert run_hashes(words, ends).tolist() == ngram_hashes(words, n).tolist()
    ends = np.minimum(np.arange(400) % 7 + np.arange(1, 401), 400)
    expected = [ngram_hashes(words[i:end], end - i)[0] for i, end in enumerate(ends.tolist())]
    assert run_hashes(words, ends).tolist() == expected
    assert len(run_hashes(words[:0], ends[:0])) == 0
