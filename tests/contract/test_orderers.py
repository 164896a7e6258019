"""Every registered orderer keeps the contract; a new one is covered by its registry line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from didact.core.errors import DataError, PoolMismatchError
from didact.core.registry import find, known
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.ordering.around.arrange import arrange
from didact.pipeline import context
from didact.testing import check_orderer, make_pool

NAMES = list(known("orderers"))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, tmp_path):
    check_orderer(name, tmp_path)


@pytest.fixture
def ctx(tmp_path):
    return context(seed=17, workers=1, cache_dir=tmp_path / "cache")


def put(name, pool, chosen, scores, ctx):
    return arrange(find("orderers", name), {}, pool, chosen, scores, ctx)


@pytest.mark.parametrize("name", NAMES)
def test_it_works_where_the_store_is_gone(name, tmp_path, ctx):
    pool = make_pool([{"id": str(i), "text": f"row {i}"} for i in range(9)], tmp_path)
    scores = Scores(
        values=np.arange(9.0), higher_is_better=True, method="m", pool_fingerprint=pool.fingerprint
    )
    chosen = Selection(np.arange(9), pool.fingerprint, "everything")
    here = put(name, pool, chosen, scores, ctx).rows.tolist()
    handle = type(pool)(pool.path, pool.fingerprint)
    shutil.rmtree(pool.path)
    assert put(name, handle, chosen, scores, ctx).rows.tolist() == here


@pytest.mark.parametrize("name", NAMES)
def test_another_pool_s_values_are_refused(name, tmp_path, ctx):
    pool = make_pool([{"id": str(i), "text": f"row {i}"} for i in range(9)], tmp_path)
    chosen = Selection(np.arange(3), "e" * 32, "top_k")
    with pytest.raises(PoolMismatchError):
        put(name, pool, chosen, None, ctx)


COUNTER = iter(range(10**6))


def broken(pool, chosen, scores, ctx, /, *, how: str = ""):
    """Breaks one promise at a time.

    **Source:** this file. **Cost:** none.
    """
    rows = chosen.rows
    if how == "writes":
        (pool.path / "notes").write_text("was here")
    if how == "moody":
        rows = np.roll(rows, next(COUNTER))
    if how == "workers":
        rows = np.roll(rows, ctx.executor.workers)
    if how == "curious":  # looks at rows that are not chosen
        rows = np.roll(rows, int(np.nansum(scores.values)) % 7)
    if how == "forgetful":
        rows = rows[:-1]
    if how == "changes":
        scores.values.flags.writeable = True
        scores.values[0] = 1e9
    return TrainingOrder(rows, chosen.pool_fingerprint, "broken")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("changes", "the input was changed"),
        ("curious", "a row that is not chosen"),
        ("forgetful", "exactly once"),
        ("moody", "two equal calls"),
        ("workers", "number of workers"),
        ("writes", "wrote to the pool's store"),
    ],
)
def test_a_broken_promise_is_found(how, message, tmp_path):
    with pytest.raises((AssertionError, DataError), match=message):
        check_orderer(broken, tmp_path, settings={"how": how})


def test_one_that_keeps_its_promises_passes(tmp_path):
    assert len(check_orderer(broken, tmp_path)) == 90
