"""shingle_novelty: its greedy choice, its shingles and its costs against plain Python, and its laws."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didact.core.budget import Budget
from didact.core.errors import MissingDependencyError
from didact.core.pieces import Pieces
from didact.selection.around import grow as growing
from didact.selection.around.budget import candidates
from didact.selection.around.choose import choose
from didact.selection.around.near_duplicates import NearDuplicates
from didact.selection.around.quotas import Quotas
from didact.selection.greedy.shares import kept_shares
from didact.selection.shingle_novelty import shingle_novelty as module
from didact.selection.shingle_novelty.shingle_novelty import (
    Shingles,
    added_bytes,
    estimate_shingle_novelty,
    measured,
    reference,
    shingle_novelty,
)
from didact.testing import make_pool
from didact.text.noise.noise import noisy
from didact.verbs import context

pytest.importorskip("numba")
kernel = pytest.importorskip("didact.selection.shingle_novelty.kernel")

ALL = 2**32 - 1
WORDS = [
    "river",
    "stone",
    "silver",
    "window",
    "north",
    "garden",
    "letter",
    "bridge",
    "summer",
    "coat",
]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    return context(seed=17, workers=1, cache_dir=tmp_path_factory.mktemp("cache"))


def row_texts(n=160, seed=3):
    """Texts of three sources that share phrases; a few copies, a few tiny ones."""
    rng = random.Random(seed)
    phrases = [" ".join(rng.choices(WORDS, k=5)) for _ in range(40)]
    out = []
    for i in range(n):
        text = ". ".join(rng.choices(phrases, k=rng.randint(1, 6)))
        if i % 5 == 0:
            text = " ".join(f"{rng.choice(WORDS)} {rng.randrange(1000)}" for _ in range(15))
        out.append({"id": f"r{i}", "text": text, "source": ("web", "books", "code")[i % 7 % 3]})
    for i, text in ((20, "yes"), (41, "no"), (62, "twelve bytes"), (83, "thirteen byte")):
        out[i]["text"] = text
    out[100]["text"] = out[7]["text"]
    return out


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(row_texts(), tmp_path_factory.mktemp("pool"), dedup="none")


def prints_of(texts, most=ALL):
    """Fingerprints of each text, as lists."""
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    offsets = np.cumsum([0, *(len(t.encode()) for t in texts)])
    out, ends = np.empty(len(data) + len(texts), np.uint32), np.zeros(len(texts), np.int64)
    count = kernel.fingerprints(data, offsets, most, out, ends)
    assert count == (ends[-1] if len(texts) else 0)
    return [part.tolist() for part in np.split(out[:count], ends[:-1])]


# -- shingles --------------------------------------------------------------------------------------


def hash_by_hand(shingle, length=None):
    """The kernel's hash in Python's integers; `length` for texts shorter than a shingle."""
    whole = 2**64 - 1
    padded = shingle.rjust(12, b"\0")
    early, late = int.from_bytes(padded[:4], "little"), int.from_bytes(padded[4:], "little")
    if length is not None:
        early |= (length + 1) << 32
    h = ((late ^ late >> 31) * 0xBF58476D1CE4E5B9 + early) & whole
    h = (h ^ h >> 31) * 0x94D049BB133111EB & whole
    h = (h ^ h >> 32) * 0xBF58476D1CE4E5B9 & whole
    return h ^ h >> 32


def prints_by_hand(text, most):
    raw = text.encode()
    if len(raw) < 12:
        hashes = [hash_by_hand(raw, len(raw))]
        return [max(hashes[0] % 2**32, 1)]
    hashes = {hash_by_hand(raw[i : i + 12]) for i in range(len(raw) - 11)}
    inside = [h for h in hashes if h >> 32 <= most] or [min(hashes)]
    return sorted({max(h % 2**32, 1) for h in inside})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=80), min_size=1, max_size=6),
    st.sampled_from([ALL, ALL // 2, ALL // 8, ALL // 1000]),
)
def test_fingerprints_are_those_of_the_distinct_sampled_shingles(texts, most):
    assert prints_of(texts, most) == [prints_by_hand(t, most) for t in texts]


def test_the_same_shingles_are_sampled_in_every_text():
    rng = random.Random(0)
    inner = " ".join(rng.choices(WORDS, k=60))
    inside = set(prints_of([inner], ALL // 8)[0])
    around = prints_of(
        [f"before it {inner}", f"{inner} and after", f"a {inner} b {inner} c"], ALL // 8
    )
    assert len(inside) > 10
    assert all(inside <= set(prints) for prints in around)


def test_one_in_so_many_is_sampled():
    rng = random.Random(1)
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=40_000))
    found = [len(prints_of([text], 2**32 // sample - 1)[0]) for sample in (1, 8, 64)]
    assert found[0] == pytest.approx(40_000, rel=1e-3)
    assert found[1] == pytest.approx(5_000, rel=0.05)  # 3.7 standard deviations
    assert found[2] == pytest.approx(625, rel=0.15)


def test_every_text_has_a_fingerprint_and_short_ones_have_their_own():
    short = [
        "",
        "a",
        "b",
        "ab",
        "ba",
        "aa",
        "eleven byte",
        "twelve bytes",
        "twelve byte!",
        "thirteen byte",
    ]
    found = prints_of(short, 0)  # nothing is in the sample
    assert [len(p) for p in found] == [1] * len(short)
    assert len({p[0] for p in found}) == len(short)


# -- the table -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 2**32 - 1) | st.integers(1, 9), min_size=1), max_size=8))
def test_the_table_is_a_set_and_novelty_never_rises(groups):
    table, seen = np.zeros(2**12, np.uint32), set()
    probe = np.array([1, 2, 3, 2**12, 2**12 + 1, 2**31], np.uint32)
    before = 1.0
    for group in groups:
        new = set(group) - seen
        assert kernel.cover(table, np.array(group, np.uint32)) == len(new)
        seen |= new
        assert set(table[table > 0].tolist()) == seen
        now = kernel.novelty(table, probe)
        assert now == sum(p not in seen for p in probe.tolist()) / len(probe)
        assert now <= before
        before = now


# -- the greedy choice -----------------------------------------------------------------------------


def naive(weights, prints, lengths, sources, balance, blocked=(), first=()):
    """Every candidate's gain anew at every pick."""
    whole = np.bincount(sources, lengths)
    picked = whole / np.maximum(np.bincount(sources), 1)
    covered, left, out = set(), set(range(len(weights))) - set(blocked), []

    def gain(i):
        if weights[i] < 0:
            return weights[i]
        new = sum(p not in covered for p in prints[i]) / len(prints[i])
        return weights[i] * new * (whole[sources[i]] / picked[sources[i]]) ** balance

    waiting = list(first)
    while left or waiting:
        best = waiting.pop(0) if waiting else min(left, key=lambda i: (-gain(i), i))
        left.discard(best)
        covered |= set(prints[best])
        picked[sources[best]] += lengths[best]
        out.append(best)
    return out


