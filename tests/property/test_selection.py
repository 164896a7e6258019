"""Laws of selecting: budgets, prefixes, quotas, duplicates, turns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.core.statistics import best_first, zscore
from didact.execution.executors import serial
from didact.scoring.around.combine import combine, scaled_ranks
from didact.selection.around.budget import eligible
from didact.selection.around.choose import choose
from didact.selection.around.quotas import Quotas, largest_remainder
from didact.selection.gumbel_top_k import gumbel_top_k
from didact.selection.middle import middle
from didact.selection.round_robin import Turns, round_robin
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k

CTX = Context(executor=serial(), seed=17, cache_dir=Path())
SOURCES = ["web", "books", "code"]
SMALL = st.integers(-3, 3).map(float)  # many ties
UTILITY = st.lists(SMALL | st.floats(-1e6, 1e6), max_size=60).map(np.array)
SELECTORS = {
    "top_k": partial(choose, top_k),
    "threshold": partial(choose, threshold, value=0.0),
    "middle": partial(choose, middle, center=0.7),
    "gumbel_top_k": partial(choose, gumbel_top_k),
    "round_robin": partial(choose, round_robin),
}


@st.composite
def cases(draw, *, min_size=0, ties=True, higher_is_better=None):
    """A pool in memory with everything that can be in the way, and scores of it."""
    n = draw(st.integers(min_size, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    by_task = rng.integers(-2, 3, (n, 2)).astype(float) if ties else rng.normal(size=(n, 2))
    values = by_task.sum(axis=1)
    missing = np.flatnonzero(rng.random(n) < 0.15)
    values[missing] = np.nan
    columns = {
        "source": rng.integers(0, 3, n),
        "n_tokens": rng.integers(0, 10, n),
        "group": rng.integers(0, 2 * n + 1, n),
        "held": rng.random(n) < 0.2,
    }
    pool = pool_of(columns, dedup=draw(st.booleans()))
    direction = draw(st.booleans()) if higher_is_better is None else higher_is_better
    return SimpleNamespace(
        pool=pool,
        scores=Scores(
            values=values,
            higher_is_better=direction,
            method="bm25",
            pool_fingerprint=pool.fingerprint,
            tasks=("maths", "law"),
            by_task=by_task,
            missing=dict.fromkeys(missing.tolist(), "empty"),
        ),
    )


def pool_of(columns, *, dedup):
    types = {"source": np.int32, "n_tokens": np.int64, "group": np.uint64, "held": bool}
    pool = Pool(Path("no store"), "f" * 32)
    pool.__dict__["_index"] = {k: np.array(v, types[k]) for k, v in columns.items()}
    pool._index["copy"] = np.array(list(copies(pool.content_hash)), np.int32)
    pool.__dict__["meta"] = {
        "n": len(columns["held"]),
        "dedup": "exact" if dedup else "none",
        "source_names": SOURCES,
    }
    return pool


def copies(group):
    """Which copy of its content each row is, from 1."""
    seen: dict[int, int] = {}
    for g in group.tolist():
        seen[g] = seen.get(g, 0) + 1
        yield seen[g]


def candidates(case):
    """Rows that may be chosen when they are ranked by score, best first."""
    ranking = best_first(case.scores.utility)
    return ranking[eligible(case.pool, ranking, case.scores)]


@given(UTILITY)
def test_best_first_is_a_stable_sort(utility):
    assert best_first(utility).tolist() == np.argsort(-utility, kind="stable").tolist()
    assert best_first(utility).dtype == np.int64


@pytest.mark.parametrize("name", SELECTORS)
@given(case=cases(), share=st.floats(0, 1), tokens=st.booleans(), seed=st.integers(0, 9))
def test_never_over_budget_and_never_a_row_that_may_not_be_chosen(name, case, share, tokens, seed):
    allowed = candidates(case)
    budget = (
        Budget(tokens=int(case.pool.n_tokens.sum() * share))
        if tokens
        else Budget(samples=int(len(allowed) * share))
    )
    ctx = Context(executor=serial(), seed=seed, cache_dir=Path())
    chosen = SELECTORS[name](case.pool, case.scores, budget, ctx)
    if tokens:
        assert case.pool.n_tokens[chosen.rows].sum() <= budget.tokens
    elif name == "threshold":
        side = 1 if case.scores.higher_is_better else -1
        passed = (side * case.scores.values[allowed] > 0).sum()
        assert len(chosen) == min(passed, budget.samples)
    else:
        assert len(chosen) == budget.samples
    assert not case.pool.in_validation[chosen.rows].any()
    assert case.scores.present[chosen.rows].all()
    if case.pool.dedup:
        assert len(np.unique(case.pool.content_hash[chosen.rows])) == len(chosen)
    assert len(chosen.why) == len(chosen)
    assert len(np.unique(chosen.why)) == len(chosen.reasons)


@pytest.mark.parametrize("name", SELECTORS)
@given(case=cases(), sizes=st.tuples(st.floats(0, 1), st.floats(0, 1)), tokens=st.booleans())
def test_a_smaller_budget_is_a_prefix_by_rank(name, case, sizes, tokens):
    total = case.pool.n_tokens.sum() if tokens else len(candidates(case))
    small, large = sorted(int(total * s) for s in sizes)
    unit = "tokens" if tokens else "samples"
    few = SELECTORS[name](case.pool, case.scores, Budget(**{unit: small}), CTX).best_first()
    many = SELECTORS[name](case.pool, case.scores, Budget(**{unit: large}), CTX).best_first()
    assert many[: len(few)].tolist() == few.tolist()


@given(case=cases(), share=st.floats(0, 1))
def test_a_token_budget_takes_the_longest_prefix_that_fits(case, share):
    budget = int(case.pool.n_tokens.sum() * share)
    ranking = candidates(case)
    chosen = choose(top_k, case.pool, case.scores, Budget(tokens=budget), CTX).best_first()
    assert chosen.tolist() == ranking[: len(chosen)].tolist()
    if budget and len(chosen) < len(ranking):
        assert case.pool.n_tokens[ranking[: len(chosen) + 1]].sum() > budget


@given(case=cases(), ratio=st.integers(0, 100))
def test_a_ratio_is_of_all_rows_and_at_most_the_candidates(case, ratio):
    chosen = choose(top_k, case.pool, case.scores, Budget(ratio=ratio / 100), CTX)
    asked, there = len(case.pool) * ratio // 100, len(candidates(case))
    assert len(chosen) == min(asked, there)
    assert len(chosen.notes) == (asked > there or not len(chosen))  # at least that there is none


@given(case=cases(), more=st.integers(1, 9))
def test_more_samples_than_candidates_is_an_error_that_counts_them(case, more):
    there = len(candidates(case))
    with pytest.raises(BudgetError, match=rf"of which {there:,} rows may be chosen"):
        choose(top_k, case.pool, case.scores, Budget(samples=there + more), CTX)


@pytest.mark.parametrize("name", ["top_k", "threshold", "round_robin"])
@given(case=cases(ties=False), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_without_ties_it_does_not_matter_where_rows_stand(name, case, share, seed):
    # Duplicates of unequal score are compared by score, so they cannot disturb this.
    order = np.random.default_rng(seed).permutation(len(case.pool))
    moved = SimpleNamespace(
        pool=pool_of(
            {k: v[order] for k, v in case.pool._index.items() if k != "copy"}, dedup=case.pool.dedup
        ),
        scores=Scores(
            values=case.scores.values[order],
            higher_is_better=case.scores.higher_is_better,
            method="bm25",
            pool_fingerprint="f" * 32,
            tasks=case.scores.tasks,
            by_task=case.scores.by_task[order],
            missing=dict.fromkeys(np.flatnonzero(~case.scores.present[order]).tolist(), "empty"),
        ),
    )
    budget = Budget(samples=int(len(candidates(case)) * share))
    here = SELECTORS[name](case.pool, case.scores, budget, CTX).best_first()
    there = SELECTORS[name](moved.pool, moved.scores, budget, CTX).best_first()
    assert order[there].tolist() == here.tolist()


@given(case=cases(), center=st.floats(0, 1), share=st.floats(0, 1))
def test_middle_grows_outward_from_its_center(case, center, share):
    ranking = candidates(case)[::-1].tolist()  # worst first, as quantiles count
    target = center * (len(ranking) - 1)
    assume(2 * target == int(2 * target) or abs(2 * target - round(2 * target)) > 1e-5)
    by_distance = sorted(ranking, key=lambda row: (abs(ranking.index(row) - target), row))
    budget = Budget(samples=int(len(ranking) * share))
    chosen = choose(middle, case.pool, case.scores, budget, CTX, center=center)
    assert chosen.best_first().tolist() == by_distance[: len(chosen)]


# ---- quotas ---------------------------------------------------------------------------------


def walk(case, ranking, sizes, limit, *, most, least):
    """at_most and at_least by walking the ranking twice, one row at a time."""
    source = case.pool.source_codes
    have = dict.fromkeys(range(3), 0)
    closed = set()
    out = []
    for row in ranking:
        if have[source[row]] < least[source[row]]:
            have[source[row]] += sizes[row]
            out.append(row)
    left = limit - sum(have.values())
    for row in ranking:
        s = source[row]
        if row in out:
            continue
        if s in closed or most[s] == 0 or have[s] + sizes[row] > most[s]:
            closed.add(s)  # a source's best rows, without gaps
            continue
        if sizes[row] > left:
            break  # a prefix, without gaps
        have[s] += sizes[row]
        left -= sizes[row]
        out.append(row)
    return out


@given(
    case=cases(min_size=3),
    share=st.floats(0, 1),
    tokens=st.booleans(),
    most=st.tuples(*[st.integers(2, 40)] * 3),
    least=st.tuples(*[st.sampled_from([0, 0, 2, 3])] * 3),
)
def test_bounds_equal_a_walk_or_say_why_not(case, share, tokens, most, least):
    ranking = candidates(case)
    sizes = case.pool.n_tokens if tokens else np.ones(len(case.pool), int)
    limit = int(sizes[ranking].sum() * share)
    quotas = Quotas(
        at_most=dict(zip(SOURCES, most, strict=True)),
        at_least=dict(zip(SOURCES, least, strict=True)),
    )
    budget = Budget(**{"tokens" if tokens else "samples": limit})
    source = case.pool.source_codes
    totals = np.array([sizes[ranking][source[ranking] == s].sum() for s in range(3)])
    try:
        chosen = choose(top_k, case.pool, case.scores, budget, CTX, quotas=quotas)
    except ConfigError:
        assert any(low > high for low, high in zip(least, most, strict=True))
        return
    except BudgetError as error:
        reachable = np.minimum(totals, most).sum()
        secured = walk(case, ranking, sizes, 0, most=[0] * 3, least=least)
        over_most = [sizes[[r for r in secured if source[r] == s]].sum() for s in range(3)] > (
            np.array(most)
        )
        assert (  # noqa: PT017 - which error is right depends on the case
            ("should give" in str(error) and (totals < least).any())
            or ("adds up to" in str(error) and sum(least) > limit)
            or ("in whole rows" in str(error) and sizes[secured].sum() > limit)
            or ("further apart" in str(error) and over_most.any())
            or ("reachable" in str(error) and reachable < limit and not tokens)
        )
        return
    walked = walk(case, ranking, sizes, limit, most=most, least=least) if limit else []
    assert chosen.best_first().tolist() == walked
    for s, name in enumerate(SOURCES):
        amount = sizes[chosen.rows[source[chosen.rows] == s]].sum()
        assert least[s] <= amount <= most[s]
        assert (f"at_least: {name}" in chosen.reasons) <= (least[s] > 0)


@given(case=cases(min_size=1), share=st.floats(0, 1), tokens=st.booleans())
def test_proportional_keeps_every_source_within_one_of_its_share(case, share, tokens):
    ranking = candidates(case)
    sizes = case.pool.n_tokens if tokens else np.ones(len(case.pool), int)
    limit = int(sizes[ranking].sum() * share)
    budget = Budget(**{"tokens" if tokens else "samples": limit})
    chosen = choose(top_k, case.pool, case.scores, budget, CTX, quotas=Quotas(proportional=True))
    amount = sizes[chosen.rows].sum()
    assert amount <= limit
    if tokens:
        return
    assert amount == limit
    for s in range(3):
        of_source = case.pool.source_codes[ranking] == s
        exact = limit * of_source.sum() / max(len(ranking), 1)
        got = (case.pool.source_codes[chosen.rows] == s).sum()
        assert abs(got - exact) < 1
        best = ranking[of_source][:got]  # a source's best rows
        assert set(best) == set(chosen.rows[case.pool.source_codes[chosen.rows] == s])


@given(case=cases(), sizes=st.tuples(st.floats(0, 1), st.floats(0, 1)), most=st.integers(2, 9))
def test_absolute_maximums_keep_the_prefix_law(case, sizes, most):
    total = case.pool.n_tokens.sum()
    small, large = sorted(int(total * s) for s in sizes)
    few, many = (
        choose(top_k, case.pool, case.scores, Budget(tokens=b), CTX, quotas=Quotas(at_most=most))
        for b in (small, large)
    )
    assert many.best_first()[: len(few)].tolist() == few.best_first().tolist()


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=9), st.integers(0, 10**12))
def test_largest_remainder_stays_within_one_of_the_exact_share(weights, seats):
    seated = largest_remainder(np.array(weights), seats)
    assert seated.sum() == (seats if sum(weights) else 0)
    for weight, got in zip(weights, seated.tolist(), strict=True):
        assert abs(got * sum(weights) - seats * weight) < max(sum(weights), 1)


# ---- turns, ranks, z-scores -----------------------------------------------------------------


@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(SMALL, min_size=k, max_size=k), min_size=1, max_size=30)
    ),
    st.integers(1, 9),
    st.integers(0, 40),
)
def test_turns_equal_a_search_for_the_best_free_row(rows, n_groups, limit):
    utility = np.array(rows)
    group = np.arange(len(rows)) % n_groups
    _, group = np.unique(group, return_inverse=True)
    free, expected = set(range(len(rows))), []
    while free and len(expected) < limit:
        task = len(expected) % utility.shape[1]
        best = min(free, key=lambda r: (-utility[r, task], r))
        expected.append((best, task))
        free -= {r for r in free if group[r] == group[best]}
    turns = Turns(utility, group)
    picked = turns.pick(limit).tolist()
    assert list(zip(picked, turns.takers, strict=True)) == expected


@given(UTILITY)
def test_scaled_ranks_count_rows_below_and_half_of_those_level(utility):
    n = len(utility)
    for value, rank in zip(utility, scaled_ranks(utility), strict=True):
        below, level = (utility < value).sum(), (utility == value).sum()
        expected = (below + (level - 1) / 2) / (n - 1) if n > 1 else 0.5
        assert rank == pytest.approx(expected, abs=1e-12)


@given(case=cases(higher_is_better=True))
def test_rank_mean_of_a_score_with_itself_keeps_its_order(case):
    both = combine([case.scores, case.scores], "rank_mean")
    assert both.missing == dict.fromkeys(case.scores.missing, "bm25: empty")
    assert best_first(both.utility).tolist() == best_first(case.scores.utility).tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).map(np.array))
def test_zscores_have_mean_0_and_population_std_1(values):
    assume(values.std() > 1e-3)
    z = zscore(values)
    assert z.mean() == pytest.approx(0, abs=1e-6)
    assert z.std() == pytest.approx(1, abs=1e-6)
    assert (np.abs(zscore(values, clip=1.5)) <= 1.5).all()
