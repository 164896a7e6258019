"""top_k, threshold, middle, gumbel_top_k."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from didact import config
from didact.core.budget import Budget
from didact.core.errors import ConfigError
from didact.core.protocols import Context
from didact.core.statistics import best_first, zscore
from didact.execution.executors import serial
from didact.selection.around.choose import choose
from didact.selection.around.quotas import Quotas
from didact.selection.gumbel_top_k import gumbel_top_k
from didact.selection.middle import middle
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k
from didact.verbs import estimate_selection


def test_ties_go_to_the_lowest_row():
    assert best_first(np.array([1.0, 3, 1, 3, -np.inf, -0.0, 0.0])).tolist() == [
        1, 3, 0, 2, 5, 6, 4,
    ]  # fmt: skip


def test_lower_can_be_better(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 4), scores_of([3, 1, 4, 2], higher_is_better=False)
    assert choose(top_k, pool, scores, Budget(samples=2), ctx).best_first().tolist() == [1, 3]
    chosen = choose(threshold, pool, scores, None, ctx, value=3)
    assert chosen.best_first().tolist() == [1, 3]  # strictly below
    assert chosen.reasons == ("below threshold",)


def test_threshold_says_above(pool_of, scores_of, ctx):
    chosen = choose(threshold, pool_of(["web"] * 3), scores_of([1, 2, 3]), None, ctx, value=2)
    assert chosen.reasons == ("above threshold",)


def test_threshold_with_quotas_and_no_budget_shares_what_passes(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 8 + ["books"] * 2)
    chosen = choose(
        threshold,
        pool,
        scores_of(range(10, 0, -1)),
        None,
        ctx,
        value=0.5,
        quotas=Quotas(at_most={"web": 0.3}),
    )
    assert chosen.rows.tolist() == [0, 1, 2, 8, 9]
    assert "left 5 of 10 samples unused" in chosen.notes[0]


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        (0.5, [4, 5, 3, 6]),  # between ranks: both neighbours are level, the lower row first
        (0.0, [0, 1, 2, 3]),  # the worst row
        (1.0, [9, 8, 7, 6]),  # the best
        (1 / 3, [3, 2, 4, 1]),  # on a row
    ],
)
def test_middle_by_hand(pool_of, scores_of, ctx, center, expected):
    pool, scores = pool_of(["web"] * 10), scores_of(range(10))
    chosen = choose(middle, pool, scores, Budget(samples=4), ctx, center=center)
    assert chosen.best_first().tolist() == expected


def test_middle_counts_only_rows_that_may_be_chosen(pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 9, held=[0, 1], group=[0, 1, 2, 2, 2, 5, 6, 7, 8])
    scores = scores_of([0, 1, 2, 2, 2, 5, 6, 7, 8], missing=[8])
    # left: rows 2 (once), 5, 6, 7; their middle is between 5 and 6
    assert choose(middle, pool, scores, Budget(samples=2), ctx).rows.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("unit", "temperature", "weight"),
    [
        ("deviation", 1.5, np.exp(zscore(np.array([0.0, 1.0, 2.0, 4.0])) / 1.5)),
        ("score", 1.0, np.exp([0.0, 1.0, 2.0, 4.0])),  # importance resampling
    ],
)
def test_gumbel_draws_rows_in_proportion_to_their_weight(
    pool_of, scores_of, unit, temperature, weight
):
    """Against the exact law: P(a, then b) = p_a · p_b / (1 - p_a), p ~ exp(z / T)."""
    pool, values, draws = pool_of(["web"] * 4), [0.0, 1.0, 2.0, 4.0], 4000
    settings = {"temperature": temperature, "unit": unit}
    p = weight / weight.sum()
    seen = dict.fromkeys(permutations(range(4), 2), 0)
    for seed in range(draws):
        ctx = Context(executor=serial(), seed=seed, cache_dir=Path())
        chosen = choose(gumbel_top_k, pool, scores_of(values), Budget(samples=2), ctx, **settings)
        seen[tuple(chosen.best_first().tolist())] += 1
    expected = {(a, b): draws * p[a] * p[b] / (1 - p[a]) for a, b in seen}
    chi_squared = sum((seen[o] - expected[o]) ** 2 / expected[o] for o in seen)
    assert chi_squared < 31.26  # the 99.9th percentile for 12 - 1 degrees of freedom


def test_gumbel_draws_a_group_of_duplicates_once(pool_of, scores_of):
    """Ten copies of one text are as likely as one copy of another, not ten times."""
    pool = pool_of(["web"] * 11, group=[0] * 10 + [1])
    first = 0
    for seed in range(1000):
        ctx = Context(executor=serial(), seed=seed, cache_dir=Path())
        chosen = choose(gumbel_top_k, pool, scores_of([1.0] * 11), Budget(samples=1), ctx)
        first += chosen.rows.tolist() == [0]
    assert abs(first - 500) < 3.3 * np.sqrt(250)  # 99.9 % of binomial(1000, 1/2)


def test_gumbel_near_temperature_0_is_top_k(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 50), scores_of(np.random.default_rng(0).normal(size=50))
    cold = choose(gumbel_top_k, pool, scores, Budget(samples=9), ctx, temperature=1e-9)
    assert (
        cold.best_first().tolist()
        == choose(top_k, pool, scores, Budget(samples=9), ctx).best_first().tolist()
    )


def test_gumbel_noise_belongs_to_the_row(pool_of, scores_of, ctx):
    """A row that may not be chosen does not change the noise of the others."""
    scores = scores_of([0.0] * 20)
    free = choose(gumbel_top_k, pool_of(["web"] * 20), scores, Budget(samples=19), ctx).best_first()
    held = choose(gumbel_top_k, pool_of(["web"] * 20, held=[3]), scores, Budget(samples=19), ctx)
    assert held.best_first().tolist() == [row for row in free if row != 3] + [
        row for row in range(20) if row != 3 and row not in free
    ]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("threshold", {}, "value: this setting is required"),
        ("middle", {"center": 1.5}, "less than or equal to 1"),
        ("gumbel_top_k", {"temperature": 0}, "greater than 0"),
        ("top_k", {"quota": {}}, "select.top_k: unknown setting 'quota'; did you mean 'quotas'"),
    ],
)
def test_settings_out_of_range_are_refused(method, settings, message, pool_of):
    part = {"method": method, "budget": {"samples": 1}, **settings}
    with pytest.raises(ConfigError, match=message):
        config.parse({"data": {"path": "x"}, "select": part})
    with pytest.raises(ConfigError, match=message):
        estimate_selection(pool_of(["web"]), method, **settings)