def grown(weights, prints, lengths, sources, balance):
    offsets = np.cumsum([0, *map(len, prints)])
    flat = np.array([p for group in prints for p in group], np.uint32)
    n = len(weights)
    free = kept_shares(np.ones(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.bool_), None)
    return Shingles(np.array(weights, float), offsets, flat, lengths, sources, balance, free)


@st.composite
def problems(draw):
    """Few fingerprints and few weights, so that ties are the rule."""
    n = draw(st.integers(1, 14))
    prints = [sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=5))) for _ in range(n)]
    weights = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.5, 1.0]), min_size=n, max_size=n))
    lengths = np.array(draw(st.lists(st.sampled_from([10, 20, 40]), min_size=n, max_size=n)))
    sources = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32)
    return weights, prints, lengths, sources, draw(st.sampled_from([0.0, 1.0, 2.0]))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_lazy_is_greedy_ties_and_noise_included(problem):
    assert grown(*problem).pick(99).tolist() == naive(*problem)


def real_problem(pool, ctx, balance=1.0):
    rows = candidates(pool, None)
    suspects = np.arange(len(rows)) % 13 == 5
    weights, offsets, prints = measured(pool, rows, ctx, sample=2, suspects=suspects)
    groups = [p.tolist() for p in np.split(prints, offsets[1:-1])]
    return weights, groups, pool.n_bytes[rows], pool.source_codes[rows], balance


