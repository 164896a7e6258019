"""A budget of FLOPs: what it counts, what it refuses, what it says."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.core.protocols import Ranking
from didact.core.scores import Selection
from didact.selection.around.amounts import TrainingFlops, counted
from didact.selection.around.budget import cut
from didact.selection.around.choose import choose
from didact.selection.around.quotas import Quotas
from didact.selection.around.spending import Spending, told
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k
from didact.training.foresight import Foresight

BUDGET = Budget(flops=1e15)


def flops(each, left):
    return TrainingFlops(np.asarray(each, float), left)


def take(pool, scores, ctx, training, **around):
    return choose(top_k, pool, scores, BUDGET, ctx, "top_k", training, **around)


def test_the_longest_prefix_that_is_paid(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 5), scores_of([5, 4, 3, 2, 1])
    each = [3e12, 2e12, 9e12, 1e12, 1e12]
    for left, rows in ((5e12, [0, 1]), (5.5e12, [0, 1]), (14e12, [0, 1, 2]), (16e12, range(5))):
        assert take(pool, scores, ctx, flops(each, left)).best_first().tolist() == list(rows)


def test_it_may_be_larger_than_64_bits_hold(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 4), scores_of([4, 3, 2, 1])
    each = np.array([7e21, 5e21, 3e21, 1e21])
    chosen = take(pool, scores, ctx, flops(each, 15.5e21))
    assert chosen.rows.tolist() == [0, 1, 2]
    count = counted(pool, BUDGET, flops(each, 15.5e21))
    assert count.sizes(np.arange(4)).sum() < 2**53
    assert count.scale > 1
    assert (count.sizes(np.arange(4)) * float(count.scale) >= each).all()  # never less
    assert count.asked * count.scale <= 15.5e21  # never more
    assert count.told(count.asked) == "1.55e+22 FLOPs"


def test_small_counts_are_exact(pool_of):
    count = counted(pool_of(["web"] * 3), BUDGET, flops([123_456_789, 1, 0], 5e8))
    assert (count.scale, count.sizes(np.arange(3)).tolist()) == (1, [123_456_789, 1, 0])


def test_rows_that_training_leaves_out_take_nothing(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 4), scores_of([4, 3, 2, 1])
    chosen = take(pool, scores, ctx, flops([0, 5e12, 0, 5e12], 5e12))
    assert chosen.rows.tolist() == [0, 1, 2]


def test_what_all_of_it_does_not_use_is_told(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 3, held=[2]), scores_of([1, 2, 3])
    chosen = take(pool, scores, ctx, flops([1e12] * 3, 5e12))
    assert len(chosen) == 2
    expected = "leaves 5e+12, more than the 2e+12 FLOPs of training on all that may be chosen"
    assert expected in chosen.notes[0]


@pytest.mark.parametrize(
    ("given", "left", "message"),
    [
        (500, 500, r"less than one sample trains with: the cheapest takes 1e\+12.*tokens=500\?"),
        (2e5, 2e5, r"did you mean tokens=200000\?"),
        (3, 3, r"did you mean samples=3\?"),
        (1e15, 1e10, r"1e\+10 FLOPs are left for training and the cheapest sample takes 1e\+12"),
    ],
)
def test_less_than_one_sample_is_refused(given, left, message, pool_of, scores_of, ctx):
    pool = pool_of(["web"] * 3)
    with pytest.raises(BudgetError, match=message):
        choose(
            top_k, pool, scores_of([1, 2, 3]), Budget(flops=given), ctx, "top_k",
            flops([1e12] * 3, left),
        )  # fmt: skip


def test_without_a_model_there_is_nothing_to_count(pool_of, scores_of, ctx):
    with pytest.raises(BudgetError, match=r"needs the model that it trains.*train.model=MODEL"):
        take(pool_of(["web"]), scores_of([1]), ctx, None)


def test_quotas_are_shares_of_it_and_amounts_in_it(pool_of, scores_of, ctx):
    pool = pool_of(["web", "books"] * 4)
    scores, training = scores_of(range(8, 0, -1)), flops([1e21] * 8, 6e21)
    half = take(pool, scores, ctx, training, quotas=Quotas(at_most={"web": 0.5}))
    assert half.rows.tolist() == [0, 1, 2, 3, 4, 5]
    two = take(pool, scores, ctx, training, quotas=Quotas(at_most={"web": 2e21}))
    assert two.rows.tolist() == [0, 1, 2, 3, 5, 7]
    with pytest.raises(BudgetError, match=r"at_least adds up to 8e\+21 FLOPs and the budget is 6e"):
        take(pool, scores, ctx, training, quotas=Quotas(at_least=4e21))
    with pytest.raises(ConfigError, match=r"at_least 4e\+21 above its at_most 2e\+21 FLOPs"):
        take(pool, scores, ctx, training, quotas=Quotas(at_least=4e21, at_most=2e21))
    even = take(pool, scores, ctx, training, quotas=Quotas(proportional=True))
    assert np.bincount(pool.source_codes[even.rows]).tolist() == [3, 3]


def test_it_is_a_ceiling_for_threshold(pool_of, scores_of, ctx):
    pool, scores = pool_of(["web"] * 4), scores_of([1, 2, 3, 4])
    chosen = choose(
        threshold, pool, scores, BUDGET, ctx, "threshold", flops([1e12] * 4, 1e13), value=2
    )
    assert chosen.rows.tolist() == [2, 3]


def test_a_finished_selection_must_keep_to_it(pool_of, ctx):
    def finished(pool, scores, budget, ctx, /):
        return Selection(np.arange(3), pool.fingerprint, "finished")

    pool = pool_of(["web"] * 3)
    choose(finished, pool, None, BUDGET, ctx, "finished", flops([1e12] * 3, 3e12))
    with pytest.raises(BudgetError, match=r"takes 3e\+12 FLOPs to train on, over the 2e\+12"):
        choose(finished, pool, None, BUDGET, ctx, "finished", flops([1e12] * 3, 2e12))


def test_cut_counts_what_it_is_told(pool_of, ctx):
    chosen = cut(
        pool_of(["web"] * 3), Ranking(rows=np.array([2, 0, 1])), BUDGET, ctx,
        method="m", training=flops([1e12, 1e12, 2e12], 3e12),
    )  # fmt: skip
    assert chosen.best_first().tolist() == [2, 0]


def test_scoring_is_taken_off_first():
    spending = Spending(budget=Budget(flops=2e19), spent=5e18)
    assert spending.left == 1.5e19
    said = "budget flops=2e+19: scoring 5e+18 (25.0%), left for training 1.5e+19"
    assert str(spending) == said


@pytest.mark.parametrize(
    ("foreseen", "takes"), [(False, "takes 3e"), (True, "is estimated to take 3e")]
)
def test_scoring_above_it_is_refused_with_the_way_out(foreseen, takes):
    with pytest.raises(BudgetError, match=f"{takes}.*1.5 times the budget.*smaller model"):
        Spending(budget=Budget(flops=2e19), spent=3e19, foreseen=foreseen)
    with pytest.raises(BudgetError, match="nothing is left"):
        Spending(budget=Budget(flops=2e19), spent=2e19)


@pytest.mark.parametrize("spent", [-1.0, float("nan"), float("inf"), "much"])
def test_what_is_spent_is_a_number(spent):
    with pytest.raises(ConfigError, match="expected FLOPs, 0 or more"):
        Spending(budget=BUDGET, spent=spent)


def foresight(lengths, **change):
    return Foresight(
        **{
            "lengths": np.asarray(lengths), "flops": lambda tokens, squares: 6.0 * tokens + squares,
            "epochs": 2, "batch_size": 2, "tokens_per_batch": 1000, **change,
        }
    )  # fmt: skip


def test_each_row_takes_its_tokens_their_squares_and_every_epoch():
    assert foresight([10, 0, 3]).each.tolist() == [2 * (60 + 100), 0, 2 * (18 + 9)]


def test_padding_of_batches_is_foretold():
    assert foresight([7] * 6).padding(np.arange(6)) == 0
    assert foresight([7, 0, 0]).padding(np.array([1, 2])) == 0
    one_batch = foresight([10, 9, 10, 9], batch_size=4).padding(np.arange(4))
    # batches are drawn, so that few have all of one length
    assert one_batch == pytest.approx((6 * 40 + 400) / (6 * 38 + 362) - 1, rel=0.1)


def test_what_a_selection_comes_to_is_told():
    spending = Spending(budget=Budget(flops=1000.0), spent=300.0)
    chosen, ahead = Selection(np.array([0, 1, 2]), "f" * 32, "m"), foresight([10, 9, 0])
    notes = told(chosen, ahead, spending)
    assert notes[0] == str(spending)
    assert "takes 590 FLOPs in 2 epochs, 84.3% of what is left" in notes[1]
    padding = ahead.padding(chosen.rows)
    assert 0 < padding < 0.1
    assert notes[1].endswith(f"with padding of the configured batches: {padding:+.1%}")
    assert notes[2] == "chosen without a token to learn, left out by the training: 1"
    tight = told(chosen, ahead, Spending(budget=Budget(flops=600.0), spent=0.0))
    share = 600 / (590 * (1 + padding))
    assert f"so that it ends after about {share:.1%} of the order, at the last step" in tight[1]
