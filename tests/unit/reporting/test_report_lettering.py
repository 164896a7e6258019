"""Letters in charts: what fits a phone's plot, and labels that leave each other alone."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.reporting.lettering import (
    NARROW,
    Spot,
    box_meets,
    clear_of,
    fitted,
    place_labels,
    text_width,
)

HEIGHT = 280.0
NAMES = st.text("abmW漢 .", min_size=1, max_size=60)
SHARES = st.floats(0, 1)
SPOTS = st.lists(st.builds(Spot, SHARES, st.floats(5, HEIGHT - 5), NAMES), max_size=10)


def boxes(spots, placed, width):
    """Where letters are on a plot of some width, from what a browser is told."""
    for spot, label in zip(spots, placed, strict=True):
        if label is not None:
            wide = text_width(label.text)
            left = width * spot.x - (wide if label.anchor == "end" else 0)
            yield (left, label.y - 9, left + wide, label.y + 2)


@given(SPOTS, st.sampled_from([NARROW, 420.0, 980.0]))
def test_labels_meet_neither_each_other_nor_a_mark_nor_the_edge(spots, width):
    marks = [(s.x, s.y) for s in spots]
    placed = place_labels(spots, marks, HEIGHT)
    found = list(boxes(spots, placed, width))
    assert not any(box_meets(a, b) for a, b in combinations(found, 2))
    for left, top, right, bottom in found:
        assert left >= -1e-6
        assert right <= width + 1e-6
        assert top >= 0
        assert bottom <= HEIGHT
        for x, y in marks:
            mark = (width * x - 4, y - 4, width * x + 4, y + 4)
            assert not box_meets((left, top, right, bottom), mark)


def test_marks_far_apart_are_all_named_close_by():
    spots = [Spot(x, y, f"set {y}") for x, y in ((0.1, 40), (0.5, 140), (0.9, 240))]
    placed = place_labels(spots, [(s.x, s.y) for s in spots], HEIGHT)
    assert [p.text for p in placed] == [s.text for s in spots]
    assert [p.y for p in placed] == [31, 131, 231]
    assert [p.anchor for p in placed] == ["start", "start", "end"]


def test_a_crowd_of_long_names_is_spread_out():
    spots = [Spot(0.5 + i / 100, 140, f"a_long_name_of_a_set_of_samples_{i}") for i in range(6)]
    placed = place_labels(spots, [(s.x, s.y) for s in spots], HEIGHT)
    assert None not in placed
    assert len({p.y for p in placed}) >= 3
    assert all(
        "…" in p.text and p.text[-1] == s.text[-1] for p, s in zip(placed, spots, strict=True)
    )


@pytest.mark.parametrize(
    ("texts", "clear"),
    [
        ([(0, "0"), (0.5, "500"), (1, "1,000")], [True, True, True]),
        # 200,000 apart on a phone: the last one is written inwards and takes the place
        ([(i / 5, f"{i * 200_000:,}") for i in range(6)], [True, True, True, True, False, True]),
        ([(0.5, "x")], [True]),
        ([], []),
    ],
)
def test_texts_of_an_axis_leave_each_other_room_on_a_phone(texts, clear):
    assert clear_of(texts) == clear


@given(st.text(max_size=80), st.floats(20, 300))
def test_what_is_fitted_fits(text, room):
    shown = fitted(text, room)
    assert text_width(shown) <= room or shown == "…"
