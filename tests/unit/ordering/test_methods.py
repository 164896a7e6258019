"""Orderers: what they read, what they refuse, what they record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from didact.core.binding import bind
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.registry import find, known
from didact.core.scores import Scores, Selection
from didact.execution.executors import serial
from didact.ordering.fold import fold
from didact.ordering.keep import keep
from didact.ordering.saw import saw
from didact.ordering.segment import segment
from didact.ordering.shuffle import shuffle
from didact.ordering.stair import stair

FINGERPRINT = "f" * 32
POOL = Pool(Path("gone"), FINGERPRINT)  # no store: whoever opened it would fail
CTX = Context(executor=serial(), seed=17, cache_dir=Path())
CHOSEN = Selection.ranked([7, 2, 5, 3], FINGERPRINT, "top_k", {})
SCORES = Scores(
    values=np.array([0, 0, 30, 20, 0, 10, 0, 40, np.nan], float),
    higher_is_better=True,
    method="bm25",
    pool_fingerprint=FINGERPRINT,
    missing={8: "empty"},
)
NEED_SCORES = sorted(set(known("orderers")) - {"keep", "shuffle"})


def order(name, chosen=CHOSEN, scores=SCORES, ctx=CTX, **settings):
    return find("orderers", name)(POOL, chosen, scores, ctx, **settings)


@pytest.mark.parametrize("name", known("orderers"))
def test_the_pool_s_store_is_not_needed(name):
    assert sorted(order(name).rows.tolist()) == [2, 3, 5, 7]


def test_utilities_are_those_of_the_chosen_rows():
    assert order("sort").rows.tolist() == [5, 3, 2, 7]
    assert order("sort", descending=True).rows.tolist() == [7, 2, 3, 5]
    assert order("fold", layers=2).rows.tolist() == [5, 2, 3, 7]
    assert order("fold", layers=2, phase=-1).rows.tolist() == [3, 7, 5, 2]
    assert order("zigzag", layers=2).rows.tolist() == [5, 2, 7, 3]


def test_the_best_comes_last_when_lower_is_better():
    perplexity = Scores(
        values=SCORES.values,
        higher_is_better=False,
        method="perplexity",
        pool_fingerprint=FINGERPRINT,
        missing=SCORES.missing,
    )
    assert order("sort", scores=perplexity).rows.tolist() == [7, 2, 3, 5]


def test_keep_is_pool_order_or_the_order_of_choice():
    assert order("keep", scores=None).rows.tolist() == [2, 3, 5, 7]
    assert order("keep", scores=None, by="rank").rows.tolist() == [7, 2, 5, 3]


def test_shuffle_follows_the_seed_of_the_run():
    many = Selection(np.arange(50), FINGERPRINT, "top_k")
    one, same, other = (
        order("shuffle", many, None, Context(executor=serial(), seed=s, cache_dir=Path())).rows
        for s in (1, 1, 2)
    )
    assert one.tolist() == same.tolist() != other.tolist()
    assert one.tolist() != sorted(one.tolist())


@pytest.mark.parametrize("settings", [{"seed": 10}, {"reference": "delt"}])
def test_a_released_shuffle_is_a_reference_with_its_seed(settings):
    with pytest.raises(ConfigError, match="give both to repeat a released order, or neither"):
        order("shuffle", scores=None, **settings)


def test_segment_refuses_shares_that_overlap():
    with pytest.raises(ConfigError, match=r"low=0.6 and high=0.5 overlap"):
        order("segment", low=0.6, high=0.5)
    halves = order("segment", low=0.5, high=0.5).rows.tolist()
    assert set(halves[:2]) == {5, 3}
    swapped = order("segment", low=0.5, high=0.5, lowest_first=False).rows.tolist()
    assert set(swapped[:2]) == {2, 7}


@pytest.mark.parametrize("name", NEED_SCORES)
def test_scores_are_needed(name):
    with pytest.raises(ConfigError, match=f"order {name} needs scores: .* choose keep or shuffle"):
        order(name, scores=None)


@pytest.mark.parametrize("name", NEED_SCORES)
def test_a_chosen_row_without_a_score_is_an_error_that_names_it(name):
    chosen = Selection(np.array([2, 8]), FINGERPRINT, "random")
    with pytest.raises(
        DataError, match=r"1 of the 2 chosen rows have no 'bm25' score.*row 8 .empty"
    ):
        order(name, chosen)


@pytest.mark.parametrize("name", known("orderers"))
def test_another_pool_s_selection_is_refused(name):
    chosen = Selection(np.array([2, 3]), "e" * 32, "top_k")
    with pytest.raises(PoolMismatchError, match="selected rows belong to pool eeee"):
        order(name, chosen)


def test_another_pool_s_scores_are_refused():
    scores = Scores(
        values=np.zeros(9), higher_is_better=True, method="m", pool_fingerprint="e" * 32
    )
    with pytest.raises(PoolMismatchError, match="scores belong to pool eeee"):
        order("sort", scores=scores)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (fold, {"layers": 0}, r"order.fold.layers: .*greater than or equal to 1"),
        (fold, {"layer": 3}, r"unknown setting 'layer'; did you mean 'layers'"),
        (stair, {"ratio": 1.5}, "less than or equal to 1"),
        (saw, {"sections": 0}, "greater than or equal to 1"),
        (segment, {"low": -0.1}, "greater than or equal to 0"),
        (keep, {"by": "score"}, "'row' or 'rank'"),
        (shuffle, {"reference": "dalt"}, "'delt' or 'data-efficacy'"),
    ],
)
def test_settings_out_of_range_are_refused(method, settings, message):
    with pytest.raises(ConfigError, match=message):
        bind(method, settings, f"order.{method.__name__}")
