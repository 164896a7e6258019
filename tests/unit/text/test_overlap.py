"""Shared runs of words with held-out texts."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from didact.text import overlap
from didact.text.overlap import overlap_with


def strings(*texts: str) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def numbered(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


def test_thirteen_words_overlap_and_twelve_do_not() -> None:
    find = overlap_with([strings(numbered(*range(30)))])
    texts = strings(
        "something " + numbered(*range(5, 17)) + " else",  # 12 words in a row
        "Something: " + numbered(*range(5, 18)).upper().replace(" ", ", ") + "; else",  # 13
        numbered(*range(5, 17), *range(18, 29)),
        "",
    )
    assert find(texts) == [(1, numbered(*range(5, 18)))]


def test_the_first_shared_run_is_told() -> None:
    find = overlap_with([strings("a b c d", "x y z")], n=3)
    assert find(strings("q x y z a b c d", "b c d", "z a b")) == [(0, "x y z"), (1, "b c d")]


def test_a_run_does_not_reach_into_the_next_text() -> None:
    find = overlap_with([strings("a b c d")], n=3)
    assert find(strings("q a b", "c d q")) == []
    # nor is one made of the end of one held-out text and the beginning of the next
    assert overlap_with([strings("q a b", "c d q")], n=3)(strings("a b c d")) == []


def test_short_texts_are_compared_as_a_whole() -> None:
    find = overlap_with([strings("Two words", "one two three four", "...", "")], n=3)
    texts = strings("two WORDS!", "two words more", "words", "one two", "", "?!", "two two words")
    assert find(texts) == [(0, "two words")]


def test_long_texts_beyond_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_BLOCK", 10)
    find = overlap_with([strings(numbered(*range(300, 313)))])
    for before in range(25):
        text = numbered(*range(before), *range(300, 313), 7, 8)
        assert find(strings("", text)) == [(1, numbered(*range(300, 313)))]


def test_batches_of_held_out_texts_add_up_and_it_survives_pickling() -> None:
    find = overlap_with([strings("a b c"), strings(), strings("d e f", "g")], n=3)
    again = pickle.loads(pickle.dumps(find))  # noqa: S301
    assert again(strings("d e f", "x a b c", "G.")) == [(0, "d e f"), (1, "a b c"), (2, "g")]
    assert again(strings()) == []


def test_nothing_held_out_overlaps_with_nothing() -> None:
    assert overlap_with([])(strings("a", numbered(*range(40)))) == []
