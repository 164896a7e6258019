"""DELT (arXiv:2506.21545) and its successor code base, number for number.

Birth certificate of every vector here: computed with numpy and Python's `random` from the rules of
microsoft/DELT@658fa30 and microsoft/data-efficacy@2250d2a as documented in their sources; ten rows
with the scores below unless a test says otherwise. None of it was produced by didact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.core.statistics import zscore
from didact.execution.executors import serial
from didact.ordering.around.jitter import jittered
from didact.ordering.fold import fold, folded
from didact.ordering.keep import keep
from didact.ordering.saw import sawed
from didact.ordering.shuffle import released_shuffle, shuffle
from didact.ordering.sort import sort, sorted_by_utility
from didact.ordering.stair import staired
from didact.ordering.zigzag import zigzagged
from didact.selection.around.choose import choose
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k

SCORES = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0]
UTILITY = np.array(SCORES)
RANKS_20 = np.arange(20.0)
RANKS_40 = np.arange(40.0)
CTX = Context(executor=serial(), seed=17, cache_dir=Path())


def pool_of(n: int) -> Pool:
    """A pool in memory: one source, no duplicates, ten tokens a row."""
    pool = Pool(Path("no store"), "f" * 32)
    pool.__dict__["meta"] = {"n": n, "dedup": "exact", "source_names": ["web"]}
    pool.__dict__["_index"] = {
        "n_tokens": np.full(n, 10),
        "group": np.arange(n, dtype=np.uint64),
        "copy": np.ones(n, np.int32),
        "source": np.zeros(n, np.int32),
        "held": np.zeros(n, bool),
    }
    return pool


def scores_of(values: list[float], *, higher_is_better: bool = True) -> Scores:
    return Scores(
        values=np.array(values),
        higher_is_better=higher_is_better,
        method="lqs",
        pool_fingerprint="f" * 32,
    )


POOL, LQS = pool_of(10), scores_of(SCORES)


# ---- ordering -------------------------------------------------------------------------------


def test_ascending():
    assert sorted_by_utility(UTILITY).tolist() == [9, 1, 5, 3, 7, 2, 8, 4, 6, 0]


def test_fold_as_released():
    assert folded(UTILITY, layers=3).tolist() == [9, 3, 8, 0, 1, 7, 4, 5, 2, 6]


def test_fold_by_equation_10_has_the_same_layers_rotated():
    assert folded(UTILITY, layers=3, phase=-1).tolist() == [5, 2, 6, 9, 3, 8, 0, 1, 7, 4]


def test_fold_of_seven_rows():  # microsoft/DELT data_ordering/folding.py, three layers
    assert folded(np.arange(7.0), layers=3).tolist() == [0, 3, 6, 1, 4, 2, 5]


def test_zigzag():
    assert zigzagged(UTILITY, layers=3).tolist() == [9, 3, 8, 0, 4, 7, 1, 5, 2, 6]


@pytest.mark.parametrize("layers", [1, 10, 12])
def test_fold_with_one_layer_or_n_layers_and_more_is_ascending(layers):
    assert folded(UTILITY, layers=layers).tolist() == sorted_by_utility(UTILITY).tolist()


def test_ties_are_stable():
    tied = np.array([1.0, 0, 1, 0, 1])
    assert sorted_by_utility(tied).tolist() == [1, 3, 0, 2, 4]
    assert sorted_by_utility(tied, descending=True).tolist() == [0, 2, 4, 1, 3]
    assert folded(tied, layers=2).tolist() == [1, 0, 4, 3, 2]


def test_stair():  # cut at 10, radius round(4.5) = 4: Python rounds half to even
    got = staired(RANKS_20, sections=2, ratio=0.225, layers=3).tolist()
    assert got == [*range(6), 6, 9, 12, 7, 10, 13, 8, 11, *range(14, 20)]


def test_saw_of_20():  # cuts at 7 and 13, radius round(1.5) = 2
    got = sawed(RANKS_20, sections=3, ratio=0.075, layers=2).tolist()
    assert got == [*range(5), 5, 7, 8, 6, 9, 10, 11, 13, 14, 12, *range(15, 20)]


def test_saw_of_40():
    got = sawed(RANKS_40, sections=3, ratio=0.075, layers=2).tolist()
    first, second = [10, 12, 14, 15, 13, 11], [24, 26, 28, 29, 27, 25]
    assert got == [*range(10), *first, *range(16, 24), *second, *range(30, 40)]


def test_jitter():  # numpy default_rng(42), windows of 4
    got = jittered(np.arange(10), 4, np.random.default_rng(42))
    assert got.tolist() == [3, 2, 1, 0, 7, 6, 4, 5, 8, 9]


@pytest.mark.parametrize(
    ("release", "seed", "expected"),
    [
        ("delt", 10, [9, 0, 6, 3, 4, 8, 1, 7, 2, 5]),
        ("data-efficacy", 10, [5, 2, 7, 1, 8, 4, 3, 6, 0, 9]),
        ("data-efficacy", 42, [7, 3, 2, 8, 5, 6, 9, 4, 0, 1]),
    ],
)
def test_released_shuffles(release, seed, expected):
    chosen = choose(top_k, POOL, LQS, Budget(ratio=1.0), CTX)
    assert released_shuffle(10, release=release, seed=seed).tolist() == expected
    order = shuffle(POOL, chosen, None, CTX, reference=release, seed=seed)
    assert order.rows.tolist() == expected


# ---- selection, then order ------------------------------------------------------------------


def released_top_k(scores: list[float], k: int) -> list[int]:
    """microsoft/DELT top_k: a stable ascending sort, then the last k; slice -0 is everything."""
    return sorted(range(len(scores)), key=lambda i: scores[i])[-k:]


@pytest.mark.parametrize(
    ("ratio", "k", "released"), [(0.5, 5, [2, 8, 4, 6, 0]), (0.35, 3, [4, 6, 0])]
)
def test_top_ratio_chooses_the_released_rows_and_leaves_their_order_to_the_orderer(
    ratio, k, released
):
    chosen = choose(top_k, POOL, LQS, Budget(ratio=ratio), CTX)
    assert released_top_k(SCORES, k) == released  # the reference hands rows out in score order
    assert chosen.rows.tolist() == sorted(released)  # a selection is a set
    assert chosen.best_first().tolist() == released[::-1]
    assert sort(POOL, chosen, LQS, CTX).rows.tolist() == released
    assert keep(POOL, chosen, None, CTX).rows.tolist() == sorted(released)


@pytest.mark.parametrize("ratio", [0.05, 0.0])
def test_a_ratio_that_rounds_to_nothing_chooses_nothing(ratio):
    ascending = [9, 1, 5, 3, 7, 2, 8, 4, 6, 0]
    assert released_top_k(SCORES, 0) == ascending  # as released: every row
    chosen = choose(top_k, POOL, LQS, Budget(ratio=ratio), CTX)
    assert chosen.rows.tolist() == []
    assert fold(POOL, chosen, LQS, CTX).rows.tolist() == []


def test_ties_at_the_edge_go_to_the_lowest_row():
    tied = [1.0, 0.0, 1.0, 0.0, 1.0]
    assert released_top_k(tied, 2) == [2, 4]  # as released: the later rows
    chosen = choose(top_k, pool_of(5), scores_of(tied), Budget(samples=2), CTX)
    assert chosen.rows.tolist() == [0, 2]


def test_threshold_is_strict():
    chosen = choose(threshold, POOL, LQS, None, CTX, value=0.6)
    assert chosen.rows.tolist() == [0, 4, 6]  # row 8 has 0.6 exactly


def test_half_then_fold():
    chosen = choose(top_k, POOL, LQS, Budget(ratio=0.5), CTX)
    assert fold(POOL, chosen, LQS, CTX, layers=3).rows.tolist() == [2, 6, 8, 0, 4]


def test_ratios_are_floored_in_decimal():
    scores = scores_of([float(i) for i in range(100)])
    assert int(100 * 0.29) == 28  # as released
    assert len(choose(top_k, pool_of(100), scores, Budget(ratio=0.29), CTX)) == 29


def test_low_perplexity_is_kept_when_lower_is_better():
    # As released, KenLM's perplexity is the score, so top-r keeps the *highest* perplexity.
    perplexity = [30.0, 500.0, 80.0]
    assert released_top_k(perplexity, 1) == [1]
    scores = scores_of(perplexity, higher_is_better=False)
    assert choose(top_k, pool_of(3), scores, Budget(samples=1), CTX).rows.tolist() == [0]


# ---- score normalisation --------------------------------------------------------------------


def test_zscore_with_population_std_and_clip():  # eleven 0 and one 10: std 2.763854
    values = np.array([0.0] * 11 + [10.0])
    assert values.std() == pytest.approx(2.763854, abs=5e-7)
    assert zscore(values)[[0, -1]] == pytest.approx([-0.301511, 3.316625], abs=5e-7)
    assert zscore(values, clip=3.0)[-1] == 3.0
    assert zscore(np.full(7, 0.1)).tolist() == [0.0] * 7
