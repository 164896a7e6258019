"""The page of the law: complete, escaped, without scripts or network."""

from __future__ import annotations

import re

import numpy as np
import pytest

from didact.analysis.entropy.law import entropy_law
from didact.analysis.entropy.runs import LawRun
from didact.reporting.law_page import law_chart, render_law


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(3)
    runs = [
        LawRun(
            run=f"<b>{i}", family=f"f{i % 5}", ratio=(ratio := rng.uniform(1.5, 3)),
            first_epoch_loss=rng.uniform(2, 3), performance=-0.3 * ratio + 0.01 * rng.normal()
            - (i == 7), mean_length=rng.uniform(50, 200), similarity=rng.uniform(),
        )
        for i in range(12)
    ]  # fmt: skip
    dose = LawRun(run="d", set="f0+copies4", dose="copies4", ratio=8.0, first_epoch_loss=1.0,
                  performance=-2.0)  # fmt: skip
    return entropy_law([*runs, dose]).to_json()


def test_the_page_says_what_the_law_says(values):
    page = render_law(values)
    assert page == render_law(values)
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "<b>7" not in page
    assert "&lt;b&gt;7" in page
    for reason in values["reasons"]:
        assert reason.replace("'", "&#39;") in page
    assert page.count('class="chart frontier"') == 2
    assert "f0+copies4" in page
    assert values["rule"].replace("'", "&#39;") in page


def test_a_page_of_too_few_runs_has_no_plot():
    one = LawRun(run="a", ratio=2.0, first_epoch_loss=2.0, performance=-1.0)
    page = render_law(entropy_law([one]).to_json())
    assert "Cannot tell" in page
    assert "<figure" not in page


def test_dots_stand_where_they_should():
    curve = {
        "feature": "ratio", "form": "linear", "centered": False, "x": [1.0, 2.0],
        "line": [0.0, -1.0], "half": 0.5, "points": [["a", 1.0, 0.0], ["b", 2.0, -1.0]],
    }  # fmt: skip
    chart = law_chart(curve, {"b"})
    dots = re.findall(r'<circle class="([^"]*)" cx="([\d.]+)%" cy="([\d.]+)"', chart)
    # axes have 5 % room: 1 to 2 on 0.95 to 2.05, 0.5 to −1.5 on 0.6 to −1.6 in 280 pixels
    assert [(k, float(x), float(y)) for k, x, y in dots] == [
        ("front", pytest.approx(4.55, abs=0.01), pytest.approx(280 * 0.6 / 2.2, abs=0.01)),
        ("front far", pytest.approx(95.45, abs=0.01), pytest.approx(280 * 1.6 / 2.2, abs=0.01)),
    ]
    ticks = re.findall(r'<text class="tick" x="-8" y="([\d.-]+)"[^>]*>([^<]*)', chart)
    assert [text for _, text in ticks] == ["-1", "0"]
    assert [float(y) - 4 for y, _ in ticks] == pytest.approx(
        [280 * (0.6 - v) / 2.2 for v in (-1, 0)], abs=0.01
    )
    assert "the linear fit falls from 0 to -1" in chart
    assert "Far from it: b" in chart


def test_long_names_of_outliers_neither_meet_nor_leave_the_plot():
    names = [f"a set of samples with a long name, number {i}" for i in range(5)]
    points = [[name, 1.9 + i / 100, 0.0] for i, name in enumerate(names)]
    curve = {
        "feature": "first_epoch_loss", "form": "linear", "centered": True, "x": [1.0, 2.0],
        "line": [0.0, -1.0], "half": 0.5, "points": [["a", 1.0, 0.0], *points],
    }  # fmt: skip
    chart = law_chart(curve, set(names))
    labels = re.findall(r'<text class="tick mark" x="([\d.]+)%" y="([\d.]+)"[^>]*>([^<]*)', chart)
    assert len(labels) == 5
    assert len({y for _, y, _ in labels}) == 5
    assert all(
        text.startswith("a set") and f"{i}" == text[-1] for i, (*_, text) in enumerate(labels)
    )
    assert all(f"<title>{name}: " in chart for name in names)
