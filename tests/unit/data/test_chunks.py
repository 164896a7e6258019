"""Cutting texts: nothing lost, nothing too long, at sentence ends where there are some."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from didact.data.store.chunks import cut
from didact.data.store.token_counts import token_counter

ESTIMATE = token_counter(None)


def pieces(text, max_tokens, *, counter=ESTIMATE, at_sentences=True):
    spans = cut(
        text, counter.ends(text), counter.count_one, max_tokens=max_tokens,
        at_sentences=at_sentences,
    )  # fmt: skip
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]
    if spans:
        assert (spans[0][0], spans[-1][1]) == (0, len(text))
    return [text[a:b] for a, b in spans]


def test_sentences():
    text = 'It rains. "Does it?" It does!  Indeed… Well.\nNew line'
    assert pieces(text, 8) == ['It rains. "Does it?" It does!  ', "Indeed… Well.\nNew line"]
    assert pieces(text, 4) == [
        "It rains. ", '"Does it?" ', "It does!  ", "Indeed… ", "Well.\nNew line",
    ]  # fmt: skip


def test_scripts_without_spaces():
    text = "猫が好き。犬も好き！「本当？」はい。"
    assert pieces(text, 5) == ["猫が好き。", "犬も好き！", "「本当？」", "はい。"]


@pytest.mark.parametrize("at_sentences", [True, False])
def test_without_sentence_ends_every_piece_is_full(at_sentences):
    assert pieces("abcd" * 10, 3, at_sentences=at_sentences) == ["abcd" * 3] * 3 + ["abcd"]


def test_one_text_is_one_piece():
    assert pieces("short. text", 8) == ["short. text"]
    assert pieces("", 8) == []


def test_a_character_longer_than_allowed_stands_alone():
    def four_a_character(text):
        return 4 * len(text)

    ends = np.repeat(np.arange(1, 6), 4)
    assert cut("猫犬鳥魚馬", ends, four_a_character, max_tokens=3, at_sentences=False) == [
        (i, i + 1) for i in range(5)
    ]


def test_tokens_that_merge_differently_at_a_cut_never_make_a_piece_too_long():
    def count(text):  # as if every cut cost two tokens more
        return len(text) + 2

    ends = np.arange(1, 101)
    for start, end in cut("x" * 100, ends, count, max_tokens=10, at_sentences=False):
        assert end - start + 2 <= 10


def test_a_tokenizer_without_tokens_for_space(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counter = token_counter(str(tmp_path / "tokenizer.json"))
    assert pieces("  A b a  B a ", 2, counter=counter) == ["  A b", " a  B", " a "]
    assert pieces(" \n\n ", 2, counter=counter) == [" \n\n "]
