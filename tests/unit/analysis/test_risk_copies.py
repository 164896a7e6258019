"""Near copies: exact, edited, cut ones; and what is none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from didact.analysis.risk.copies import near_copies

WORDS = [
    f"{a}{b}" for a in ("ba", "du", "fi", "go", "ku", "le", "mi") for b in ("ran", "sol", "ton")
]


def text(seed, n=40):
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


def found(texts, content=None):
    content = np.arange(len(texts)) if content is None else np.asarray(content)
    half = len(texts) // 2
    batches = [pa.array(part, pa.large_string()) for part in (texts[:half], texts[half:])]
    return near_copies(batches, content.astype(np.uint64))


def test_copies_are_found_whatever_was_done_to_them():
    a, b = text(0), text(1)
    edited = a.split()
    edited[20] = "otherwise"
    rows = [a, b, a.upper() + "!", " ".join(edited), " ".join(a.split()[:15]), text(2), b + " end"]
    copies = found(rows)
    assert copies.of.tolist() == [-1, -1, 0, 0, 0, -1, 1]
    assert copies.group.tolist() == [0, 1, 0, 0, 0, 5, 1]


def test_equal_content_is_a_copy_whatever_its_words():
    assert found(["a", "?", "!", "?"], [1, 2, 3, 2]).of.tolist() == [-1, -1, -1, 1]


def test_half_a_text_or_a_patchwork_is_no_copy():
    a, b, c = text(0).split(), text(1).split(), text(2).split()
    patchwork = " ".join([*a[:13], *b[:13], *c[:14]])
    assert found([*map(" ".join, (a, b, c)), patchwork]).of.tolist() == [-1, -1, -1, -1]
    assert found([" ".join(a), " ".join([*a[:20], *b[:20]])]).of.tolist() == [-1, -1]


def test_scripts_without_spaces_and_empty_texts():
    chinese = "今天天气很好我们一起去公园散步吧"
    assert found([chinese, "", "", chinese + "。", "明天再说"]).of.tolist() == [-1, -1, -1, 0, -1]
    assert found([]).of.tolist() == []
