"""Epochs, interleaving and jitter around an orderer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import didact
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection
from didact.execution.executors import serial
from didact.ordering.around.arrange import arrange
from didact.ordering.fold import fold
from didact.ordering.keep import keep
from didact.ordering.saw import saw
from didact.ordering.segment import segment
from didact.ordering.shuffle import shuffle
from didact.ordering.sort import sort

FINGERPRINT = "f" * 32
GONE = Pool(Path("gone"), FINGERPRINT)
CTX = Context(executor=serial(), seed=17, cache_dir=Path())
ROWS = np.arange(0, 60, 2)  # thirty rows of a pool of sixty
CHOSEN = Selection(ROWS, FINGERPRINT, "top_k")
SCORES = Scores(
    values=np.random.default_rng(0).normal(size=60),
    higher_is_better=True,
    method="bm25",
    pool_fingerprint=FINGERPRINT,
)


def arranged(method, settings=None, pool=GONE, ctx=CTX, **around):
    return arrange(method, settings or {}, pool, CHOSEN, SCORES, ctx, **around)


def epochs_of(order):
    return order.rows.reshape(order.epochs, -1).tolist()


def test_one_epoch_is_the_orderer_itself():
    for method in (shuffle, fold):
        assert arranged(method).rows.tolist() == method(GONE, CHOSEN, SCORES, CTX).rows.tolist()


def test_what_is_fixed_repeats_and_what_shuffles_does_so_anew():
    first, second, third = epochs_of(arranged(fold, {"layers": 4}, epochs=3))
    assert first == second == third
    for shuffled in (shuffle, segment):
        first, second, third = epochs_of(arranged(shuffled, epochs=3))
        assert sorted(first) == sorted(second) == sorted(third) == ROWS.tolist()
        assert first != second != third != first


def test_the_first_epochs_do_not_depend_on_how_many_follow():
    two, three = arranged(shuffle, epochs=2), arranged(shuffle, epochs=3)
    assert epochs_of(three)[:2] == epochs_of(two)


def test_a_released_shuffle_repeats_as_it_did_in_the_release():
    order = arranged(shuffle, {"reference": "delt", "seed": 10}, epochs=2)
    first, second = epochs_of(order)
    assert first == second


def test_jitter_moves_rows_within_windows_and_differs_by_epoch():
    plain = arranged(sort).rows
    first, second = epochs_of(arranged(sort, jitter=7, epochs=2))
    assert plain.tolist() != first != second
    for begin in range(0, 30, 7):
        window = set(plain[begin : begin + 7].tolist())
        assert set(first[begin : begin + 7]) == set(second[begin : begin + 7]) == window


def test_everything_follows_the_seed():
    def run(seed):
        ctx = replace(CTX, seed=seed)
        return arranged(segment, ctx=ctx, epochs=3, jitter=5).rows.tolist()

    assert run(1) == run(1) != run(2)


def test_interleave_spreads_sources_and_keeps_their_order():
    pool = Pool(Path("no store"), FINGERPRINT)
    source = np.zeros(60, np.int32)
    source[[0, 2, 4, 6, 8, 10]] = 1  # six of the thirty chosen
    pool.__dict__["_index"] = {"source": source}
    rows = arranged(keep, pool=pool, interleave=True).rows
    assert rows[source[rows] == 1].tolist() == [0, 2, 4, 6, 8, 10]
    assert rows[source[rows] == 0].tolist() == list(range(12, 60, 2))
    assert np.flatnonzero(source[rows] == 1).tolist() == [2, 7, 12, 17, 22, 27]  # every fifth row


def test_everything_is_recorded():
    order = arranged(fold, {"layers": 4}, epochs=2, batch_size=8, jitter=12)
    assert order.settings == {
        "layers": 4,
        "phase": 0,
        "epochs": 2,
        "batch_size": 8,
        "jitter": 12,
        "interleave": False,
    }
    assert (order.method, order.epochs, order.batch_size, order.steps) == ("fold", 2, 8, 8)


def test_the_batch_size_does_not_change_the_order():
    with_it = arranged(fold, batch_size=8, jitter=12)
    assert with_it.rows.tolist() == arranged(fold, jitter=12).rows.tolist()


@pytest.mark.parametrize("jitter", [2, 8])
def test_jitter_inside_a_step_is_refused(jitter):
    with pytest.raises(ConfigError, match="only moves rows inside a step of batch_size=8"):
        arranged(fold, batch_size=8, jitter=jitter)


@pytest.mark.parametrize(
    ("around", "message"),
    [
        ({"epochs": 0}, r"order\.epochs: .*greater than or equal to 1; got 0"),
        ({"batch_size": 0}, r"order\.batch_size: .*greater than or equal to 1; got 0"),
        ({"jitter": 1}, r"order\.jitter: .*greater than or equal to 2; got 1"),
    ],
)
def test_numbers_out_of_range_are_refused(around, message):
    with pytest.raises(ConfigError, match=message):
        didact.order(GONE, CHOSEN, SCORES, "keep", ctx=CTX, **around)


def test_an_orderer_that_loses_a_row_is_caught():
    def forgetful(pool, chosen, scores, ctx, /):
        order = keep(pool, chosen, scores, ctx)
        return replace(order, rows=order.rows[:-1], method="forgetful")

    with pytest.raises(DataError, match="order forgetful: 29 rows came back for 30 chosen"):
        arranged(forgetful)


def test_an_empty_selection_has_an_empty_order():
    nothing = Selection(np.array([], np.int64), FINGERPRINT, "top_k")
    for method in (keep, shuffle, fold, segment, saw):
        order = arrange(method, {}, GONE, nothing, SCORES, CTX, epochs=2, jitter=4)
        assert len(order) == 0
