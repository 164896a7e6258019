from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.reporting import charts, svg
from didact.reporting.lettering import BESIDE, ROW_SIZE, text_width


def parsed(markup):
    """The chart as a tree: fails on anything that is not well-formed."""
    root = ET.fromstring(markup)  # noqa: S314 - our own markup
    values = [v for e in root.iter() for v in e.attrib.values()]
    assert not any(re.search(r"\b(nan|inf)", v, re.IGNORECASE) for v in values)
    return root


def of_class(root, name):
    return [e for e in root.iter() if name in e.get("class", "").split()]


def points(element):
    """The corners of a path as pairs of numbers."""
    return [tuple(map(float, p.split())) for p in re.split("[MLZ]", element.get("d")) if p]


def texts(root, name):
    return ["".join(e.itertext()) for e in of_class(root, name)]


def course(mean, low=None, high=None, *, per_bin=10, **more):
    edges = range(0, per_bin * len(mean) + 1, per_bin)
    return charts.course(
        list(edges), mean, low or mean, high or mean,
        described="d", x_label="x", y_label="y", **more,
    )  # fmt: skip


# -- pieces ----------------------------------------------------------------------------------------


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_even_few_and_inside(low, span, at_most):
    high = low + span
    if high == low:
        return
    found = svg.ticks(low, high, at_most)
    slack = 1e-6 * max(span, abs(low), abs(high))
    assert len(found) <= at_most
    assert all(low - slack <= t <= high + slack for t in found)
    gaps = [b - a for a, b in pairwise(found)]
    assert all(g == pytest.approx(gaps[0], rel=1e-6, abs=slack) for g in gaps)


@given(st.floats(1e-3, 1e6), st.floats(1.01, 1e6))
def test_log_ticks_are_inside_and_some(low, factor):
    found = svg.log_ticks(low, low * factor)
    assert found == sorted(found)
    assert all(low <= t <= low * factor for t in found)
    assert len(found) >= 1 or factor < 2.5
    assert len(svg.log_ticks(low, low * 1e30)) <= 8


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(max_size=30))
def test_text_and_attributes_are_escaped(text, value):
    root = ET.fromstring(svg.tag("g", svg.title(text), aria_label=value))  # noqa: S314
    assert [e.tag for e in root.iter()] == ["g", "title"]
    assert set(root.attrib) == {"aria-label"}


def test_a_gap_lifts_the_pen():
    assert svg.path([(0, 1.0), (0.5, None), (1, 3.0)], 10) == "M0 1M1000 3"
    assert svg.areas([0, 0.5, 1], [1, None, 1], [2, None, 2], 10).count("Z") == 2


# -- histogram -------------------------------------------------------------------------------------


def test_histogram_bars_stand_where_and_as_high_as_the_numbers_say():
    root = parsed(
        charts.histogram(
            [0, 1, 2, 4], [0.5, 0.25, 0.25], [0, 0, 1], cuts=[2], height=108,
            described="d", x_label="x",
        )
    )  # fmt: skip
    pool, chosen = (points(of_class(root, k)[0]) for k in ("pool", "chosen"))
    # The highest bar takes 100 of 108 pixels, as the axis leaves 8 % above it.
    assert pool == [
        (0, 108),
        (0, 58),
        (250, 58),
        (250, 83),
        (500, 83),
        (500, 83),
        (1000, 83),
        (1000, 108),
    ]
    assert chosen[-3:] == [(500, 8), (1000, 8), (1000, 108)]
    (line,) = [e for e in of_class(root, "cut") if e.tag == "line"]
    assert line.get("x1") == "50%"
    assert texts(root, "cut") == ["", "cut 2"]
    said = texts(root, "probe")
    assert said[2] == "2 to 4: 25.0% of the pool, 100% of the chosen"


def test_histogram_log_axis_gives_equal_factors_equal_room():
    root = parsed(charts.histogram([1, 10, 100], [1, 0], [], log=True, described="d", x_label="x"))
    assert sorted({x for x, _ in points(of_class(root, "pool")[0])}) == [0, 500, 1000]
    assert not of_class(root, "chosen")