@pytest.mark.parametrize("balance", [0.0, 1.0, 3.0])
def test_lazy_is_greedy_on_texts(pool, ctx, balance):
    problem = real_problem(pool, ctx, balance)
    assert grown(*problem).pick(len(pool)).tolist() == naive(*problem)


def test_one_at_a_time_is_many_at_a_time(pool, ctx):
    problem = real_problem(pool, ctx)
    many, single = grown(*problem), grown(*problem)
    expected = many.pick(len(pool)).tolist()
    assert [int(single.pick(1)[0]) for _ in expected] == expected
    assert single.pick(1).tolist() == []


@settings(max_examples=100, deadline=None)
@given(problems(), st.data())
def test_blocked_are_left_out_and_replayed_are_taken(problem, data):
    n = len(problem[0])
    order = data.draw(st.permutations(range(n)))
    first = order[: data.draw(st.integers(0, n))]
    blocked = data.draw(st.sets(st.sampled_from(range(n))))
    growth = grown(*problem)
    growth.replay(np.array(first, np.int64))
    growth.block(np.array(sorted(blocked), np.int64))
    expected = naive(*problem, blocked=set(blocked) | set(first), first=first)
    assert growth.pick(99).tolist() == expected[len(first) :]


def test_the_table_grows_without_forgetting(monkeypatch, pool, ctx):
    problem = real_problem(pool, ctx)
    expected = grown(*problem).pick(len(pool)).tolist()
    monkeypatch.setattr(module, "_SMALLEST_TABLE", 2)
    small = grown(*problem)
    assert small.pick(len(pool)).tolist() == expected
    replayed = grown(*problem)
    replayed.replay(np.array(expected[:50]))
    assert replayed.pick(len(pool)).tolist() == expected[50:]


# -- the reference cost ----------------------------------------------------------------------------


def test_the_cost_is_what_zlib_says_and_no_text_is_measured_after_itself(pool, ctx):
    rows = candidates(pool, None)
    (first, second), apart = reference(pool, rows, ctx)
    texts = pool.read(rows, ["text"]).column("text").to_pylist()
    weights, _, _ = measured(pool, rows, ctx, sample=8, suspects=np.zeros(len(rows), bool))
    for text, weight, own in zip(texts, weights, apart, strict=True):
        prefix = (second if own else first).tobytes()
        cost = len(zlib.compress(prefix + text.encode(), 9)) - len(zlib.compress(prefix, 9))
        assert weight == cost / len(text.encode())


def test_the_prefixes_are_32_kib_of_different_rows(tmp_path, ctx):
    texts = [" ".join(f"{w}{i}" for w in WORDS) for i in range(1500)]
    rows = [{"id": str(i), "text": t, "source": "a"} for i, t in enumerate(texts)]
    large = make_pool(rows, tmp_path)
    (first, second), apart = reference(large, np.arange(1500), ctx)
    for prefix in (first, second):
        assert 32_768 <= len(prefix) < 32_768 + 100
    parts = [prefix.tobytes().decode().splitlines() for prefix in (first, second)]
    assert not set(parts[0]) & set(parts[1])
    assert {texts[i] for i in np.flatnonzero(apart)} == set(parts[0])


def test_no_texts_cost_nothing():
    none = np.empty(0, np.int64)
    assert len(added_bytes(np.empty(0, np.uint8), np.zeros(1, np.int64), none, b"")) == 0


