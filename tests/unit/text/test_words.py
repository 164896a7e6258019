"""The word kernel: what a word is, and that hashes stand for words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from didact.text import words
from didact.text.buffers import utf8
from didact.text.words import count_words, hash_words, word_strings


def strings(*texts: str | None) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("don't a_b x2 3.14", ["don", "t", "a_b", "x2", "3", "14"]),
        ("", []),
        (" \t\n\0-–—…“”", []),
        ("ÉCOLE Straße ΑΒΓ Ёлка", ["école", "straße", "αβγ", "ёлка"]),
        ("吾輩は猫。", ["吾", "輩", "は", "猫"]),
        ("Pythonで書く", ["python", "で", "書", "く"]),
        ("「東京」、３月", ["東", "京", "３", "月"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("한국어 문장", ["한국어", "문장"]),  # Korean is written with spaces
        ("نص عربي، آخر؟", ["نص", "عربي", "آخر"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # the joiner stays inside the word
        ("नमस्ते। दुनिया", ["नमस्ते", "दुनिया"]),
        ("a😀b𠮷c", ["a", "😀", "b", "𠮷", "c"]),
        ("«Ünï» ≤ €5 →x", ["ünï", "5", "x"]),
    ],
)
def test_what_a_word_is(text: str, expected: list[str]) -> None:
    assert word_strings(text) == expected
    assert count_words(strings(text)).tolist() == [len(expected)]
    assert len(hash_words(strings(text)).hashes) == len(expected)


def test_some_of_the_words() -> None:
    text = "zero one two three four"
    assert word_strings(text, 1, 3) == ["one", "two"]
    assert word_strings(text, 3) == ["three", "four"]
    assert word_strings(text, 9) == []


def test_equal_words_have_equal_hashes_wherever_they_stand() -> None:
    long = "x" * 63
    found = hash_words(strings(f"cat abcdefgh abcdefghi {long}", "", f"({long}) CAT! abcdefghi"))
    first, second = found.hashes[:4], found.hashes[4:]
    assert found.offsets.tolist() == [0, 4, 4, 7]
    assert second.tolist() == first[[3, 0, 2]].tolist()


def test_words_that_differ_anywhere_have_other_hashes() -> None:
    # one changed letter at every place, and every length: around 8 bytes and around LONG
    seen = [("a" * n)[:at] + "b" + "a" * (n - at - 1) for n in range(1, 150) for at in range(n)]
    seen += ["a" * n for n in range(1, 150)]
    assert len(np.unique(hash_words(strings(" ".join(seen))).hashes)) == len(seen)


def test_words_do_not_run_from_one_text_into_the_next() -> None:
    together, apart = hash_words(strings("ab", "cd", "é", "東")), hash_words(strings("ab cd é 東"))
    assert together.offsets.tolist() == [0, 1, 2, 3, 4]
    assert together.hashes.tolist() == apart.hashes.tolist()


def test_slices_nulls_and_empty_batches() -> None:
    texts = strings("skip me", "one two", None, "three", "skip me too")
    part = texts.slice(1, 3)
    assert hash_words(part).offsets.tolist() == [0, 2, 2, 3]
    assert hash_words(part).hashes.tolist() == hash_words(strings("one two three")).hashes.tolist()
    assert hash_words(strings()).offsets.tolist() == [0]
    assert hash_words(strings(None)).offsets.tolist() == [0, 0]
    data, offsets = utf8(part)
    assert bytes(data) == b"one twothree"
    assert offsets.tolist() == [0, 7, 7, 12]


@pytest.mark.parametrize("piece", [4, 5, 7, 16, 64])
def test_where_pieces_are_cut_does_not_matter(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = strings(
        "Some words, 東京タワー and naïve façade 😀😀", "", "a" * 100, "、。x " * 9, "é"
    )
    whole = hash_words(texts)
    strings_ = [word_strings(t) for t in texts.to_pylist()]
    monkeypatch.setattr(words, "PIECE", piece)
    cut = hash_words(texts)
    assert cut.hashes.tolist() == whole.hashes.tolist()
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert count_words(texts).tolist() == whole.counts.tolist()
    assert [word_strings(t) for t in texts.to_pylist()] == strings_


def test_a_megabyte_without_a_space() -> None:
    blob = "x" * (1 << 20)
    found = hash_words(strings(blob, blob + "y"))
    assert found.offsets.tolist() == [0, 1, 2]
    assert found.hashes[0] != found.hashes[1]


def test_mix_is_splitmix64() -> None:
    # The first three outputs of SplitMix64 with seed 0, as published with the Java and C versions.
    state = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert words.mix(state).tolist() == expected


def test_hashes_stay_what_they_are() -> None:
    # Written down from this kernel (x86-64, little endian): the order in which BM25 sums, and so
    # the last bit of its scores, relies on them.
    found = hash_words(strings("the quick internationalization 猫", "z" * 70)).hashes
    assert [f"{h:016x}" for h in found.tolist()] == [
        "c3650d0a4e099481",
        "dfd8c9a517bbeb9b",
        "87f8263ec1ac7e25",
        "d05f5b9a4c704dc4",
        "bbfcdbca4a61fb54",
    ]
