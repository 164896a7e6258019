"""Risks in the report: the series with its band, the flags in words, ids only where they may be."""

from __future__ import annotations

import json

import pytest

from didact.analysis.risk.flags import (
    RISK,
    Carrier,
    Judged,
    Rows,
    Watched,
    read_risk,
    watched,
    write_risk,
)
from didact.core.errors import DataError


def number(seen, z, kind="redundancy", source=""):
    return Judged(kind=kind, seen=seen, expected=2.0, sd=0.1, z=z, limit=2.5, source=source)


@pytest.fixture
def versions():
    rows = Rows(31, (Carrier(4, "id-<b>4", "repeats id-2"),))
    return (
        watched("v1", 0, [], ["it is the first version"]),
        watched("v2", 0.5, [(number(2.1, 1.0), rows)]),
        watched("v3", 0.5, [(number(2.4, 4.0), rows), (number(2.2, 2.6, "source", "web"), Rows())]),
    )


def test_versions_survive_their_file(versions, tmp_path):
    write_risk(versions, tmp_path)
    assert read_risk(tmp_path) == versions
    assert read_risk(tmp_path / "elsewhere") == ()
    assert [one.verdict for one in versions] == ["cannot_tell", "clean", "flagged"]
    flag = versions[2].to_json()["flags"][0]
    assert set(flag) == {"kind", "seen", "expected", "z", "source", "rows", "advice"}
    (tmp_path / RISK).write_text(json.dumps({"versions": [{"version": "v1"}]}))
    with pytest.raises(DataError, match="not what a monitor found"):
        read_risk(tmp_path)


def test_a_difference_counts_where_it_is_large_enough_and_on_its_side():
    assert number(2.4, 4.0).flagged
    assert not number(2.005, 4.0).flagged
    assert not number(1.6, -4.0).flagged
    lower = Judged(kind="loss", seen=1.6, expected=2, sd=0.1, z=-4, limit=2.5, both=True)
    assert lower.flagged


def test_the_report_has_the_series_and_the_flags(case, versions, tmp_path):
    made = case()
    made.write(tmp_path / "page.html", risks=versions)
    page = (tmp_path / "page.html").read_text()
    assert "Flagged: v3. Cannot tell: v1." in page
    assert "id-&lt;b&gt;4 (repeats id-2)" in page
    assert page.count('class="whisker"') >= 6  # two versions, each a line with two ends
    assert "deduplicate" in page
    made.write(tmp_path / "bare.html", risks=versions, samples=False)
    assert "repeats id-2" not in (tmp_path / "bare.html").read_text()
    made.write(tmp_path / "without.html", risks=[Watched("v1", 0)][:0])
    assert "Risks of the data" not in (tmp_path / "without.html").read_text()
