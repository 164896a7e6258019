"""Quotas: numbers, minimums, maximums, shares, and what is said when they cannot be met."""

from __future__ import annotations

import numpy as np
import pytest

from didact import config
from didact.core.binding import as_json, bind
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.selection.around.choose import Around, choose
from didact.selection.around.quotas import Quotas, largest_remainder
from didact.selection.top_k import top_k


@pytest.fixture
def pool(pool_of):
    """Six web rows, then two of books, then two of code."""
    return pool_of(["web"] * 6 + ["books"] * 2 + ["code"] * 2)


@pytest.fixture
def scores(scores_of):
    """Best first: the rows as they stand."""
    return scores_of(range(10, 0, -1))


def rows(chosen):
    return chosen.best_first().tolist()


def why(chosen):
    return [chosen.reasons[code] for code in chosen.why]


def test_at_least_comes_first_then_rank(pool, scores, ctx):
    quotas = Quotas(at_least={"code": 2, "books": 0.2})  # 0.2 of 5 samples is 1
    chosen = choose(top_k, pool, scores, Budget(samples=5), ctx, quotas=quotas)
    assert rows(chosen) == [6, 8, 9, 0, 1]
    assert why(chosen) == ["top_k", "top_k", "at_least: books", "at_least: code", "at_least: code"]


def test_at_most_stops_a_source(pool, scores, ctx):
    quotas = Quotas(at_most={"web": 0.4})
    assert rows(choose(top_k, pool, scores, Budget(samples=5), ctx, quotas=quotas)) == [
        0,
        1,
        6,
        7,
        8,
    ]


def test_one_number_holds_for_every_source(pool, scores, ctx):
    chosen = choose(top_k, pool, scores, Budget(samples=6), ctx, quotas=Quotas(at_most=2))
    assert rows(chosen) == [0, 1, 6, 7, 8, 9]


def test_a_share_of_nothing_is_none_of_it(pool, scores, ctx):
    quotas = Quotas(at_most={"web": 0})
    assert rows(choose(top_k, pool, scores, Budget(samples=3), ctx, quotas=quotas)) == [6, 7, 8]


def test_proportional_shares_by_largest_remainder(pool, scores, ctx):
    # 4 of 10 rows at 6 : 2 : 2 → exact 2.4, 0.8, 0.8 → 2, 1, 1
    chosen = choose(top_k, pool, scores, Budget(samples=4), ctx, quotas=Quotas(proportional=True))
    assert rows(chosen) == [0, 1, 6, 8]
    assert set(why(chosen)) == {"proportional: web", "proportional: books", "proportional: code"}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (50, [2]),  # shares 20 and 30: row 2; 20 left over, and row 0 (30) does not fit
        (60, [2, 0]),  # shares 24 and 36: row 2; 30 left over take row 0 by rank
        (75, [0, 2, 1]),  # shares 30 and 45: rows 0 and 2; 15 left over take row 1
    ],
)
def test_proportional_tokens_leave_the_rest_to_rank(pool_of, scores_of, ctx, tokens, expected):
    pool = pool_of(["web", "web", "books", "books"], tokens=[30, 10, 30, 30])
    scores, quotas = scores_of([4, 3, 2, 1]), Quotas(proportional=True)
    chosen = choose(top_k, pool, scores, Budget(tokens=tokens), ctx, quotas=quotas)
    assert rows(chosen) == expected
    secured = [r for r, reason in zip(chosen.rows, why(chosen), strict=True) if ":" in reason]
    assert set(expected) - set(secured) == set(expected[len(secured) :])


def test_largest_remainder_by_hand():
    # Hamilton's method: 10 seats at 5 : 3 : 1 → 5.56, 3.33, 1.11 → 6, 3, 1
    assert largest_remainder(np.array([5, 3, 1]), 10).tolist() == [6, 3, 1]
    assert largest_remainder(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]  # tie: the earlier
    assert largest_remainder(np.array([0, 0]), 5).tolist() == [0, 0]


def test_tokens_at_least_takes_the_row_that_reaches_it(pool_of, scores_of, ctx):
    pool = pool_of(["web", "web", "books", "books"], tokens=[40, 40, 30, 30])
    chosen = choose(
        top_k,
        pool,
        scores_of([4, 3, 2, 1]),
        Budget(tokens=100),
        ctx,
        quotas=Quotas(at_least={"books": 40}),
    )
    assert rows(chosen) == [2, 3, 0]