# -- the selector ----------------------------------------------------------------------------------


def order(pool, ctx, budget=None, **more):
    return (
        choose(shingle_novelty, pool, None, budget or Budget(ratio=1.0), ctx, **more)
        .best_first()
        .tolist()
    )


def test_it_is_the_greedy_choice_over_what_was_measured(pool, ctx):
    rows = candidates(pool, None)
    suspects = noisy(pool, rows, 0.3, context(workers=1))
    weights, offsets, prints = measured(pool, rows, ctx, sample=4, suspects=suspects)
    groups = [p.tolist() for p in np.split(prints, offsets[1:-1])]
    expected = naive(weights, groups, pool.n_bytes, pool.source_codes, 2.0)
    assert order(pool, ctx, sample=4, balance=2.0) == expected


def test_exact_duplicates_come_last(tmp_path, ctx):
    rows = row_texts(120)
    rows += [{**row, "id": f"again {row['id']}"} for row in rows]
    twice = make_pool(rows, tmp_path, dedup="none")
    ranked = order(twice, ctx, noise=0)
    assert sorted(ranked[:120]) == list(range(120))
    assert ranked[120:] == list(range(120, 240))  # none of any gain: the lowest row first


def test_workers_and_batches_change_nothing(pool, ctx, tmp_path):
    two = context(seed=17, workers=2, cache_dir=tmp_path)
    assert order(pool, two) == order(pool, ctx)
    small = make_pool(row_texts(), tmp_path, dedup="none", batch_rows=16)
    assert len(list(small.batches())) > len(list(pool.batches()))
    assert order(small, ctx) == order(pool, ctx)


def test_the_seed_draws_what_costs_are_measured_after(tmp_path, pool, ctx):
    rows = candidates(pool, None)
    drawn = [reference(pool, rows, replace(ctx, seed=s))[0][0].tobytes() for s in (17, 17, 18)]
    assert drawn[0] == drawn[1] != drawn[2]


class KilledError(Exception):
    pass


