"""Excerpts: texts are cut where a reader would, in every script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.reporting.excerpts import Turn, excerpt, parted, place_to_cut

# Each: a text, the room, and what of it may be seen.
CUTS = {
    "a sentence": ("One is here. Two is there. Three", 28, "One is here. Two is there. "),
    "quoted": ('He said "Stop." Then he went on', 25, 'He said "Stop." '),
    "no decimal point is an end": ("about 3.14159 or so many", 12, "about "),
    "a line": ("first line\nsecond line goes on", 20, "first line\n"),
    "words": ("several words and no end at all", 20, "several words and "),
    "Chinese": ("今天天气很好。我们去公园散步吧", 12, "今天天气很好。"),
    "Japanese, quoted": ("「行こう。」と彼は言った。それから", 16, "「行こう。」と彼は言った。"),
    "Hindi": ("यह पहला है। यह दूसरा वाक्य है", 20, "यह पहला है। "),
    "Arabic": ("كيف حالك؟ أنا بخير والحمد لله", 20, "كيف حالك؟ "),
    "Urdu": ("یہ پہلا ہے۔ یہ دوسرا جملہ", 18, "یہ پہلا ہے۔ "),
    "Amharic": ("ሰላም ለዓለም። እንዴት ነህ", 14, "ሰላም ለዓለም። "),
    "Khmer": ("សួស្តី\u200bពិភពលោក។ តើអ្នក", 20, "សួស្តី\u200bពិភពលោក។ "),
    "Thai, between phrases": ("สวัสดีชาวโลก ยินดีที่ได้รู้จัก", 20, "สวัสดีชาวโลก "),
    "nothing to end at": ("x" * 50, 20, "x" * 20),
    "it fits": ("short.", 20, "short."),
}  # fmt: skip


@pytest.mark.parametrize(("text", "room", "seen"), CUTS.values(), ids=CUTS.keys())
def test_a_cut_is_where_a_reader_would_pause(text, room, seen):
    assert text[: place_to_cut(text, room)] == seen


@pytest.mark.parametrize(
    ("unit", "room"),
    [("e\u0301", 9), ("👩‍👩‍👧", 12), ("👍🏽", 7), ("🇯🇵", 7), ("नि", 5)],
)
def test_nothing_that_reads_as_one_is_torn(unit, room):
    cut = place_to_cut(unit * 20, room)
    assert cut % len(unit) == 0
    assert 0 < cut <= room


@given(st.text(max_size=300), st.integers(1, 200))
def test_a_cut_is_inside_the_room_and_never_empty(text, room):
    cut = place_to_cut(text, room)
    assert min(1, len(text)) <= cut <= room or cut == len(text) <= room
    if len(text) <= room:
        assert cut == len(text)


@given(st.lists(st.text("ab .\n漢。\u0301", max_size=60), max_size=6), st.integers(1, 90))
def test_an_excerpt_counts_what_it_leaves_out(texts, room):
    turns = [Turn("user", t) for t in texts]
    found = excerpt(turns, room)
    shown = "".join(t.text for t in found.turns)
    assert "".join(texts).startswith(shown)
    assert found.shown == len(shown) <= room
    assert found.characters == len("".join(texts))
    head, tail = parted(found.turns, room // 2 + 1, 5)
    assert "".join(t.text for t in head + tail) == shown