@pytest.mark.parametrize(
    ("cuts", "said"),
    [
        ([0.2, 0.3], ["cut 0.2000 and 0.3000"]),
        ([0.8], ["cut 0.8000"]),
        ([0.3, 0.7], ["cut 0.3000", "cut 0.7000"]),  # no side has room for both on a phone
        ([0.05, 0.95], []),
    ],
)
def test_what_a_cut_says_stays_inside_a_phone_s_plot(cuts, said):
    root = parsed(charts.histogram([0, 1], [1], [1], cuts=cuts, described="d", x_label="x"))
    assert [t for t in texts(root, "cut") if t] == said
    assert len([e for e in of_class(root, "cut") if e.tag == "line"]) == len(cuts)


def test_long_numbers_of_a_vertical_axis_stand_inside_the_plot():
    chart = svg.frame(
        described="d", height=100, kind="k", x_label="", y_label="", x_ticks=[],
        y_ticks=[(0, "0"), (1, "6.00e-08")],
    )  # fmt: skip
    short, long = (e for e in parsed(chart).iter() if e.text in {"0", "6.00e-08"})
    assert float(short.get("x")) < 0 < float(long.get("x"))


def test_the_tail_of_a_long_name_of_an_axis_is_for_wide_pages():
    name = "first-epoch loss in nats per token, less the mean of backbone and stage"
    chart = svg.frame(
        described="d", height=100, kind="k", x_label=name, y_label="short", x_ticks=[], y_ticks=[]
    )
    (label,) = (e for e in of_class(parsed(chart), "name") if e.text != "short")
    assert "".join(label.itertext()) == name
    assert label.text == "first-epoch loss in nats per token"
    assert [e.get("class") for e in label] == ["wide"]


def test_two_cuts_share_one_label():
    root = parsed(charts.histogram([0, 1], [1], [1], cuts=[0.9, 0.95], described="d", x_label="x"))
    assert [t for t in texts(root, "cut") if t] == ["cut 0.9000 and 0.9500"]


@pytest.mark.parametrize(
    "markup",
    [
        charts.histogram([], [], [], described="d", x_label="x"),
        charts.dumbbells([], described="d", x_label="x"),
        charts.layers([0], [], [], described="d", x_label="x"),
        charts.course([0], [], [], [], described="d", x_label="x", y_label="y"),
        course([None, None]),
    ],
)
def test_nothing_to_draw_is_said(markup):
    assert parsed(markup).get("class") == "nothing"


# -- dumbbells -------------------------------------------------------------------------------------


def test_dumbbells_are_placed_by_share():
    root = parsed(charts.dumbbells([("a", 0.5, 0.25), ("b", 0, 0.5)], described="d", x_label="x"))
    places = [[float(e.get("cx")[:-1]) for e in of_class(root, k)] for k in ("before", "after")]
    (a0, b0), (a1, b1) = places
    assert b0 == 0
    assert a0 == b1 == pytest.approx(2 * a1, abs=0.02)
    assert texts(root, "value") == ["\u221225.0", "+50.0"]
    assert texts(root, "row") == ["a", "b"]


def test_every_source_has_a_row_of_its_own():
    rows = [(f"<b>{i}</b>" * 20, 1 / 60, i / 1770) for i in range(60)]
    root = parsed(charts.dumbbells(rows, described="d", x_label="x"))
    assert len(of_class(root, "row")) == 60
    assert len({e.get("cy") for e in of_class(root, "after")}) == 60
    assert all("…" in t for t in texts(root, "row"))
    assert not [e for e in root.iter() if e.tag == "b"]


@pytest.mark.parametrize("name", ["W" * 40, "漢字" * 20, "i" * 90, "plain words of a name" * 4])
def test_the_name_of_a_row_fits_beside_the_plot(name):
    root = parsed(charts.dumbbells([(name, 0.1, 0.2)], described="d", x_label="x"))
    (shown,) = texts(root, "row")
    assert text_width(shown, ROW_SIZE) <= BESIDE
    assert (shown[0], shown[-1]) == (name[0], name[-1])


