"""Several scores made into one."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.scoring.around.combine import combine


def test_rank_mean_by_hand(scores_of):
    bm25 = scores_of([10, 20, 20, 40])  # ranks 0, 1.5, 1.5, 3 of 3
    ratio = scores_of([1, 2, 3, 4], method="compression", higher_is_better=False)  # 3, 2, 1, 0
    both = combine([bm25, ratio], "rank_mean")
    assert both.values == pytest.approx([0.5, 3.5 / 6, 2.5 / 6, 0.5])
    assert both.higher_is_better
    assert both.method == "rank_mean"
    weighted = combine([bm25, ratio], "rank_mean", weights=[3, 1])
    assert weighted.values[3] == pytest.approx(0.75)


def test_product_by_hand(scores_of):
    quality = scores_of([0, 2, 3])
    perplexity = scores_of([10, 4, 0.5], method="perplexity", higher_is_better=False)
    both = combine([quality, perplexity], "product")
    assert both.values.tolist() == [0.0, 0.5, 6.0]


def test_parts_keep_every_input_under_a_name_of_its_own(scores_of):
    both = combine([scores_of([1, 2]), scores_of([3, 4]), scores_of([5, 6], method="length")])
    assert {k: v.tolist() for k, v in both.parts.items()} == {
        "bm25": [1, 2],
        "bm25~2": [3, 4],
        "length": [5, 6],
    }
    assert list(both.settings["of"]) == ["bm25", "bm25~2", "length"]
    assert both.settings["how"] == "rank_mean"


def test_missing_in_any_is_missing_and_says_where(scores_of):
    first = scores_of([1, 2, 3, 4], missing=[0])
    second = scores_of([1, 2, 3, 4], method="length", missing=[0, 2])
    both = combine([first, second])
    assert both.missing == {0: "bm25: empty", 2: "length: empty"}
    assert both.values[[1, 3]].tolist() == [0, 1]  # ranks among the rows that both have


@pytest.mark.parametrize(("values", "expected"), [([7], [0.5]), ([3, 3, 3], [0.5] * 3), ([], [])])
def test_a_score_that_tells_nothing_apart_is_a_half(scores_of, values, expected):
    assert combine([scores_of(values)]).values.tolist() == expected


def test_tasks_are_not_carried_over(scores_of):
    scores = scores_of([1, 2], by_task=np.ones((2, 1)), tasks=("maths",))
    both = combine([scores, scores])
    assert both.by_task is None
    assert both.tasks == ()


def test_different_pools_do_not_mix(scores_of):
    with pytest.raises(PoolMismatchError, match="scores of 'length' belong to pool eeee"):
        combine([scores_of([1]), scores_of([1], method="length", pool_fingerprint="e" * 32)])


@pytest.mark.parametrize(
    ("values", "higher_is_better", "message"),
    [
        ([1, -2], True, "'bm25' of row 1 is -2.0; a product needs values 0 or more"),
        ([0, 2], False, "'bm25' of row 0 is 0.0; a product needs values above 0"),
        ([1e200, 1], True, "over the range of float64; use how='rank_mean'"),
    ],
)
def test_products_that_mean_nothing_are_refused(scores_of, values, higher_is_better, message):
    scores = scores_of(values, higher_is_better=higher_is_better)
    with pytest.raises(DataError, match=message):
        combine([scores, scores], "product")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1]}, r"weights=\[1\]; expected 2 numbers above 0"),
        ({"weights": [1, 0]}, "expected 2 numbers above 0"),
        ({"how": "product", "weights": [1, 2]}, "a product has no weights"),
        ({"how": "sum"}, "how='sum'; expected 'rank_mean' or 'product'"),
    ],
)
def test_bad_settings_are_refused(scores_of, arguments, message):
    with pytest.raises(ConfigError, match=message):
        combine([scores_of([1, 2]), scores_of([2, 1])], **arguments)


def test_nothing_cannot_be_combined():
    with pytest.raises(ConfigError, match="at least one"):
        combine([])


def test_what_both_stand_on_is_paid_once(scores_of):
    one = scores_of([1, 2], spent={"adapters/a": 4e12, "scores/1": 1e12})
    other = scores_of([3, 4], spent={"adapters/a": 4e12, "scores/2": 2e12})
    assert combine([one, other]).flops == 7e12
    assert combine([one, scores_of([1, 1])]).flops is None
