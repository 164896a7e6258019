"""What stands around a selector: its own settings' names, and what it may give back."""

from __future__ import annotations

import numpy as np
import pytest

import didact
from didact.core.budget import Budget
from didact.core.errors import ConfigError, DataError
from didact.core.protocols import Composition, Ranking
from didact.core.scores import Selection
from didact.selection.around.choose import choose, estimate
from didact.selection.around.quotas import Quotas
from didact.testing import make_pool
from didact.verbs import estimate_selection


def named(pool, scores, budget, ctx, /, *, name: str = "x", method: int = 1):
    """A selector whose settings have names that calls have, too."""
    return Ranking(rows=np.arange(len(pool)), reasons=(f"{name} {method}",))


def taken(pool, scores, budget, ctx, /, *, quotas: float = 0.5):
    return Ranking(rows=np.arange(len(pool)))


def finished(pool, scores, budget, ctx, /):
    return Selection.ranked([2, 1], pool.fingerprint, "finished")


@pytest.fixture
def pool(tmp_path):
    return make_pool([{"text": f"row {i}"} for i in range(5)], tmp_path)


def test_a_setting_may_be_called_name(pool, ctx):
    chosen = choose(named, pool, None, Budget(samples=2), ctx, name="mine")
    assert (chosen.method, chosen.settings["name"], chosen.reasons) == (
        "named",
        "mine",
        ("mine 1",),
    )
    assert didact.select(pool, None, named, budget=Budget(samples=2)).settings["name"] == "x"
    assert estimate_selection(pool, named, budget=Budget(samples=2)).cpu_seconds == 0
    assert estimate(named, pool.stats, Budget(samples=2), name="y").cpu_seconds == 0


def test_a_setting_that_goes_with_every_selector_is_refused(pool):
    with pytest.raises(ConfigError, match="select.taken: its own setting 'quotas' has the name"):
        didact.select(pool, None, taken, budget=Budget(samples=2))


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (None, "select bad: it gave a NoneType; expected a Ranking"),
        ([0, 1], "it gave a list; expected a Ranking"),
        (Ranking(rows=np.array([1, 1, 2])), "repeats one"),
        (Ranking(rows=np.array([1, 5])), "names one that the pool of 5 has not"),
        (Ranking(rows=np.array([-1])), "names one that the pool of 5 has not"),
    ],
)
def test_what_is_no_ranking_of_the_pool_names_the_selector(gives, message, pool, ctx):
    def bad(pool, scores, budget, ctx, /):
        return gives

    with pytest.raises(DataError, match=message):
        choose(bad, pool, None, Budget(samples=2), ctx)


def test_rows_may_be_a_plain_list(pool, ctx):
    def listed(pool, scores, budget, ctx, /):
        return Ranking(rows=[3, 0, 1])

    chosen = choose(listed, pool, None, Budget(samples=2), ctx)
    assert chosen.best_first().tolist() == [3, 0]


def test_a_finished_selection_is_taken_as_it_is_and_alone(pool, ctx):
    chosen = choose(finished, pool, None, Budget(samples=2), ctx)
    assert chosen.best_first().tolist() == [2, 1]
    assert chosen.settings == {"quotas": None, "near_duplicates": None, "budget": "samples=2"}
    with pytest.raises(ConfigError, match="finished selection, with which quotas and near"):
        choose(finished, pool, None, Budget(samples=2), ctx, quotas=Quotas(at_most=0.5))


def test_who_stands_alone_says_why_before_any_work(pool, ctx):
    @Composition(why_alone=lambda settings: "mode=odd; use mode=even")
    def alone(pool, scores, budget, ctx, /):
        raise AssertionError("it was called")

    for call in (
        lambda **more: choose(alone, pool, None, Budget(samples=2), ctx, **more),
        lambda **more: estimate(alone, pool.stats, Budget(samples=2), **more),
    ):
        with pytest.raises(ConfigError, match="alone: quotas with mode=odd; use mode=even"):
            call(quotas=Quotas(at_most=0.5))