def test_shares_of_nothing_are_drawn_at_zero():
    root = parsed(charts.dumbbells([("a", 0, 0)], described="d", x_label="x"))
    assert of_class(root, "before")[0].get("cx") == "0%"


# -- dots ------------------------------------------------------------------------------------------


@given(st.floats(0.5, 50), st.lists(st.floats(0.5, 50), min_size=1, max_size=5))
def test_dots_stay_inside_and_keep_their_order(chosen, others):
    root = parsed(charts.dots(chosen, others, described="d", x_label="x", names=("c", "o")))
    place = [float(e.get("cx")[:-1]) for k in ("after", "before") for e in of_class(root, k)]
    assert all(0 <= x <= 100 for x in place)
    for (a, xa), (b, xb) in pairwise(sorted(zip([chosen, *others], place, strict=True))):
        assert xa <= xb + 0.011, (a, b)


def test_noise_does_not_look_like_a_finding():
    root = parsed(charts.dots(3.0, [3.001, 2.999], described="d", x_label="x", names=("c", "o")))
    place = [float(e.get("cx")[:-1]) for k in ("after", "before") for e in of_class(root, k)]
    assert max(place) - min(place) < 1


# -- course ----------------------------------------------------------------------------------------


def test_course_draws_each_mean_in_the_middle_of_its_bin_upwards():
    root = parsed(course([1.0, 3.0, 2.0, 3.0], joints=[20]))
    drawn = points(of_class(root, "mean")[0])
    assert [x for x, _ in drawn] == [125, 375, 625, 875]
    ys = [y for _, y in drawn]
    assert ys[0] > ys[2] > ys[1] == ys[3]
    assert (ys[0] + ys[1]) / 2 == pytest.approx(ys[2], abs=0.02)
    (joint,) = of_class(root, "joint")
    assert joint.get("x1") == "50%"


def test_course_of_single_samples_is_points():
    root = parsed(course([5.0, None, 7.0], per_bin=1))
    assert len(of_class(root, "point")) == 2
    assert not of_class(root, "mean")


def test_course_leaves_gaps_where_nothing_is_known():
    root = parsed(course([1.0, None, 2.0, 3.0]))
    assert of_class(root, "mean")[0].get("d").count("M") == 2


@given(
    st.lists(st.none() | st.floats(-1e12, 1e12), min_size=1, max_size=20),
    st.integers(1, 10),
    st.booleans(),
)
def test_any_course_is_a_well_formed_chart(mean, per_bin, from_zero):
    if from_zero:
        mean = [None if m is None else abs(m) for m in mean]
    root = parsed(course(mean, per_bin=per_bin, from_zero=from_zero))
    for line in of_class(root, "mean"):
        assert all(0 <= y <= 210 for _, y in points(line))
    assert math.isfinite(float(root.get("height", 0)))


def test_a_logarithmic_course_gives_equal_factors_equal_height():
    root = parsed(course([1.0, 10.0, 100.0], log=True))
    low, middle, high = (y for _, y in points(of_class(root, "mean")[0]))
    assert low - middle == pytest.approx(middle - high, abs=0.02)
    assert {"1", "10", "100"} <= set(texts(root, "tick"))


def test_the_axis_counts_steps_when_there_are_steps():
    root = parsed(course([1.0, 2.0], per_bin=500, per_x=100))
    assert "10" in texts(root, "tick")


# -- layers ----------------------------------------------------------------------------------------


def test_layers_fill_the_whole_height_and_meet():
    root = parsed(
        charts.layers(
            [0, 5, 10], [[0.25, 0.5], [0.75, 0.5]], ["a", "<i>"], height=100,
            described="d", x_label="x",
        )
    )  # fmt: skip
    low, high = (points(of_class(root, f"part-{i}")[0]) for i in (0, 1))
    assert low[:4] == [(0, 75), (500, 75), (500, 50), (1000, 50)]
    assert high[:4] == [(0, 0), (500, 0), (500, 0), (1000, 0)]
    assert high[4:] == low[3::-1]