def test_a_killed_selection_goes_on_to_the_same_picks(pool, ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Shingles, "chunk", 10)
    expected = order(pool, ctx)

    def kill(progress):
        if progress.stage == "select" and progress.done >= 70:
            raise KilledError

    with pytest.raises(KilledError):
        order(pool, replace(ctx, pieces=Pieces(tmp_path), progress=kill))
    assert len(list(tmp_path.iterdir())) == 1
    replayed = []
    monkeypatch.setattr(
        Shingles,
        "replay",
        lambda self, p, replay=Shingles.replay: (replayed.extend(p), replay(self, p)),
    )
    assert order(pool, replace(ctx, pieces=Pieces(tmp_path))) == expected
    assert len(replayed) >= 50


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Prose, and one row in six of random letters."""
    rng = random.Random(8)
    prose = [
        "the",
        "boat",
        "was",
        "late",
        "and",
        "nobody",
        "on",
        "shore",
        "had",
        "seen",
        "it",
        "pass",
    ]
    rows = []
    for i in range(300):
        at = [rng.randrange(len(prose)) for _ in range(6)]
        text = " ".join(" ".join(prose[a:] + prose[:a]) + f" {rng.randrange(10**4)}." for a in at)
        if i % 6 == 5:
            text = " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(40))
        rows.append({"id": str(i), "text": text, "source": "junk" if i % 6 == 5 else "prose"})
    return make_pool(rows, tmp_path_factory.mktemp("spoiled"))


def test_noise_comes_last_and_is_told(spoiled, ctx):
    junk = spoiled.source_codes == spoiled.source_names.index("junk")
    chosen = choose(shingle_novelty, spoiled, None, Budget(samples=260), ctx)
    ranked = junk[chosen.best_first()]
    assert not ranked[:250].any()
    assert ranked[250:].all()
    assert chosen.notes == (
        (
            "50 of 300 rows look like noise (noise=0.3) and come last; 10 of them are chosen; "
            "sources: junk 50; scripts: Latin 50"
        ),
        (
            "sources that lose a large share as noise: junk (50 of 50 rows); if they are not, "
            "noise=0 lets them pass"
        ),
    )
    reasons = np.array(chosen.reasons)[chosen.why]
    assert set(reasons[junk[chosen.rows]]) == {"noise, for want of others"}
    assert set(reasons[~junk[chosen.rows]]) == {"shingle_novelty"}


def test_without_the_filter_noise_comes_first(spoiled, ctx):
    junk = spoiled.source_codes == spoiled.source_names.index("junk")
    chosen = choose(shingle_novelty, spoiled, None, Budget(samples=50), ctx, noise=0, balance=0)
    assert junk[chosen.rows].all()
    (note,) = chosen.notes
    assert note == (
        "sources with a smaller share of the tokens than in the pool: "
        "prose to nothing (0% of it are exact duplicates)"
    )


def test_balance_brings_the_mix_of_sources_nearer_to_the_pools(spoiled, ctx):
    junk = spoiled.source_codes == spoiled.source_names.index("junk")
    share = [
        spoiled.n_bytes[rows][junk[rows]].sum() / spoiled.n_bytes[rows].sum()
        for balance in (0.0, 1.0, 4.0, 16.0)
        for rows in [order(spoiled, ctx, Budget(samples=40), noise=0, balance=balance)]
    ]
    pools = spoiled.n_bytes[junk].sum() / spoiled.n_bytes.sum()
    assert share[0] == 1
    assert all(a > b for a, b in pairwise(share))
    assert share[-1] == pytest.approx(pools, rel=0.25)


def test_quotas_get_a_full_ranking(spoiled, ctx):
    chosen = choose(
        shingle_novelty, spoiled, None, Budget(samples=60), ctx, quotas=Quotas(proportional=True)
    )
    junk = spoiled.source_codes == spoiled.source_names.index("junk")
    assert junk[chosen.rows].sum() == 10


def test_near_duplicates_are_refused(ctx, tmp_path):
    pytest.importorskip("rensa")
    rng = random.Random(2)
    rows = [
        {"id": str(i), "text": " ".join(rng.choices(WORDS, k=80)), "source": "a"} for i in range(20)
    ]
    rows += [{**row, "id": f"{row['id']} again", "text": row["text"] + " x"} for row in rows]
    doubled = make_pool(rows, tmp_path)
    budget = Budget(samples=20)
    chosen = choose(
        shingle_novelty, doubled, None, budget, ctx, near_duplicates=NearDuplicates()
    ).rows
    assert len({int(r) % 20 for r in chosen}) == 20


def test_without_numba_it_says_what_to_install(pool, ctx, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"shingle_novelty needs numba.*didact\[fast\]"
    ):
        choose(shingle_novelty, pool, None, Budget(samples=1), ctx)


def test_the_estimate_is_of_the_right_size(pool, ctx):
    """What a pool of 40,000 rows of 620 bytes took on one core of 2021: 3.7 s; none for nothing."""
    stats = replace(pool.stats, n=40_000, n_bytes=25_000_000, n_tokens=6_000_000)
    how = {"sample": 8, "noise": 0.3, "balance": 1.0}
    assert 1.85 < estimate_shingle_novelty(stats, Budget(ratio=0.2), **how).cpu_seconds < 7.4
    assert estimate_shingle_novelty(stats, Budget(samples=0), **how).cpu_seconds == 0
    assert estimate_shingle_novelty(stats, None, **how).cpu_seconds == 0
    less = estimate_shingle_novelty(stats, Budget(ratio=0.2), **{**how, "noise": 0})
    assert (
        0 < less.cpu_seconds < estimate_shingle_novelty(stats, Budget(ratio=0.2), **how).cpu_seconds
    )
