"""The contract of every registered orderer, plug-ins included, on a pool read from a file."""

from __future__ import annotations

import inspect
import json
import shutil

import numpy as np
import pytest

from didact.core.binding import as_json, bind
from didact.core.errors import PoolMismatchError
from didact.core.manifest import fingerprint
from didact.core.registry import find, known
from didact.core.scores import Budget, Scores, Selection
from didact.ordering.around.arrange import arrange
from didact.pipeline import context
from didact.selection.rank import top_k
from didact.testing import make_pool

NAMES = list(known("orderers"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rows = [{"id": f"r{i}", "text": f"row {i}", "source": "wb"[i % 2]} for i in range(50)]
    return make_pool(rows, tmp_path_factory.mktemp("orderers"))


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    return context(seed=17, workers=1, cache_dir=tmp_path_factory.mktemp("cache"))


def scores_of(pool, *, ties=False, **more):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, len(pool)).astype(float) if ties else rng.normal(size=len(pool))
    values[[3, 4]] = np.nan
    return Scores(
        values=values,
        higher_is_better=True,
        method="bm25",
        pool_fingerprint=more.get("pool_fingerprint", pool.fingerprint),
        missing={3: "empty", 4: "empty"},
    )


def put(name, pool, chosen, scores, ctx, **settings):
    return find("orderers", name)(pool, chosen, scores, ctx, **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [0, 1, 2, 48])
@pytest.mark.parametrize("ties", [True, False])
def test_every_chosen_row_comes_exactly_once(name, k, ties, pool, ctx):
    scores = scores_of(pool, ties=ties)
    chosen = top_k(pool, scores, Budget(samples=k), ctx)
    order = put(name, pool, chosen, scores, ctx)
    assert np.sort(order.rows).tolist() == chosen.rows.tolist()
    assert order.rows.dtype == np.int64
    assert order.pool_fingerprint == pool.fingerprint
    assert (order.method, order.epochs) == (name, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_gives_the_same_order(name, pool, ctx):
    scores = scores_of(pool, ties=True)
    chosen = top_k(pool, scores, Budget(ratio=0.5), ctx)
    first, again = (put(name, pool, chosen, scores, ctx).rows.tolist() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_not_chosen_do_not_matter(name, pool, ctx):
    scores = scores_of(pool)
    chosen = top_k(pool, scores, Budget(samples=20), ctx)
    other = scores.values.copy()
    other[~np.isin(np.arange(len(pool)), chosen.rows) & scores.present] = 1e6
    changed = Scores(
        values=other,
        higher_is_better=True,
        method="bm25",
        pool_fingerprint=pool.fingerprint,
        missing=scores.missing,
    )
    here, there = (put(name, pool, chosen, s, ctx).rows.tolist() for s in (scores, changed))
    assert here == there


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
def test_settings_are_json_and_bind_again(name, pool, ctx):
    method, scores = find("orderers", name), scores_of(pool)
    chosen = top_k(pool, scores, Budget(samples=9), ctx)
    order = arrange(method, {}, pool, chosen, scores, ctx)
    settings = json.loads(json.dumps(dict(order.settings)))
    assert fingerprint(settings) == fingerprint(order.settings)
    for around in ("epochs", "batch_size", "jitter", "interleave"):
        del settings[around]
    assert as_json(method, bind(method, settings, name)) == settings


@pytest.mark.parametrize("name", NAMES)
def test_epochs_interleaving_and_jitter_go_with_it(name, pool, ctx):
    scores = scores_of(pool)
    chosen = top_k(pool, scores, Budget(samples=30), ctx)
    order = arrange(
        find("orderers", name), {}, pool, chosen, scores, ctx,
        epochs=3, batch_size=4, jitter=6, interleave=True,
    )  # fmt: skip
    assert len(order) == 90
    for epoch in order.rows.reshape(3, 30):
        assert np.sort(epoch).tolist() == chosen.rows.tolist()
    assert json.loads(json.dumps(dict(order.settings)))["epochs"] == 3


@pytest.mark.parametrize("name", NAMES)
def test_another_pool_s_values_are_refused(name, pool, ctx):
    chosen = Selection(np.arange(3), "e" * 32, "top_k")
    with pytest.raises(PoolMismatchError):
        put(name, pool, chosen, scores_of(pool), ctx)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_stays_as_it_was(name, pool, ctx):
    scores = scores_of(pool)
    chosen = top_k(pool, scores, Budget(samples=30), ctx)
    before = scores.values.copy(), chosen.rows.copy()
    put(name, pool, chosen, scores, ctx)
    assert np.array_equal(scores.values, before[0], equal_nan=True)
    assert np.array_equal(chosen.rows, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_has_source_and_cost(name):
    text = inspect.getdoc(find("orderers", name))
    assert "**Source:**" in text
    assert "**Cost:**" in text
