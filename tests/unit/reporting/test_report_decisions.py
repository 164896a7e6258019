"""Why each row was chosen or not: by hand on pools of a few rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.reporting.decisions import decide
from didact.reporting.sections.browse import SECTION, first_line, sampled

TEXTS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]


def rows_of(texts, **more):
    return [{"id": t[0] + str(i), "text": t, **more} for i, t in enumerate(texts)]


def test_a_reason_has_the_margin_and_the_nearest_on_the_other_side(case):
    c = case(rows_of(TEXTS), values=[9, 7, 4, 3, 1, 8], budget=Budget(samples=3), order="shuffle")
    found = {d.row: d for d in decide(c.subject(), range(6))}
    assert [d.rank for d in found.values()] == [1, 3, 4, 5, 6, 2]
    assert [d.margin for d in found.values()] == [2, 0, -3, -4, -6, 1]
    assert [d.position for d in found.values() if not d.chosen] == [None] * 3
    assert {d.position for d in found.values() if d.chosen} == {1, 2, 3}
    near = "nearest not chosen: g2 at 4; ordered: shuffle"
    assert found[0].text == f"top_k; 2 past the cut at 7; {near}"
    assert found[1].text == f"top_k; it is at the cut, 7; {near}"
    assert found[2].text == "below the cut: 3 short of the cut at 7; nearest chosen: b1 at 7"
    assert {d.label for d in found.values()} == {"top_k", "below the cut"}


def test_lower_scores_may_be_preferred(case):
    c = case(
        rows_of(TEXTS), values=[9, 7, 4, 3, 1, 8], budget=Budget(samples=2), higher_is_better=False,
        order="sort",
    )  # fmt: skip
    found = {d.row: d for d in decide(c.subject(), range(6))}
    assert [d.rank for d in found.values()] == [6, 4, 3, 2, 1, 5]
    assert found[4].text == (
        "top_k; 2 past the cut at 3; nearest not chosen: g2 at 4; ordered: sort by made_up"
    )
    assert found[2].text == "below the cut: 1 short of the cut at 3; nearest chosen: d3 at 3"


def test_equal_scores_at_the_cut_are_called_a_tie(case):
    c = case(rows_of(TEXTS), values=[5, 5, 5, 5, 5, 5], budget=Budget(samples=2))
    found = decide(c.subject(), range(6))
    assert [d.label for d in found] == ["top_k"] * 2 + ["tied with the cut"] * 4
    assert found[2].text.startswith("tied with the cut: equal scores are taken in the order of ")


def test_rows_that_could_not_be_chosen_say_why(case):
    texts = [*TEXTS, "eta", "theta", "iota", "kappa"]

    def build(missing):
        return case(
            rows_of(texts), values=range(10), missing=missing, budget=Budget(samples=2),
            data={"validation": 0.3}, folder=f"{len(missing)}",
        )  # fmt: skip

    held = build({}).pool.in_validation
    broken = int(np.flatnonzero(~held)[0])
    found = decide(build({broken: "no answer"}).subject(), range(10))
    assert 0 < held.sum() < 10
    assert [d.row for d in found if d.label == "validation split"] == np.flatnonzero(held).tolist()
    assert [(d.row, d.text) for d in found if d.label == "no score"] == [
        (broken, "no score: no answer")
    ]
    assert not any(d.chosen for d in found if d.label in {"validation split", "no score"})


def test_a_copy_names_the_row_that_stands_for_both(case):
    c = case(rows_of(["same", "same", "other"]), values=[1, 2, 3], budget=Budget(samples=2))
    copy, kept, _ = decide(c.subject(), range(3))
    assert kept.chosen
    assert copy.text == "repeats another row exactly: s1 stands for both"


@pytest.mark.parametrize(
    ("method", "settings", "rule"),
    [
        ("top_k", {"quotas": {"at_most": 0.3, "at_least": None}}, "quotas kept it out"),
        (
            "top_k", {"quotas": {"at_most": None}, "near_duplicates": {"similarity": 0.8}},
            "near-duplicates kept it out",
        ),
        ("middle", {}, "middle does not go by this score alone"),
        (
            "round_robin", {"quotas": {"at_most": 0.3}},
            "round_robin and quotas do not go by this score alone",
        ),
    ],
)  # fmt: skip
def test_what_a_preferred_score_did_not_help_against_is_said(case, method, settings, rule):
    c = case(rows_of(TEXTS), values=[9, 7, 4, 3, 1, 8], budget=Budget(samples=2))
    rows = np.array([1, 3])
    chosen = dataclasses.replace(
        c.selection, rows=rows, rank=np.array([1, 0]), why=np.zeros(2), settings=settings,
        method=method,
    )  # fmt: skip
    order = dataclasses.replace(c.order, rows=rows[::-1])
    found = decide(dataclasses.replace(c, selection=chosen, order=order).subject(), range(6))
    assert [d.label for d in found] == [
        "passed over", "top_k", "passed over", "top_k", "below the cut", "passed over",
    ]  # fmt: skip
    assert found[0].text == (
        f"passed over, though 6 past the cut at 3: {rule}; nearest chosen: b1 at 7"
    )
    assert found[1].text.startswith("top_k; taken as number 2 of 2; 4 past the cut at 3; ")


def test_scores_at_the_end_of_the_numbers_have_no_margin(case):
    c = case(rows_of(TEXTS), values=[1e308, -1e308, 0, 1, 2, 3], budget=Budget(samples=6))
    found = decide(c.subject(), [0, 1])
    assert [d.margin for d in found] == [None, 0]


def test_a_choice_without_scores_still_has_reasons(case, without_scores):
    c = without_scores(case(rows_of(TEXTS), budget=Budget(samples=2)))
    found = decide(c.subject(), range(6))
    assert sum(d.chosen for d in found) == 2
    assert {d.text for d in found if not d.chosen} == {"not chosen: top_k took others"}
    assert all(d.score is d.rank is d.margin is None for d in found)


# -- the table -------------------------------------------------------------------------------------


def test_a_small_pool_is_browsed_whole_and_a_large_one_at_its_cut(case):
    c = case(200, budget=Budget(samples=80))
    assert sampled(c.subject()).tolist() == list(range(200))
    some = sampled(c.subject(), 150)
    assert len(some) == len(set(some.tolist())) == 150
    utility = c.scores.utility
    chosen = sorted(c.selection.rows.tolist(), key=lambda r: utility[r])
    assert set(chosen[:60]) <= set(some.tolist())
    assert sampled(c.subject(), 150).tolist() == some.tolist()


def test_the_table_holds_each_row_once_the_preferred_first(case):
    c = case(120, missing={3: "broken"}, budget=Budget(samples=20))
    found = SECTION.gather(c.subject())
    ranks = [b.decided.rank for b in found.rows if b.decided.rank]
    assert ranks == sorted(ranks)
    assert len(found.rows) == found.of == 120
    assert found.rows[-1].decided.score is None or len(ranks) < 120
    assert found.sources == ("source-0", "source-1", "source-2")
    assert found.labels[0] == ("top_k", True)
    for row in found.rows:
        assert found.labels[row.label] == (row.decided.label, row.decided.chosen)


def test_the_first_line_says_that_there_is_more(case):
    long = "One sentence that is quite long indeed, so long. " * 40
    c = case([{"id": "a", "text": long}, {"id": "b", "text": "short\nlines"}], values=[1, 2],
             budget=Budget(samples=1))  # fmt: skip
    by_id = {b.decided.id: b for b in SECTION.gather(c.subject()).rows}
    assert first_line(by_id["b"]) == "short lines"
    assert (
        first_line(by_id["a"])
        == ("One sentence that is quite long indeed, so long. " * 3)[:-1] + " …"
    )
    assert by_id["a"].left == len(long) - sum(len(t.text) for t in by_id["a"].turns) > 0
