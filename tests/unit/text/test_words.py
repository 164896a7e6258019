"""The word kernel: what a word is, and that hashes stand for words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from didact.text import words
from didact.text.buffers import utf8
from didact.text.words import (
    count_words,
    hash_terms,
    hash_weighted_words,
    hash_words,
    word_strings,
)


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
        # what joins and varies pictographs is no word, nor part of one
        ("a 👨\u200d👩\u200d👧 b", ["a", "👨", "👩", "👧", "b"]),
        ("☺\ufe0f❤\ufe0f\u200d🔥 ❤\ufe0f", ["🔥"]),
        ("ok👍🏽\u200dx", ["ok", "👍", "🏽", "x"]),
        ("🏴\U000e0067\U000e0062\U000e007f", ["🏴"]),
        ("1\ufe0f\u20e3 #\ufe0f\u20e3 one\u200d👨", ["1", "one", "👨"]),
        ("👩\u200d\u200c\u200d é\u200c\u200d👩", ["👩", "é", "👩"]),
        ("葛\U000e0100城 ก\u200cข", ["葛", "城", "ก", "ข"]),
        # but joiners are part of a word that has begun
        ("\u200dک\u200d \u200c a\u200d\u200cb", ["ک\u200d", "a\u200d\u200cb"]),
        ("क्\u200dष क्\u200cष", ["क्\u200dष", "क्\u200cष"]),
        ("ന്\u200d അവന്\u200dറെ", ["ന്\u200d", "അവന്\u200dറെ"]),
        ("ᠨᠢ\u180bᠭᠡ ᠬ\u180d\u180c", ["ᠨᠢ\u180bᠭᠡ", "ᠬ\u180d\u180c"]),
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
        "Some words, 東京タワー and naïve façade 😀😀", "", "a" * 100, "、。x " * 9, "é",
        "é\u200d", "👨 \u200dak", "می\u200cخوا b\u200d\u200d", "👩", "क्\u200d\u200cष x\u200c👨\u200d👩",
    )  # fmt: skip
    whole = hash_words(texts)
    strings_ = [word_strings(t) for t in texts.to_pylist()]
    monkeypatch.setattr(words, "PIECE", piece)
    cut = hash_words(texts)
    assert cut.hashes.tolist() == whole.hashes.tolist()
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert count_words(texts).tolist() == whole.counts.tolist()
    assert [word_strings(t) for t in texts.to_pylist()] == strings_


def terms_of(*texts: str) -> list[list[int]]:
    found = hash_terms(strings(*texts))
    return [part.tolist() for part in np.split(found.hashes, found.offsets[1:-1])]


def test_terms_are_words_where_there_are_spaces() -> None:
    texts = strings("The quick 3rd 👨\u200d👩, café", "", "한국어 문장 नमस्ते Ёлка")
    assert hash_terms(texts).hashes.tolist() == hash_words(texts).hashes.tolist()
    assert hash_terms(texts).offsets.tolist() == hash_words(texts).offsets.tolist()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("猫、犬", ["猫", "犬"]),  # alone: as it is
        ("อยาก ได้ ไป", ["อยา", "ยาก", "ได้", "ไป"]),
        ("ภาษาไทย3東京", ["ภาษ", "าษา", "ษาไ", "าไท", "ไทย", "3", "東京"]),
        ("ไทย東ab京都", ["ไทย", "東", "ab", "京都"]),
        ("😀😀東", ["😀", "😀", "東"]),
        ("ខ្មែរ ລາວ မြန်", ["ខ្ម", "្មែ", "មែរ", "ລາວ", "မြန", "ြန်"]),
    ],
)
def test_terms_without_spaces(text: str, terms: list[str]) -> None:
    assert terms_of(text) == [[h for (h,) in terms_of(*terms)]]


def test_single_characters_are_terms_of_their_own() -> None:
    assert len({h for (h,) in terms_of("東", "京", "東京", "京東", "ก", "กก", "กกก", "東東")}) == 8


ALPHABET = {"東": 2, "京": 2, "の": 2, "ー": 2, "ꀀ": 2, "𠮷": 2, "ก": 3, "ิ": 3, "้": 3, "ລ": 3,
            "်": 3, "😀": 1, "👨": 1, "a": 0, "é": 0, "7": 0, "ж": 0, "\u200d": 0, " ": 0, "。": 0,
            "\ufe0f": 0}  # fmt: skip


def slow_terms(text: str) -> list[str]:
    """Terms, one character after the other; runs of `sizes` and words are told apart by type."""
    found: list[tuple[int, str]] = []
    last = ""
    for at, letter in enumerate(text):
        c = letter
        if c == "\u200d":  # part of a word that has begun, unless a character that is one follows
            after = text[at:].lstrip(c)[:1]
            c = c if last in "aé7ж\u200d" and last and not ALPHABET.get(after) else " "
        size = ALPHABET[c]
        if c in " 。\ufe0f":
            last = ""
            continue
        if last and ALPHABET[last] == size and size != 1:
            found[-1] = (size, found[-1][1] + c)
        else:
            found.append((size, c))
        last = c
    terms = []
    for size, run in found:
        terms += [run] if not size else [run[i : i + size] for i in range(len(run) - size + 1)]
        terms += [run] if size > len(run) else []
    return terms


@pytest.mark.parametrize("piece", [4, 9, 23, 1 << 19])
def test_terms_are_exact_wherever_texts_and_pieces_are_cut(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "PIECE", piece)
    rng = np.random.default_rng(7)
    letters = np.array(list(ALPHABET))
    groups = [letters[:6], letters[6:11], letters[11:13], letters[13:], letters]
    texts = [
        "".join(
            "".join(rng.choice(groups[rng.integers(5)], rng.integers(1, 6)))
            for _ in range(rng.integers(0, 6))
        )
        for _ in range(300)
    ]
    number: dict[str, int] = {}
    for text, found in zip(texts, terms_of(*texts), strict=True):
        expected = slow_terms(text)
        assert len(found) == len(expected), text
        for term, hashed in zip(expected, found, strict=True):
            assert number.setdefault(term, hashed) == hashed, text
    assert len(set(number.values())) == len(number)


def test_what_a_word_counts_as() -> None:
    found, quarters = hash_weighted_words(strings("a東 ไท", "café 😀 ー3", ""))
    assert quarters.tolist() == [4, 2, 1, 1, 4, 4, 2, 4]
    assert found.offsets.tolist() == [0, 4, 8, 8]


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
