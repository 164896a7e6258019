"""Tokens and sentences, streams in pieces, and ARPA files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("numba")

from didact.core.errors import DataError
from didact.text.ngram_lm.arpa import read_arpa
from didact.text.ngram_lm.counting import Counts
from didact.text.ngram_lm.tokens import sentences_of, spelled
from didact.text.words import word_strings

ARPA = (Path(__file__).parents[2] / "reference" / "ngram_lm" / "order3.arpa").read_text()
SPEECH = (
    "The  Cat's mat.\n\n a\tb \nRésumé: 12_3",
    "",
    " \n\t",
    "من أجل\nсЛово 猫が好き ไทย",
    "def f(x):\n    return x\r\n",
    "x" * 100 + " </s> <unk> <s>",
)


def texts(*given):
    return pa.array(given, pa.large_string())


def with_blank(lines):
    return [line for line in lines if line]


@pytest.mark.parametrize("sentence", ["line", "text"])
def test_tokens_are_what_their_unit_says(sentence):
    units = {
        "words": word_strings,
        "whitespace": str.split,
        "characters": lambda s: [c if c != " " else "▁" for c in " ".join(s.split())],
    }
    for unit, tokens_of in units.items():
        expected = [
            with_blank(
                [" ".join(tokens_of(s)) for s in (t.split("\n") if sentence == "line" else [t])]
            )
            for t in SPEECH
        ]
        assert spelled(texts(*SPEECH), unit, sentence) == expected
        found = sentences_of(texts(*SPEECH), unit, sentence)
        lengths = np.diff(found.ends)
        for i, sentences in enumerate(expected):
            mine = lengths[found.texts[i] : found.texts[i + 1]]
            assert mine[mine > 0].tolist() == [len(s.split(" ")) for s in sentences]


@pytest.mark.parametrize("unit", ["words", "whitespace", "characters"])
def test_equal_tokens_have_equal_hashes_wherever_they_stand(unit):
    whole = sentences_of(texts(*SPEECH, *SPEECH), unit, "line")
    hashes = whole.hashes.reshape(2, -1)
    assert (hashes[0] == hashes[1]).all()
    apart = [sentences_of(texts(None, t)[1:], unit, "line").hashes for t in SPEECH]
    assert (np.concatenate(apart) == hashes[0]).all()
    strings = [
        token for t in spelled(texts(*SPEECH), unit, "line") for s in t for token in s.split()
    ]
    assert len(set(strings)) == len(set(hashes[0].tolist()))


def test_a_stream_counts_as_its_whole_does():
    rng = np.random.default_rng(0)
    lines = [
        " ".join(f"w{k}" for k in rng.zipf(1.3, rng.integers(0, 30)) % 500) for _ in range(500)
    ]
    asked = texts(*lines[::7], "w1 w2 w3 new", "")
    whole, pieces = Counts(4), Counts(4)
    whole.add(sentences_of(texts("\n".join(lines)), "words", "line"))
    for at in range(0, len(lines), 9):
        pieces.add(sentences_of(texts(*lines[at : at + 9]), "words", "line"))
    assert whole.ngrams == pieces.ngrams
    one = whole.estimate().judge(asked, "words", "line")
    other = pieces.estimate().judge(asked, "words", "line")
    assert one.logs.tolist() == other.logs.tolist()
    assert one.tokens[-1] == 0
    assert np.isnan(one.perplexity[-1])


def test_marks_of_sentences_in_a_text_are_unknown_tokens():
    model = read_arpa([ARPA.encode()], "x")
    found = model.judge(texts("<s> <unk> </s>", "never seen before"), "whitespace", "line")
    assert found.unknown.tolist() == [3, 3]
    assert found.logs[0] == found.logs[1]


def test_an_arpa_file_may_come_in_pieces_of_any_size_with_any_line_ends():
    raw = ("another tool says hello\n\n" + ARPA.replace("\n", "\r\n").replace("\t", " ")).encode()
    asked = texts("he looks like a king", "no word")
    expected = read_arpa([ARPA.encode()], "x").judge(asked, "whitespace", "line")
    found = read_arpa((raw[i : i + 777] for i in range(0, len(raw), 777)), "x")
    assert found.judge(asked, "whitespace", "line").logs.tolist() == expected.logs.tolist()


def test_a_byte_order_mark_is_passed_over():
    model = read_arpa([b"\xef\xbb\xbf" + ARPA.encode()], "x")
    assert model.about["ngrams"] == [298, 482, 451]


def test_words_that_are_not_utf_8_are_refused_with_their_line():
    raw = ARPA.replace("\tYet\t", "\té\t", 1).encode("latin1")
    with pytest.raises(DataError, match=r"x line 10: '\\\\xe9' is not UTF-8; .*iconv"):
        read_arpa([raw], "x")


def cut(at):
    return lambda s: s[: s.index(at)]


def replaced(a, b):
    def change(s):
        assert a in s
        return s.replace(a, b, 1)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut("\\2-grams"), r"cut short in the middle of its 1-grams \(promised .*298, 482, 451\)"),
        (cut("\\end"), "cut short in the middle of its 3-grams"),
        (cut("ngram 3"), "cut short in its header"),
        (lambda s: s[: s.rindex("\t") - 4], "cut short in the middle of its 3-grams"),
        (replaced("\tYet looks\t", "\tYet looks at it\t"), "Yet.* is no 2-gram: a log probability, 2 words"),
        (replaced("ngram 2=482", "ngram 2=483"), "482 2-grams; its header promises 483"),
        (replaced("ngram 2=482", "ngram 2=481"), "more 2-grams than the 481 its header promises"),
        (replaced("ngram 3=451\n", ""), "3-grams where the end is: the header promises 2 orders"),
        (replaced("ngram 3=451\n", "ngram 3=451\nngram 4=9\n"), "3-grams; its header promises 4"),
        (replaced("ngram 3=451\n", "".join(f"ngram {n}=1\n" for n in range(3, 8))), "7 orders"),
        (replaced("ngram 3=", "ngram 5="), "the count of 3-grams is expected"),
        (replaced("\\3-grams", "\\4-grams"), "4-grams where 3-grams are expected"),
        (replaced("-2.6570368", "2.6570368"), "line 10: a log probability of 2.65704"),
        (replaced("-2.6570368", "nan"), "line 10: 'nan' is no finite number"),
        (replaced("-2.6570368", "-inf"), "line 10: '-inf' is no finite number"),
        (replaced("-0.38021123", "inf"), "line 8: 'inf' is no finite number"),
        (replaced("-0.38021123", "nan"), "line 8: 'nan' is no finite number"),
        (replaced("-0.38021123", "-1e400"), "line 8: '-1e400' is no finite number"),
        (replaced("-0.38021123", "1e39"), "line 8: '1e39' is no finite number"),
        (replaced("-2.6570368", "-2.6x"), "line 10: '-2.6x' is no number"),
        (replaced("\tYet\t", "\tlooks\t"), "line 11: .* stands there a second time"),
        (replaced("\tYet\t", "\t</s>\t"), "stands there a second time"),
        (replaced("\tYet\t", "\tYes\t"), "has a word that is no 1-gram"),
        (replaced("\t</s>\t", "\tend\t"), "has a word that is no 1-gram|no </s>"),
        (replaced("Yet looks\t", "he looks\t"), "without its first 2 words|a second time"),
        (replaced("ngram 1=298", "ngram 1=99999999999"), "too many"),
        (lambda s: "", r"no \\data\\ came"),
        (lambda s: "what\n" * 2000, r"no \\data\\ in the first"),
        (replaced("\\1-grams:", "\\1-gramme:"), "is no part of an ARPA file"),
        (replaced("\\data\\\nngram 1=298\nngram 2=482\nngram 3=451\n", "\\data\\\n"), "no counts"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_is_refused(change, message):
    with pytest.raises(DataError, match=message) as refused:
        read_arpa([change(ARPA).encode()], "given.arpa")
    assert str(refused.value).startswith("given.arpa line ")
    assert "expected a whole ARPA file" in str(refused.value)


def test_a_line_without_end_is_refused_before_all_of_it_is_read():
    with pytest.raises(DataError, match="given.arpa: a line of more than 16,777,216 bytes"):
        read_arpa((b"word " * 2**18 for _ in range(2**20)), "given.arpa")
