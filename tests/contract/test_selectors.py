"""The contract of every registered selector, plug-ins included, on a pool read from a file."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

from didact.core.binding import as_json, bind
from didact.core.errors import BudgetError, PoolMismatchError
from didact.core.manifest import fingerprint
from didact.core.registry import find, known
from didact.core.scores import Budget, Scores
from didact.pipeline import context
from didact.selection.around.near_duplicates import NearDuplicates
from didact.testing import make_pool

NEEDED = {"threshold": {"value": -1e9}}  # settings without a default: let every row pass
NAMES = list(known("selectors"))
MISSING = (5, 6)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Sixty rows of three sources; every tenth repeats row 0; six rows or so are validation."""
    rows = [
        {
            "id": f"r{i}",
            "text": "the same words" if i % 10 == 0 else f"row {i} " + "word " * (i % 7),
            "source": ("web", "books", "code")[i % 3],
        }
        for i in range(60)
    ]
    pool = make_pool(rows, tmp_path_factory.mktemp("selectors"), validation=6)
    assert pool.in_validation.any()
    assert pool.dedup
    return pool


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    return context(seed=17, workers=1, cache_dir=tmp_path_factory.mktemp("cache"))


def scores_of(pool, values=None, missing=MISSING, **more):
    by_task = np.random.default_rng(0).normal(size=(len(pool), 3))
    if values is not None:
        by_task = np.column_stack([values] * 3)
    values = by_task.mean(axis=1)
    values[list(missing)] = np.nan
    return Scores(
        values=values,
        higher_is_better=True,
        method="bm25",
        pool_fingerprint=more.pop("pool_fingerprint", pool.fingerprint),
        tasks=("a", "b", "c"),
        by_task=by_task,
        missing=dict.fromkeys(missing, "empty"),
    )


def may_be_chosen(pool):
    """How many rows a full selection holds: counted here, row by row."""
    groups = {
        int(pool.content_hash[row])
        for row in range(len(pool))
        if not pool.in_validation[row] and row not in MISSING
    }
    return len(groups)


def choose(name, pool, scores, budget, ctx, **settings):
    return find("selectors", name)(pool, scores, budget, ctx, **NEEDED.get(name, {}), **settings)


@pytest.mark.parametrize("name", NAMES)
def test_zero_chooses_nothing(name, pool, ctx):
    for budget in (Budget(samples=0), Budget(tokens=0), Budget(ratio=0.0)):
        assert len(choose(name, pool, scores_of(pool), budget, ctx)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_all_chooses_every_row_that_may_be_chosen_once(name, pool, ctx):
    n = may_be_chosen(pool)
    chosen = choose(name, pool, scores_of(pool), Budget(samples=n), ctx)
    assert len(chosen) == n
    assert not pool.in_validation[chosen.rows].any()
    assert not set(chosen.rows.tolist()) & set(MISSING)
    assert len(np.unique(pool.content_hash[chosen.rows])) == n
    assert chosen.pool_fingerprint == pool.fingerprint
    assert chosen.method == name


@pytest.mark.parametrize("name", NAMES)
def test_more_than_all_is_an_error_with_the_way_out(name, pool, ctx):
    n = may_be_chosen(pool)
    with pytest.raises(BudgetError, match=f"ask for at most {n} samples, or give a ratio"):
        choose(name, pool, scores_of(pool), Budget(samples=n + 1), ctx)
    with pytest.raises(BudgetError, match="more than the pool has"):
        choose(name, pool, scores_of(pool), Budget(tokens=int(pool.n_tokens.sum()) + 1), ctx)
    assert len(choose(name, pool, scores_of(pool), Budget(ratio=1.0), ctx)) == n


@pytest.mark.parametrize("name", NAMES)
def test_ties_and_repeated_calls_give_one_answer(name, pool, ctx):
    level = scores_of(pool, np.zeros(len(pool)))
    budget = Budget(samples=9)
    first = choose(name, pool, level, budget, ctx)
    again = choose(name, pool, level, budget, ctx)
    assert len(first) == 9
    assert first.best_first().tolist() == again.best_first().tolist()
    assert first.why.tolist() == again.why.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["samples", "tokens"])
