"""Shared runs of words with held-out texts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from didact.text import overlap
from didact.text.overlap import overlap_with
from didact.text.words import word_strings


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


@pytest.mark.parametrize(("alphabet", "enough"), [("กขคงจ", 52), ("東京都北南", 26)])
def test_a_character_is_part_of_a_word_where_there_are_no_spaces(
    alphabet: str, enough: int
) -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list(alphabet), 100))
    find = overlap_with([strings(text)])
    found = find(strings(f"{text[20 : 20 + enough - 1]} a", f"a {text[20 : 20 + enough]}"))
    assert found == [(1, " ".join(text[20 : 20 + enough]))]


def test_scripts_mixed() -> None:
    find = overlap_with([strings("one two 東京都 three กขคงจฉ ok")], n=4)
    texts = strings("two 東京都 three", "東京都 three กขคงจ", "no 東京都 three กขคงจฉ no")
    assert find(texts) == [(2, "東 京 都 three ก ข ค ง จ ฉ")]  # 3 · ½ + 1 + 6 · ¼
    find = overlap_with([strings("กขค a b c d")], n=4)  # the last may be more than is missing
    assert find(strings("กขค a b c e", "กขค a b c d e")) == [(1, "ก ข ค a b c d")]


def test_short_texts_without_spaces_are_compared_as_a_whole() -> None:
    find = overlap_with([strings("ก" * 51, "東京タワー")])
    assert find(strings("ก" * 51, "ก" * 50, "ก" * 52, "東京タワー。", "東京タワー 東")) == [
        (0, " ".join("ก" * 51)),
        (3, "東 京 タ ワ ー"),
    ]


@pytest.mark.parametrize("block", [1, 3, 16, 1 << 14])
def test_runs_are_exact_in_every_mixture(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_BLOCK", block)
    quarters = {"ก": 1, "ข": 1, "東": 2, "京": 2, "😀": 4}
    rng = np.random.default_rng(5)
    pieces = np.array(["ก", "ข", "東", "京", "😀", " a ", " b "])
    texts = [
        "".join(rng.choice(pieces[scripts], rng.integers(0, 20)))
        for scripts in ([0, 1], [2, 3], [5, 6], [0, 1, 2, 3, 4, 5, 6]) * 40
    ]

    def runs(text: str, n: int) -> list[tuple[str, ...]]:
        words = word_strings(text)
        weight = np.cumsum([0, *(quarters.get(w, 4) for w in words)])
        if weight[-1] < 4 * n:
            return [("whole", *words)] if words else []
        ends = np.searchsorted(weight, weight + 4 * n)
        return [tuple(words[i:end]) for i, end in enumerate(ends) if end < len(weight)]

    for n in (1, 2, 3):
        held_out, pool = [*texts[:12:2], ""], texts[12:]
        known = {run for text in held_out for run in runs(text, n)}
        found = [(row, [r for r in runs(text, n) if r in known]) for row, text in enumerate(pool)]
        expected = [(row, " ".join(w for w in f[0] if w != "whole")) for row, f in found if f]
        assert 0 < len(expected) < len(pool)
        assert overlap_with([strings(*held_out)], n=n)(strings(*pool)) == expected


@pytest.mark.parametrize("language", ["en", "th", "zh"])
def test_paragraphs_of_other_articles_do_not_overlap(language: str, real_data: Path) -> None:
    with zstandard.open(
        real_data / "multilingual_paragraphs.jsonl.zst", "rt", encoding="utf-8"
    ) as lines:
        rows = [row for row in map(json.loads, lines) if row["source"] == language]
    articles = sorted({row["meta"]["article"] for row in rows})
    half = set(articles[::2])
    held_out = [row["text"] for row in rows if row["meta"]["article"] in half]
    pool = [row["text"] for row in rows if row["meta"]["article"] not in half]
    find = overlap_with([strings(*held_out)])
    assert find(strings(*pool)) == []
    sentence = held_out[0][60:260]  # some 30 English words, 50 Thai ones, 100 Chinese ones
    assert [row for row, _ in find(strings(pool[0] + sentence, pool[1]))] == [0]