@pytest.mark.parametrize(
    ("quotas", "budget", "message"),
    [
        (
            {"at_least": {"books": 3}},
            Budget(samples=5),
            "'books' should give 3 samples and has 2 that may be chosen; lower its minimum",
        ),
        (
            {"at_least": {"web": 3, "books": 2}},
            Budget(samples=4),
            "at_least adds up to 5 samples and the budget is 4",
        ),
        (
            {"at_most": {"web": 2, "code": 0}},
            Budget(samples=5),
            r"at_most leaves 4 of 5 samples reachable \(web 2, books 2, code 0\)",
        ),
        (
            {"at_least": {"web": 15, "books": 15}},
            Budget(tokens=35),
            "at_least needs 40 tokens in whole rows and the budget is 35",
        ),
        (
            {"at_least": {"web": 15}, "at_most": {"web": 15}},
            Budget(tokens=35),
            "no whole number of the best rows of 'web' is within its at_least and at_most",
        ),
    ],
)
def test_quotas_that_cannot_be_met_say_why(pool, scores, ctx, quotas, budget, message):
    with pytest.raises(BudgetError, match=message):
        choose(top_k, pool, scores, budget, ctx, quotas=Quotas(**quotas))


@pytest.mark.parametrize("budget", [Budget(tokens=50), Budget(ratio=0.5)])
def test_a_shortfall_from_at_most_is_a_note_when_the_budget_is_not_in_samples(
    pool, scores, ctx, budget
):
    quotas = Quotas(at_most={"web": 0.4, "code": 0})
    chosen = choose(top_k, pool, scores, budget, ctx, quotas=quotas)
    assert rows(chosen) == [0, 1, 6, 7]
    unit, one = ("tokens", 10) if budget.tokens else ("samples", 1)
    left = f"quotas.at_most left {one} of {5 * one} {unit} unused"
    assert chosen.notes == (f"{left}: web {2 * one}, books {2 * one}, code 0",)


def test_unknown_sources_are_named(pool, scores, ctx):
    with pytest.raises(ConfigError, match=r"at_most: unknown source 'bocks'; did you mean 'books'"):
        choose(top_k, pool, scores, Budget(samples=5), ctx, quotas=Quotas(at_most={"bocks": 2}))


def test_a_minimum_above_a_maximum_is_refused(pool, scores, ctx):
    quotas = Quotas(at_least=3, at_most=2)
    with pytest.raises(ConfigError, match="'web' has at_least 3 above its at_most 2 samples"):
        choose(top_k, pool, scores, Budget(samples=9), ctx, quotas=quotas)


@pytest.mark.parametrize("number", [-1, 1.5, float("nan"), float("inf"), True, "x"])
def test_numbers_are_shares_or_whole(number):
    with pytest.raises(ConfigError, match=r"quotas.at_most.web: .*expected a share of the budget"):
        Quotas(at_most={"web": number})
    with pytest.raises(ConfigError, match=r"quotas.at_least: .*expected a share of the budget"):
        Quotas(at_least=number)


def test_proportional_stands_alone():
    with pytest.raises(ConfigError, match="proportional sets every source's amount"):
        Quotas(proportional=True, at_most=0.5)


def test_quotas_bind_from_plain_values_and_go_back_to_them():
    bound = bind(Around, {"quotas": {"at_most": {"web": 0.3}, "at_least": 2}}, "select.top_k")
    assert bound["quotas"] == Quotas(at_most={"web": 0.3}, at_least=2)
    plain = as_json(Around, bound)
    assert plain["quotas"] == {"at_most": {"web": 0.3}, "at_least": 2.0, "proportional": False}
    assert bind(Around, plain, "select.top_k") == bound


@pytest.mark.parametrize("given", [True, 0.8, "yes"])
def test_settings_that_are_a_group_say_how_they_are_given(given):
    expected = (
        r"top_k.near_duplicates: expected settings by name \(.*\), .*=\{\} for the defaults; got"
    )
    with pytest.raises(ConfigError, match=expected):
        bind(Around, {"near_duplicates": given}, "top_k")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"at_mst": 0.3}, r"select.top_k.*quotas.at_mst"),
        ({"at_most": {"web": -1}}, r"quotas.at_most.web: got -1"),
        ({"at_most": "much"}, r"select.top_k.quotas.at_most"),
    ],
)
def test_bad_quotas_name_the_place(given, message):
    with pytest.raises(ConfigError, match=message):
        bind(Around, {"quotas": given}, "select.top_k")
    part = {"method": "top_k", "budget": {"samples": 1}, "quotas": given}
    with pytest.raises(ConfigError, match=message.replace("select.top_k", "select")):
        config.parse({"data": {"path": "x"}, "select": part})


def test_reasons_fit_their_code_however_many_sources(pool_of, scores_of, ctx):
    n = 33_000  # more names than an int16 can point at
    pool = pool_of([f"s{i}" for i in range(n)])
    chosen = choose(
        top_k, pool, scores_of(range(n)), Budget(samples=n), ctx, quotas=Quotas(proportional=True)
    )
    assert chosen.reasons == ("proportional",)
    assert not chosen.why.any()