def test_a_smaller_budget_is_a_prefix_by_rank(name, unit, pool, ctx):
    scores = scores_of(pool)
    total = may_be_chosen(pool) if unit == "samples" else int(pool.n_tokens.sum())
    few, many = (
        choose(name, pool, scores, Budget(**{unit: total // part}), ctx).best_first().tolist()
        for part in (4, 2)
    )
    assert few
    assert many[: len(few)] == few


@pytest.mark.parametrize("name", NAMES)
def test_it_ranks_and_gives_reasons(name, pool, ctx):
    chosen = choose(name, pool, scores_of(pool), Budget(samples=9), ctx)
    assert sorted(chosen.rank.tolist()) == list(range(9))
    assert all(chosen.reasons[code] for code in chosen.why)


@pytest.mark.parametrize("name", NAMES)
def test_quotas_hold(name, pool, ctx):
    method = find("selectors", name)
    settings = bind(method, {**NEEDED.get(name, {}), "quotas": {"at_most": {"web": 2}}}, name)
    chosen = method(pool, scores_of(pool), Budget(samples=9), ctx, **settings)
    sources = pool.source_codes[chosen.rows]
    assert (sources == pool.source_names.index("web")).sum() <= 2
    settings = bind(method, {**NEEDED.get(name, {}), "quotas": {"at_least": 3}}, name)
    chosen = method(pool, scores_of(pool), Budget(samples=9), ctx, **settings)
    assert np.bincount(pool.source_codes[chosen.rows]).tolist() == [3, 3, 3]


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_json_and_bind_again(name, pool, ctx):
    method = find("selectors", name)
    chosen = choose(name, pool, scores_of(pool), Budget(samples=9), ctx)
    settings = json.loads(json.dumps(dict(chosen.settings)))
    assert fingerprint(settings) == fingerprint(chosen.settings)
    assert settings.pop("budget") == "samples=9"
    assert as_json(method, bind(method, settings, name)) == settings


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_another_pool_are_refused(name, pool, ctx):
    with pytest.raises(PoolMismatchError):
        choose(name, pool, scores_of(pool, pool_fingerprint="e" * 32), Budget(samples=1), ctx)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_stays_as_it_was(name, pool, ctx):
    scores = scores_of(pool)
    before = scores.values.copy(), pool.content_hash.copy(), pool.n_tokens.copy()
    choose(name, pool, scores, Budget(samples=9), ctx)
    after = scores.values, pool.content_hash, pool.n_tokens
    assert all(np.array_equal(b, a, equal_nan=True) for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_and_a_one_row_pool(name, tmp_path, ctx):
    one = make_pool([{"id": "a", "text": "only", "source": "web"}], tmp_path)
    scores = scores_of(one, [1.0], missing=())
    assert choose(name, one, scores, Budget(samples=1), ctx).rows.tolist() == [0]
    assert choose(name, one, scores, Budget(ratio=0.5), ctx).rows.tolist() == []


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_has_source_and_cost(name):
    text = inspect.getdoc(find("selectors", name))
    assert "**Source:**" in text
    assert "**Cost:**" in text


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    """Ninety rows in thirty clusters of three: one word of eighty differs; three are validation."""
    rng = np.random.default_rng(3)
    rows = []
    for cluster in range(30):
        base = [f"w{word}" for word in rng.integers(0, 5000, 80)]
        for i in range(3):
            text = [*base[:40], f"own{cluster}x{i}", *base[41:]]
            rows.append({"id": f"r{cluster}-{i}", "text": " ".join(text), "source": "abc"[i]})
    rows = [rows[i] for i in rng.permutation(90)]
    pool = make_pool(rows, tmp_path_factory.mktemp("near"), validation=3)
    words = [text.split() for text in pool.read(range(90), ["text"]).column("text").to_pylist()]
    runs = [{tuple(text[i : i + 5]) for i in range(len(text) - 4)} for text in words]
    return pool, np.array([[len(a & b) / len(a | b) for b in runs] for a in runs])


OPTION = {"near_duplicates": NearDuplicates(similarity=0.7)}  # clusters are at 0.88


@pytest.mark.parametrize("name", NAMES)
def test_no_two_chosen_are_near_duplicates_and_nobody_else_is_refused(name, near, ctx):
    pool, similarity = near
    assert set(np.round(similarity[0], 2)) == {0.0, 0.88, 1.0}
    chosen = choose(name, pool, scores_of(pool), Budget(ratio=1.0), ctx, **OPTION)
    among = similarity[np.ix_(chosen.rows, chosen.rows)] - np.eye(len(chosen))
    assert among.max() == 0
    may = np.setdiff1d(np.flatnonzero(~pool.in_validation), MISSING)
    assert (similarity[np.ix_(may, chosen.rows)].max(axis=1) > 0.8).all()
    assert f"near-duplicates refused: {len(may) - len(chosen)}" in chosen.notes


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_above_what_refusal_leaves_says_so(name, near, ctx):
    pool, _ = near
    n = len(choose(name, pool, scores_of(pool), Budget(ratio=1.0), ctx, **OPTION))
    assert len(choose(name, pool, scores_of(pool), Budget(samples=n), ctx, **OPTION)) == n
    if name == "threshold":  # whose budget is a ceiling
        more = choose(name, pool, scores_of(pool), Budget(samples=n + 1), ctx, **OPTION)
        assert len(more) == n
        return
    with pytest.raises(BudgetError, match=f"near-duplicates, .* ask for at most {n} samples"):
        choose(name, pool, scores_of(pool), Budget(samples=n + 1), ctx, **OPTION)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["samples", "tokens"])
def test_a_smaller_budget_is_a_prefix_without_near_duplicates(name, unit, near, ctx):
    pool, _ = near
    total = 28 if unit == "samples" else int(pool.n_tokens.sum()) // 4
    few, many = (
        choose(name, pool, scores_of(pool), Budget(**{unit: total // part}), ctx, **OPTION)
        .best_first()
        .tolist()
        for part in (3, 1)
    )
    assert few
    assert many[: len(few)] == few


@pytest.mark.parametrize("name", NAMES)
def test_near_duplicates_bind_again_and_workers_change_nothing(name, near, tmp_path):
    pool, _ = near
    method = find("selectors", name)
    given = {**NEEDED.get(name, {}), "near_duplicates": {"similarity": 0.7}}
    chosen = [
        method(
            pool, scores_of(pool), Budget(samples=20),
            context(seed=17, workers=workers, cache_dir=tmp_path), **bind(method, given, name),
        )
        for workers in (1, 2, 1)
    ]  # fmt: skip
    assert len({tuple(c.best_first().tolist()) for c in chosen}) == 1
    settings = json.loads(json.dumps(dict(chosen[0].settings)))
    assert settings.pop("budget") == "samples=20"
    assert settings["near_duplicates"] == {"similarity": 0.7, "ngram": 5, "permutations": 128}
    assert as_json(method, bind(method, settings, name)) == settings
