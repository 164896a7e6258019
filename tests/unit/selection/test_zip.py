"""The selector `zip`: exact comparisons, rounds on disk, what it refuses and what it tells."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

import didact
from didact.accounting.counts import stats_from_counts
from didact.core.binding import bind
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.core.pieces import Pieces
from didact.core.scores import Scores
from didact.execution.executors import Workers
from didact.pipeline import context
from didact.selection.around.choose import choose, estimate
from didact.selection.around.near_duplicates import NearDuplicates
from didact.selection.around.quotas import Quotas
from didact.selection.zip import partial_sort, rounds
from didact.selection.zip import released as zip_released
from didact.selection.zip import zip as zip_module
from didact.selection.zip.rounds import Rounds, sample_texts, smallest
from didact.selection.zip.zip import estimate_zip, zip_
from didact.testing import make_pool
from didact.text.deflate.sizes import DeflateSizes, classic_zlib, fast_backend

STAGES = {"k1": 60, "k2": 24, "k3": 10}


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    words = [f"{a}{b}" for a in ("ta", "ri", "mo", "keß") for b in ("lo", "ne", "sus", "ban")]
    return [
        {"id": f"r{i}", "text": " ".join(words[j] for j in rng.integers(0, 16, rng.integers(1, 60))) + f" {i}",
         "source": "ab"[i % 2]}
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """400 rows, 20 of them validation."""
    return make_pool(rows_of(400), tmp_path_factory.mktemp("zip"), validation=20)


@pytest.fixture
def ctx(tmp_path):
    return context(seed=0, workers=1, cache_dir=tmp_path / "cache")


def picks(pool, ctx, budget, **settings):
    budget = Budget(samples=budget) if isinstance(budget, int) else budget
    return choose(zip_, pool, None, budget, ctx, **{**STAGES, **settings}).best_first().tolist()


# -- exact comparisons -----------------------------------------------------------------------------


def by_fractions(raw, compressed, k):
    order = sorted(range(len(raw)), key=lambda i: (Fraction(int(raw[i]), int(compressed[i])), i))
    return sorted(order[:k])


@pytest.mark.parametrize("top", [5, 60, 10**4, 2**31, 2**40])
def test_smallest_is_a_sort_of_fractions(top):
    rng = np.random.default_rng(top)
    for _ in range(60):
        n = int(rng.integers(1, 60))
        raw, compressed = rng.integers(1, top, n), rng.integers(1, top, n)
        if top > 10**4:  # neighbors that float64 cannot tell apart
            raw = top + rng.integers(0, 3, n)
            compressed = raw - 1
        k = int(rng.integers(1, n + 1))
        expected = by_fractions(raw, compressed, k)
        assert smallest(raw, compressed, raw / compressed, k).tolist() == expected


def test_equal_floats_of_unequal_fractions_are_told_apart():
    raw = np.array([10**12, 10**12 + 1])
    compressed = raw - 1
    assert raw[0] / compressed[0] == raw[1] / compressed[1]
    assert smallest(raw, compressed, raw / compressed, 1).tolist() == [1]


# -- top-k of torch --------------------------------------------------------------------------------


def vectors(seed, count):
    """Float32 vectors full of ties, of many shapes, each with some k."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = int(np.exp(rng.uniform(0, np.log(3000))))
        v = (
            rng.integers(0, int(np.exp(rng.uniform(0, np.log(n + 1)))) + 1, n).astype(np.float32)
            / 7
        )
        if i % 6 == 1:
            v.sort()
        elif i % 6 == 2:
            v = np.sort(v)[::-1].copy()
        elif i % 6 == 3:
            v = np.abs(np.arange(n) - n // 2).astype(np.float32)
        elif i % 6 == 4:
            v[rng.random(n) < 0.3] = 1e6
        elif i % 6 == 5:
            v[rng.random(n) < 0.1] = np.nan
        for k in {
            1,
            n,
            max(1, n // 64),
            min(n, n // 64 + 1),
            max(1, n - 1),
            int(rng.integers(1, n + 1)),
        }:
            yield v, k


def test_top_k_is_that_of_torch():
    torch = pytest.importorskip("torch")
    for v, k in vectors(1, 250):
        expected = torch.topk(torch.from_numpy(v), k, largest=False).indices.tolist()
        assert partial_sort.smallest(v, k).tolist() == expected
    assert partial_sort.smallest(np.ones(3, np.float32), 0).tolist() == []


def test_top_k_of_a_vector_as_long_as_a_pool_is_that_of_torch():
    torch = pytest.importorskip("torch")
    v = np.random.default_rng(0).integers(0, 300, 20_000).astype(np.float32)
    for k in (1, 200, 312, 313, 10_000, 19_999, 20_000):
        expected = torch.topk(torch.from_numpy(v), k, largest=False).indices.tolist()
        assert partial_sort.smallest(v, k).tolist() == expected


@pytest.fixture
def interpreted(monkeypatch):
    """The module as it is without numba."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "numba" else find(name)
    )
    spec = find("didact.selection.zip.partial_sort")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module._COMPILED
    return module


def test_top_k_without_numba_is_the_same(interpreted):
    for v, k in vectors(2, 60):
        assert interpreted.smallest(v, k).tolist() == partial_sort.smallest(v, k).tolist()


def killer(module, run, n=2000):
    """A vector that McIlroy's adversary makes ("A killer adversary for quicksort", 1999).

    Its values are decided while they are compared, so that every median is a bad one.
    """
    gas = n + 1.0
    values, solid, candidate = [gas] * n, 0, 0

    def less(a, b):
        nonlocal solid, candidate
        a, b = int(a), int(b)  # the keys are names of values
        if values[a] == values[b] == gas:
            values[a if a == candidate else b] = float(solid)
            solid += 1
        if values[a] == gas:
            candidate = a
        elif values[b] == gas:
            candidate = b
        return values[a] < values[b]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "less", less)
        run([float(i) for i in range(n)], list(range(n)))
    return np.array(values, np.float32)


@pytest.fixture
def heaps(interpreted, monkeypatch):
    """Where heaps take over, call by call."""
    calls, plain = [], interpreted.heap_select
    monkeypatch.setattr(interpreted, "heap_select", lambda *a: (calls.append(a[2:]), plain(*a)))
    return calls


@pytest.mark.parametrize("k", [2000, 1000])
def test_top_k_where_a_heap_takes_over(k, interpreted, heaps):
    torch = pytest.importorskip("torch")
    v = killer(interpreted, lambda keys, at: interpreted.select(keys, at, k - 1, len(keys))) // 3
    heaps.clear()
    expected = torch.topk(torch.from_numpy(v), k, largest=False).indices.tolist()
    assert interpreted.smallest(v, k).tolist() == expected
    assert heaps
    assert partial_sort.smallest(v, k).tolist() == expected


def test_sort_where_a_heap_takes_over(interpreted, heaps):
    v = killer(interpreted, lambda keys, at: interpreted.sort(keys, at, len(keys)))
    heaps.clear()
    keys, at = v.tolist(), list(range(len(v)))
    interpreted.sort(keys, at, len(v))
    assert heaps
    assert keys == sorted(v.tolist())
    assert v[at].tolist() == keys


# -- the growth ------------------------------------------------------------------------------------


def growth_of(texts, stages=(30, 12, 5)):
    whole, fresh = DeflateSizes(texts), DeflateSizes(texts)
    return Rounds(texts, whole, fresh, whole.sizes(np.arange(len(texts))), stages, Pieces())


@pytest.fixture(scope="module")
def texts(pool):
    return sample_texts(pool, np.arange(0, len(pool), 4))


def test_texts_are_those_of_the_pool(pool, texts):
    rows = np.arange(0, len(pool), 4)
    expected = pool.read(rows, ["text"])["text"].to_pylist()
    assert [texts[i].tobytes().decode() for i in range(len(texts))] == [t + "\n" for t in expected]


def test_one_pick_at_a_time_is_the_same_as_many(texts):
    growth = growth_of(texts)
    single = [int(growth.pick(1)[0]) for _ in range(37)]
    assert growth_of(texts).pick(37).tolist() == single
    growth = growth_of(texts)
    assert [p for most in (3, 11, 0, 23) for p in growth.pick(most).tolist()] == single


def test_all_are_picked_once_and_then_nobody_is_left(texts):
    growth = growth_of(texts)
    assert sorted(growth.pick(1000).tolist()) == list(range(len(texts)))
    assert growth.pick(3).tolist() == []


def test_replayed_picks_lead_to_the_same_place(texts):
    before, after = np.split(growth_of(texts).pick(40), [17])
    growth = growth_of(texts)
    growth.replay(before)
    assert growth.pick(23).tolist() == after.tolist()


def test_blocked_candidates_are_gone_within_the_round(texts):
    plain = growth_of(texts).pick(12)
    growth = growth_of(texts)
    first = growth.pick(2)
    assert first.tolist() == plain[:2].tolist()
    growth.block(plain[2:4])
    rest = growth.pick(1000)
    assert not set(plain[2:4].tolist()) & set(rest.tolist())
    assert len(rest) == len(texts) - 4


def test_a_round_whose_candidates_are_all_blocked_ends(texts):
    growth = growth_of(texts, (30, 3, 3))
    first = growth.pick(1)
    growth.block(np.setdiff1d(np.arange(20), first))
    assert len(growth.pick(1000)) == len(texts) - len(np.union1d(first, np.arange(20)))


# -- the selection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_workers_change_nothing(mode, pool, ctx, tmp_path):
    two = context(seed=0, workers=2, cache_dir=tmp_path / "cache")
    assert picks(pool, two, 50, mode=mode) == picks(pool, ctx, 50, mode=mode)


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_without_numba_the_picks_are_the_same(mode, pool, ctx, interpreted, monkeypatch):
    pytest.importorskip("numba")
    if not classic_zlib():
        pytest.skip("this zlib is not the classic one")
    expected = picks(pool, ctx, 50, mode=mode)
    for module in (zip_module, zip_released):
        monkeypatch.setattr(module, "DeflateSizes", partial(DeflateSizes, backend="zlib"))
    monkeypatch.setattr(zip_released, "smallest", interpreted.smallest)
    assert picks(pool, ctx, 50, mode=mode) == expected


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_validation_rows_and_rows_without_a_score_are_never_chosen(mode, pool, ctx):
    values = np.ones(len(pool))
    values[::5] = np.nan
    scores = Scores(
        values=values, higher_is_better=True, method="column", pool_fingerprint=pool.fingerprint,
        missing=dict.fromkeys(range(0, len(pool), 5), "none"),
    )  # fmt: skip
    chosen = choose(zip_, pool, scores, Budget(samples=100), ctx, mode=mode, **STAGES)
    assert len(chosen) == 100
    assert not pool.in_validation[chosen.rows].any()
    assert (chosen.rows % 5).all()


@pytest.mark.parametrize("unit", ["samples", "tokens"])
def test_smaller_budgets_are_prefixes(unit, pool, ctx):
    amounts = (1, 9, 10, 11, 33) if unit == "samples" else (200, 900, 1500)
    whole = picks(pool, ctx, 380)
    for amount in amounts:
        found = picks(pool, ctx, Budget(**{unit: amount}))
        assert found
        assert found == whole[: len(found)]
        if unit == "samples":
            assert len(found) == amount
        else:
            size = pool.n_tokens
            assert size[found].sum() <= amount < size[whole[: len(found) + 1]].sum()


def test_on_a_cluster_it_says_that_it_is_one_machines(pool, ctx, monkeypatch):
    told = []
    alone = picks(pool, replace(ctx, tell=told.append), 9)
    assert told == []
    monkeypatch.setattr(Workers, "elsewhere", True)
    on_a_cluster = picks(pool, replace(ctx, tell=told.append), 9)
    assert on_a_cluster == alone
    assert [line for line in told if "one machine's" in line]


def test_settings_above_the_candidates_are_clamped_and_said(pool, ctx):
    chosen = choose(zip_, pool, None, Budget(samples=30), ctx, k1=1000, k2=500, k3=7)
    assert chosen.notes == ("k1=1,000 became 380, k2=500 became 380: there are no more candidates",)
    assert chosen.settings["k1"] == 1000
    assert chosen.best_first().tolist() == picks(pool, ctx, 30, k1=380, k2=380, k3=7)
    assert choose(zip_, pool, None, Budget(samples=30), ctx, **STAGES).notes == ()


@pytest.mark.parametrize("stages", [{"k3": 25}, {"k2": 61}, {"k1": 20}])
@pytest.mark.parametrize("mode", ["exact", "released"])
def test_stages_that_grow_are_refused(mode, stages, pool, ctx):
    with pytest.raises(ConfigError, match="expected k1 ≥ k2 ≥ k3"):
        picks(pool, ctx, 10, mode=mode, **stages)


def test_settings_of_the_command_line_are_checked():
    with pytest.raises(ConfigError, match=r"zip\.k1: .*greater than or equal to 1; got 0"):
        bind(zip_, {"k1": 0}, "zip")
    with pytest.raises(ConfigError, match=r"zip\.mode: .*'exact' or 'released'"):
        bind(zip_, {"mode": "official"}, "zip")


def test_near_duplicates_are_refused(tmp_path, ctx):
    pytest.importorskip("rensa")
    rows = rows_of(60)
    twins = [
        {**row, "id": f"twin {i}", "text": row["text"] + " more"} for i, row in enumerate(rows)
    ]
    long = [i for i, row in enumerate(rows) if len(row["text"].split()) > 30]
    pool = make_pool([row for pair in zip(rows, twins, strict=True) for row in pair], tmp_path)
    both = picks(pool, ctx, 120)
    assert sorted(both) == list(range(120))
    chosen = choose(
        zip_, pool, None, Budget(ratio=1.0), ctx, near_duplicates=NearDuplicates(), **STAGES
    )
    pairs = np.bincount(chosen.rows // 2, minlength=60)
    assert len(long) > 20
    assert (pairs[long] == 1).all()
    assert (pairs >= 1).all()
    assert any("near-duplicates refused" in note for note in chosen.notes)


def test_without_the_classic_zlib_the_picks_say_so(pool, ctx, monkeypatch):
    for module in (zip_module, zip_released):
        monkeypatch.setattr(module, "classic_zlib", lambda: False)
    assert choose(zip_, pool, None, Budget(samples=5), ctx, **STAGES).notes == ()  # numba counts
    assert len(picks(pool, ctx, 5, mode="released"))
    for module in (zip_module, zip_released):
        monkeypatch.setattr(module, "fast_backend", lambda: False)
    chosen = choose(zip_, pool, None, Budget(samples=5), ctx, **STAGES)
    assert "not of the classic zlib" in chosen.notes[0]
    with pytest.raises(ConfigError, match=r"classic zlib.*didact\[fast\]"):
        picks(pool, ctx, 5, mode="released")


def test_progress_is_told(pool, ctx):
    seen = []
    picks(pool, replace(ctx, progress=seen.append), 35)
    alone = [p for p in seen if p.stage == "compress alone"]
    assert [(p.done, p.total) for p in alone] == [(0, 380), (380, 380)]
    assert [p.done for p in seen if p.stage == "select"] == [0, 10, 20, 30, 35, 35]
    seen.clear()
    picks(pool, replace(ctx, progress=seen.append), 35, mode="released")
    assert [(p.done, p.total) for p in seen if p.stage == "select"][:2] == [(0, 40), (10, 40)]


# -- the released mode -----------------------------------------------------------------------------


def test_released_keeps_whole_rounds_and_says_so(pool, ctx):
    chosen = choose(zip_, pool, None, Budget(samples=33), ctx, mode="released", **STAGES)
    assert len(chosen) == 40
    assert "40 samples for the 33 asked for" in chosen.notes[0]
    assert chosen.best_first().tolist() == picks(pool, ctx, 40, mode="released")
    assert choose(zip_, pool, None, Budget(samples=40), ctx, mode="released", **STAGES).notes == ()
    assert len(choose(zip_, pool, None, Budget(ratio=0.1), ctx, mode="released", **STAGES)) == 40
    assert len(choose(zip_, pool, None, Budget(samples=0), ctx, mode="released", **STAGES)) == 0


def test_released_counts_exact_duplicates_as_samples(tmp_path, ctx):
    rows = rows_of(50)
    pool = make_pool([*rows, *({**row, "id": f"copy {row['id']}"} for row in rows)], tmp_path)
    stages = {"k1": 100, "k2": 100, "k3": 100}
    chosen = choose(zip_, pool, None, Budget(samples=100), ctx, mode="released", **stages)
    assert chosen.rows.tolist() == list(range(100))
    (note,) = chosen.notes
    assert "50 of 100 candidates are copies of others, and 50 of 100 samples chosen" in note


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"quotas": Quotas(at_most=0.5)}, "quotas"),
        ({"near_duplicates": NearDuplicates()}, "near_duplicates"),
        ({"budget": Budget(tokens=100)}, "counts samples"),
        ({"k1": 381}, "more than the 380 candidates"),
        ({"k1": 360, "budget": 11}, "picks samples twice; expected at least k1 .* = 384"),
    ],
)
def test_released_refuses_what_the_released_code_cannot_do(more, message, pool, ctx):
    more = {"budget": 10, **more}
    with pytest.raises(ConfigError, match=message):
        picks(pool, ctx, more.pop("budget"), mode="released", **more)


def test_released_goes_as_far_as_no_sample_is_picked_twice(pool, ctx):
    """380 candidates, 24 used up by a round: the last round that finds 60 is the fourteenth."""
    assert 380 - 13 * 24 >= 60 > 380 - 14 * 24
    assert len(picks(pool, ctx, 140, mode="released")) == 140
    with pytest.raises(ConfigError, match="15 rounds"):
        picks(pool, ctx, 141, mode="released")


def test_released_needs_a_budget_within_the_pool(pool, ctx):
    with pytest.raises(BudgetError, match="needs a budget"):
        choose(zip_, pool, None, None, ctx, mode="released")
    with pytest.raises(BudgetError, match="ask for at most 380 samples"):
        picks(pool, ctx, 381, mode="released")


# -- going on after a kill -------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
import didact
from didact.core.pieces import Pieces
from didact.pipeline import context
from didact.selection.around.choose import choose
from didact.selection.zip.zip import zip_
from didact.text.deflate.sizes import DeflateSizes
path, place, mode, where, moment = sys.argv[1:]
ctx = context(seed=0, workers=1, cache_dir=Path(place).parent / "cache")
pool = didact.read(path, cache_dir=ctx.cache_dir)
calls = 0
def counted(function):
    def call(*args):
        global calls
        calls += 1
        if calls == int(moment):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return call
if where == "counting":
    DeflateSizes.sizes = counted(DeflateSizes.sizes)
else:  # written in part, not renamed yet
    Path.rename = counted(Path.rename)
choose(zip_, pool, None, didact.Budget(samples=45), replace(ctx, pieces=Pieces(Path(place))),
     mode=mode, k1=60, k2=24, k3=10)
"""


@pytest.mark.parametrize(
    ("mode", "where", "moment", "rounds"),
    [
        ("exact", "counting", 1, 0),
        ("exact", "counting", 2, 0),
        ("exact", "counting", 17, 1),
        ("exact", "renaming", 2, 0),
        ("released", "counting", 25, 2),
    ],
)
def test_a_killed_selection_goes_on(mode, where, moment, rounds, tmp_path, ctx, monkeypatch):
    path, place = tmp_path / "pool.jsonl", tmp_path / "pieces"
    pool = make_pool(rows_of(200), tmp_path)
    command = [sys.executable, "-c", SCRIPT, str(path), str(place), mode, where, str(moment)]
    killed = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    assert len(list(place.glob("round-*/entry.json"))) == rounds
    expected = picks(pool, ctx, 45, mode=mode)
    evaluations = counting(monkeypatch)
    there = replace(ctx, pieces=Pieces(place))
    assert picks(pool, there, 45, mode=mode) == expected
    # Stage 0 unless it was kept; 60 a round but for the first; 23, 22 … for its picks but the first.
    full = 5 if mode == "released" else 4
    renewed = 60 * (4 if rounds == 0 else 5 - rounds)
    picked = (full - rounds) * sum(range(15, 24)) + (0 if full == 5 else sum(range(20, 24)))
    assert sum(evaluations) == (200 if moment == 1 else 0) + renewed + picked


def counting(monkeypatch):
    """How many evaluations each call makes, from now on."""
    calls = []
    sizes = DeflateSizes.sizes
    monkeypatch.setattr(
        DeflateSizes, "sizes", lambda self, rows: (calls.append(len(rows)), sizes(self, rows))[1]
    )
    return calls


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_damaged_pieces_are_done_again(mode, pool, ctx, tmp_path, monkeypatch):
    told = []
    there = replace(ctx, pieces=Pieces(tmp_path / "pieces", tell=told.append))
    expected = picks(pool, there, 45, mode=mode)
    pieces = sorted((tmp_path / "pieces").iterdir())
    assert len(pieces) == 1 + (5 if mode == "released" else 4)
    calls = counting(monkeypatch)
    assert picks(pool, there, 45, mode=mode) == expected
    assert sum(calls) == (0 if mode == "released" else 60 + sum(range(20, 24)))
    assert told == []
    for piece in pieces:
        assert sorted(p.name for p in piece.iterdir()) == ["arrays.npz", "entry.json"]
        whole = (piece / "arrays.npz").read_bytes()
        for path in piece.iterdir():
            data = path.read_bytes()
            for damaged in (b"", data[:-2], data[: len(data) // 2], data[:40] + b"~" + data[41:]):
                path.write_bytes(damaged)
                assert picks(pool, there, 45, mode=mode) == expected
                assert f"{path}: is damaged" in told.pop()
                assert told == []
                assert (piece / "arrays.npz").read_bytes() == whole


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_pieces_of_other_settings_are_not_read(mode, pool, ctx, monkeypatch):
    """A selection that was killed leaves pieces; one with other settings begins at the beginning."""

    def chosen(ctx, **more):
        settings = {**STAGES, "mode": mode, **more}
        found = didact.select(pool, None, "zip", budget=Budget(samples=45), ctx=ctx, **settings)
        return found.best_first().tolist()

    expected = {k3: picks(pool, ctx, 45, mode=mode, k3=k3) for k3 in (9, 10)}
    moment, sizes = iter(range(30)), DeflateSizes.sizes

    def killed(self, rows):
        if next(moment) == 25:
            raise KeyboardInterrupt
        return sizes(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(DeflateSizes, "sizes", killed)
        with pytest.raises(KeyboardInterrupt):
            chosen(ctx)
    (left,) = (ctx.cache_dir / "unfinished").iterdir()
    rounds = len(list(left.glob("round-*/entry.json")))
    assert rounds > 0
    calls = counting(monkeypatch)
    assert chosen(ctx, k3=9) == expected[9]
    other = sum(calls)
    calls.clear()
    assert chosen(ctx) == expected[10]
    assert sum(calls) < other
    assert list((ctx.cache_dir / "unfinished").iterdir()) == []


def test_a_larger_budget_goes_on_from_the_rounds_of_a_smaller(pool, ctx, tmp_path):
    there = replace(ctx, pieces=Pieces(tmp_path / "pieces"))
    few = picks(pool, there, 45)
    many = picks(pool, there, 90)
    assert many[:45] == few
    assert many == picks(pool, ctx, 90)


def test_refusals_and_kept_rounds_go_together(pool, ctx, tmp_path):
    pytest.importorskip("rensa")
    settings = {"near_duplicates": NearDuplicates(similarity=0.5, ngram=1)}
    there = replace(ctx, pieces=Pieces(tmp_path / "pieces"))
    plain = picks(pool, ctx, 45)
    refused = picks(pool, ctx, 45, **settings)
    assert refused != plain
    assert picks(pool, there, 25, **settings) == refused[:25]
    assert picks(pool, there, 45, **settings) == refused


def test_stage_0_is_kept_in_shards(pool, ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "_SHARD_BYTES", 10_000)
    there = replace(ctx, pieces=Pieces(tmp_path / "pieces"))
    seen = []
    expected = picks(pool, ctx, 10)
    assert picks(pool, replace(there, progress=seen.append), 10) == expected
    shards = len(list((tmp_path / "pieces").glob("alone-*/entry.json")))
    assert shards > 5
    assert len([p for p in seen if p.stage == "compress alone"]) == shards + 1


# -- the estimate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [STAGES, {"k1": 1000, "k2": 500, "k3": 70}])
def test_the_estimate_counts_evaluations(stages, pool, ctx, monkeypatch):
    monkeypatch.setattr(zip_module, "_SECONDS", {True: (1.0, 0.0), False: (1.0, 0.0)})
    whole = make_pool(rows_of(380), ctx.cache_dir)
    budget = Budget(samples=140)
    cost = estimate_zip(whole.stats, budget, mode="exact", **stages)
    calls = counting(monkeypatch)
    picks(whole, ctx, budget, **stages)
    assert cost.cpu_seconds == pytest.approx(sum(calls), rel=0.01)


def test_the_estimate_of_a_huge_pool_takes_no_memory():
    huge = stats_from_counts(10**12, 350)
    cost = estimate_zip(huge, Budget(samples=10**10), mode="exact", k1=10_000, k2=200, k3=100)
    # 10^8 rounds of 10,000 evaluations, and of 200 + 199 + … + 101 but those before a first pick
    evaluations = 10**12 + 10**8 * (10_000 + 100 * (400 - 100 + 1) // 2 - 200)
    each, a_byte = zip_module._SECONDS[fast_backend()]
    assert cost.cpu_seconds == pytest.approx(evaluations * (each + a_byte * 1400))


def test_the_estimate_knows_nothing_all_tokens_and_quotas(pool):
    def seconds(budget, **more):
        return estimate(zip_, pool.stats, budget, mode="exact", **STAGES, **more).cpu_seconds

    assert seconds(None) == seconds(Budget(samples=0)) == 0
    half = seconds(Budget(ratio=0.5))
    assert seconds(Budget(tokens=pool.stats.n_tokens // 2)) == pytest.approx(half, rel=0.01)
    assert seconds(Budget(ratio=0.1)) < half < seconds(Budget(ratio=1.0))
    assert seconds(Budget(samples=10**6)) == seconds(Budget(ratio=1.0))  # `goal` refuses it
    limits = Quotas(at_most=0.5)
    assert seconds(Budget(ratio=0.1), quotas=limits) == seconds(Budget(ratio=1.0))
    assert seconds(Budget(ratio=0.1), near_duplicates=NearDuplicates()) > seconds(Budget(ratio=0.1))
