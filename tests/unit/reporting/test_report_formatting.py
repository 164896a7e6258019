from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.reporting.formatting import (
    byte_size,
    change,
    compact,
    count,
    number,
    percent,
    scale,
    seconds,
    shorten,
    visible,
)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (count, 153961, "153,961"),
        (count, 0, "0"),
        (compact, 0, "0"),
        (compact, 937, "937"),
        (compact, 5_123, "5.12k"),
        (compact, 999_950, "1.00M"),
        (compact, 28_412_000, "28.4M"),
        (compact, 10.0, "10"),
        (compact, 1_000, "1k"),
        (percent, 0.2, "20.0%"),
        (percent, 0, "0%"),
        (percent, 1, "100%"),
        (percent, 0.00001, "<0.01%"),
        (percent, 0.9999, ">99.9%"),
        (percent, 0.0041, "0.41%"),
        (number, 0, "0"),
        (number, 1.23456, "1.235"),
        (number, -0.001234, "-0.001234"),
        (number, 12345.678, "12,346"),
        (number, 1.5e-7, "1.5e-7"),
        (number, 2.5e9, "2.5e9"),
        (number, float("nan"), "\u2013"),
        (seconds, 0.0, "0.00 s"),
        (seconds, 12.34, "12.3 s"),
        (seconds, 59.999, "60.0 s"),
        (seconds, 200, "3 min 20 s"),
        (seconds, 7500, "2 h 5 min"),
        (byte_size, 512, "512 B"),
        (byte_size, 2**20, "1.00 MiB"),
        (byte_size, 123_456_789, "118 MiB"),
    ],
)
def test_numbers_as_a_person_reads_them(function, value, expected):
    assert function(value) == expected


def test_nothing_is_a_dash():
    assert {f(None) for f in (count, compact, percent, number, seconds, byte_size)} == {"\u2013"}


def test_a_change_has_its_sign_and_points():
    assert change(0.10, 0.132) == "+3.2"
    assert change(0.10, 0.0986) == "\u22120.14"
    assert change(0.1, 0.1) == "±0"


@given(st.floats(1e-9, 1))
def test_a_share_is_never_rounded_to_nothing_or_all(share):
    assert percent(share) != "0%"
    assert (percent(share) == "100%") == (share == 1)


@given(
    st.integers(-1000, 1000),
    st.sampled_from([2e-9, 0.001, 0.02, 0.5, 1, 20, 1000, 5e6]),
    st.integers(2, 6),
)
def test_the_ticks_of_one_axis_read_back_and_look_alike(first, step, n):
    values = [(first + i) * step for i in range(n)]
    texts = scale(values)
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    read = [float(t.replace(",", "").rstrip("kMGT")) * units.get(t[-1], 1) for t in texts]
    assert read == pytest.approx(values, rel=1e-12, abs=step / 100)
    assert len({len(t.partition(".")[2]) for t in texts if t != "0"}) == 1
    assert len(set(texts)) == n


@pytest.mark.parametrize(
    ("value", "said"), [(3.5, "3.5"), (3.0, "3"), (0, "0"), (-0.25, "-0.25"), (20_000, "20k")]
)
def test_a_tick_alone_says_its_value(value, said):
    assert scale([value]) == [said]
    assert scale([0.125], as_percent=True) == ["12.5%"]


FORBIDDEN = {"Cc", "Cs"}
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=50))
def test_nothing_invisible_and_no_override_survives(text):
    for char in visible(text):
        assert char in "\n\t" or unicodedata.category(char) not in FORBIDDEN
        assert char not in BIDI


@given(st.text(BIDI + "\0\x1b\x7f\x85ab", max_size=20))
def test_every_hidden_character_leaves_a_trace(text):
    assert len(visible(text)) >= len(text)


@pytest.mark.parametrize(
    "text", ["a\nb\tc", "👩‍👩‍👧", "مرحبا", "नमस्ते", "日本語", "e\u0301", "a\u00a0b"]
)
def test_ordinary_text_of_any_script_is_left_alone(text):
    assert visible(text) == text


def test_controls_are_shown_as_what_they_are():
    assert visible("a\0b\x1bc\x7f\u202e\x85\ufeff\uffff") == (
        "a\u2039U+0000\u203ab\u2039U+001B\u203ac\u2039U+007F\u203a\u2039U+202E\u203a\u2039U+0085\u203a\u2039U+FEFF\u203a\u2039U+FFFF\u203a"
    )


@given(st.text(max_size=60), st.integers(1, 30))
def test_shortened_text_fits_and_begins_the_same(text, width):
    short = shorten(text, width)
    columns = sum(2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text)
    if columns <= width:
        assert short == text
    else:
        assert short.endswith("…")
        assert text.startswith(short[:-1])
        kept = sum(2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in short[:-1])
        assert kept + 1 <= width or width == 1
