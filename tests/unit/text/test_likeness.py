"""Likeness of two sets of texts."""

from __future__ import annotations

import math

import pytest

from didact.core.errors import DataError
from didact.text.compression import set_redundancies, set_redundancy
from didact.text.likeness import likeness


def test_by_hand():
    # held-out: a b / a c, n = 2: a is in both and weighs nothing; b, c, "a b", "a c" weigh
    # ln(3/2); the text "b d" has b, d (ln 3) and "b d" (ln 3)
    w, u = math.log(1.5), math.log(3)
    expected = w * w / (math.sqrt(4 * w * w) * math.sqrt(w * w + 2 * u * u))
    assert likeness(["b d"], ["a b", "a c"]) == pytest.approx(expected)


def test_ends():
    held_out = ["one two three", "four five six"]
    assert likeness(held_out, held_out) == pytest.approx(1.0)
    assert likeness(["seven eight"], held_out) == 0.0


def test_copies_change_nothing():
    held_out = [f"word{i} other{i % 7} common" for i in range(40)]
    texts = [f"word{i} common thing{i}" for i in range(20)]
    assert likeness(texts * 4, held_out) == pytest.approx(likeness(texts, held_out))


def test_what_every_held_out_text_has_weighs_nothing():
    held_out, texts = ["red green", "blue white"], ["red white", "black"]
    marked = [f"mark {t}" for t in texts], [f"mark {t}" for t in held_out]
    alone, beside = likeness(texts, held_out), likeness(*marked)
    assert likeness([*texts, "grey"], held_out) < alone  # a word of no held-out text does
    # the mark itself is nothing; the pairs it makes with the first word are words like others
    assert beside == pytest.approx(alone, abs=0.2)


def test_every_script():
    held_out = ["今天天气很好", "明天下雨"]
    assert likeness(["今天下雨"], held_out) > likeness(["Привет мир"], held_out) == 0.0


def test_nothing_to_compare_is_an_error():
    for texts, held_out in ((["a"], []), ([], ["a b", "c"]), (["a"], ["a", "a"]), (["…"], ["b"])):
        with pytest.raises(DataError, match="likeness of texts without words"):
            likeness(texts, held_out)


def test_far_copies_are_seen_by_one_codec_only():
    import random

    rng = random.Random(0)
    block = bytes(rng.randrange(256) for _ in range(60_000))
    far, near, raw = set_redundancies([block, block, block])
    assert raw == 180_000
    assert far == set_redundancy([block * 3])
    assert far > 2.9
    assert near < 1.01
    with pytest.raises(DataError, match="without any text"):
        set_redundancies([b""])
