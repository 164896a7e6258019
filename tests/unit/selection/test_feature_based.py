"""feature_based against a naive greedy, apricot, brute force, and the laws of its function."""

from __future__ import annotations

import itertools
import math
import random
import re
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.pieces import Pieces
from didact.selection.around import grow as growing
from didact.selection.around.choose import choose
from didact.selection.feature_based import kernel
from didact.selection.feature_based.feature_based import estimate_feature_based, feature_based
from didact.selection.feature_based.growth import LazyGreedy, read_features, with_sources
from didact.selection.greedy import noise_last as noise_module
from didact.selection.greedy.heap import heapify, pop, replace_top
from didact.selection.greedy.shares import kept_shares
from didact.testing import make_pool
from didact.text.noise.noise import noisy
from didact.verbs import context

PLAIN = {"noise": 0.0, "own_pairs": 0.0, "balance": 0.0, "script_factor": None}
WEIGHTS = {"none": lambda _: 1.0, "log": math.log1p, "sqrt": math.sqrt}


class Naive:
    """f as the docstring of `feature_based` has it, in Python's own numbers, nothing kept."""

    def __init__(self, texts, weight="none", min_df=2, own_pairs=0.8, suspects=()):
        grams = [self.grams(text) for text in texts]
        originals = {text: i for i, text in reversed(list(enumerate(texts)))}.values()

        def frequency(rows):
            return Counter(gram for i in rows for gram in grams[i])

        self.suspects = set(suspects)
        known = frequency(set(originals) - self.suspects)
        weigh = WEIGHTS[weight]
        self.weight = {g: weigh(m) for g, m in known.items() if m >= min_df}
        self.alone = [
            sum(len(g) == 2 and g not in self.weight for g in own) * own_pairs * weigh(1)
            if i not in self.suspects
            else 0.0
            for i, own in enumerate(grams)
        ]
        self.counts = [{g: n for g, n in own.items() if g in self.weight} for own in grams]

    @staticmethod
    def grams(text):
        words = re.findall(r"\w+", text.lower())
        both = itertools.zip_longest([(w,) for w in words], itertools.pairwise(words))
        return Counter(gram for two in both for gram in two if gram)

    def value(self, rows):
        chosen = sum((Counter(self.counts[i]) for i in rows), Counter())
        return sum(self.alone[i] for i in rows) + sum(
            self.weight[g] * math.sqrt(c) for g, c in chosen.items()
        )

    def gain(self, row, chosen, size):
        """The same sum in the same order as the kernel's, so that ties are ties there too."""
        if row in self.suspects:
            return 0.0
        total = self.alone[row]
        for once in (True, False):
            for g, n in self.counts[row].items():
                if (n == 1) == once:
                    c = chosen[g]
                    total += self.weight[g] * (n / (math.sqrt(c + n) + math.sqrt(c)))
        return total / size

    def greedy(self, sizes):
        """Every gain taken anew before every pick."""
        left, order, chosen = list(range(len(sizes))), [], Counter()
        while left:
            best = max(left, key=lambda i: (self.gain(i, chosen, sizes[i]), -i))
            left.remove(best)
            order.append(best)
            chosen.update(self.counts[best])
        return order

    def balance(self, sources, n_bytes, share):
        """Sources as grams that occur as often in a text as it has bytes, and come last in it."""
        held = Counter()
        for source, size in zip(sources, n_bytes, strict=True):
            held[source] += size
        scale = share * self.value(range(len(sources))) / sum(held.values())
        self.weight |= {source: scale * math.sqrt(size) for source, size in held.items()}
        for i, (source, size) in enumerate(zip(sources, n_bytes, strict=True)):
            if self.counts[i] or self.alone[i]:
                self.counts[i][source] = size


def texts_of(n, seed, *, words=30, longest=14):
    """Few words, many repeats and ties; some texts without words."""
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(words)]
    texts = []
    for _ in range(n):
        size = rng.randrange(longest)
        texts.append(" ".join(rng.choices(vocabulary, [1 / (i + 1) for i in range(words)], k=size)))
    return texts


def pool_of(texts, folder, sources=("all",), **data):
    rows = [
        {"id": f"r{i}", "text": text or ".", "source": sources[i % len(sources)]}
        for i, text in enumerate(texts)
    ]
    return make_pool(rows, folder, **data)


@pytest.fixture
def ctx(tmp_path):
    return context(workers=1, cache_dir=tmp_path / "cache")


def everything(pool, ctx, budget=None, **settings):
    return choose(
        feature_based, pool, None, budget or Budget(ratio=1.0), ctx, **settings
    ).best_first()


def lazy(texts, folder, ctx, size=None):
    """The growth, and what it is about."""
    pool = pool_of(texts, folder, dedup="none")
    found = read_features(
        pool, np.arange(len(pool)), ctx, min_df=2, suspects=np.zeros(len(pool), np.bool_)
    )
    size = np.ones(len(texts)) if size is None else np.asarray(size, float)
    ones, zeros = np.ones(len(found.frequency)), np.zeros(len(texts))
    n = len(texts)
    free = kept_shares(np.ones(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.bool_), None)
    return LazyGreedy(
        *with_sources(found, ones, zeros, pool.source_codes, pool.n_bytes, size, balance=0.0), free
    )


# -- the order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", list(WEIGHTS))
@pytest.mark.parametrize("per", ["byte", "token", "sample"])
def test_equals_naive_greedy(per, weight, seed, tmp_path, ctx, monkeypatch):
    texts = texts_of(60, seed)
    pool = pool_of(texts, tmp_path, dedup="none")
    size = {"byte": pool.n_bytes, "token": pool.n_tokens, "sample": np.ones(60)}[per]
    monkeypatch.setattr(
        noise_module, "noisy", lambda _, rows, some, *more: rows % round(1 / some) == 3
    )
    for noise, more in ((0, {}), (0, {"own_pairs": 0.0}), (0.2, {}), (0.1, {"min_df": 1}),
                        (0.2, {"min_df": 4, "own_pairs": 0.3})):  # fmt: skip
        suspects = range(3, 60, round(1 / noise)) if noise else ()
        order = everything(pool, ctx, per=per, weight=weight, balance=0.0, noise=noise, **more)
        naive = Naive(texts, weight, **more, suspects=suspects)
        assert order.tolist() == naive.greedy([max(int(s), 1) for s in size])


@pytest.mark.parametrize("balance", [0.1, 3.0])
def test_sources_are_features_that_occur_once_a_byte(balance, tmp_path, ctx):
    texts = texts_of(90, 8)
    pool = pool_of(texts, tmp_path, ["a", "b", "a", "c"], dedup="none")
    names = [pool.source_names[code] for code in pool.source_codes]
    naive = Naive(texts)
    naive.balance(names, pool.n_bytes.tolist(), balance)
    order = everything(pool, ctx, balance=balance, noise=0.0)
    assert order.tolist() == naive.greedy(pool.n_bytes.tolist())


def test_balance_keeps_every_prefix_near_the_shares_of_the_pool(tmp_path, ctx):
    rng = np.random.default_rng(5)
    dull = [" ".join(f"d{w}" for w in rng.integers(0, 20, 20)) for _ in range(200)]
    rich = [" ".join(f"r{w}" for w in rng.integers(0, 800, 20)) for _ in range(200)]
    pool = pool_of([t for two in zip(dull, rich, strict=True) for t in two], tmp_path, ["d", "r"])

    def share(balance):
        budget = Budget(tokens=int(pool.n_tokens.sum()) // 5)
        rows = everything(pool, ctx, budget, balance=balance, noise=0.0)
        return pool.n_bytes[rows[pool.source_codes[rows] == 0]].sum() / pool.n_bytes[rows].sum()

    wanted = pool.n_bytes[::2].sum() / pool.n_bytes.sum()
    off = [abs(share(balance) - wanted) for balance in (0.0, 1.0, 10.0, 100.0)]
    assert off[0] > 0.25
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.05


def test_gains_depend_on_what_is_there_to_choose_from(tmp_path, ctx):
    """Copies may not be chosen and do not vouch: with and without them the order is the same."""
    texts = texts_of(50, 7)
    doubled = [text for text in texts for _ in range(2)]
    pool = pool_of(doubled, tmp_path / "all", dedup="none")
    order = everything(pool, ctx, balance=0.0, noise=0.0)
    naive = Naive(doubled)
    assert order.tolist() == naive.greedy(pool.n_bytes.tolist())
    once = pool_of(doubled, tmp_path / "once")
    rows = everything(once, ctx, balance=0.0, noise=0.0)
    assert len(rows) == len(set(texts))
    kept = sorted(rows)
    naive = Naive([doubled[i] for i in kept])
    assert rows.tolist() == [kept[i] for i in naive.greedy(once.n_bytes[kept].tolist())]


def test_equals_apricot_where_the_two_coincide(tmp_path, ctx):
    apricot = pytest.importorskip("apricot")
    texts = texts_of(80, 5, words=200, longest=60)
    naive = Naive(texts, own_pairs=0.0)
    places = {gram: i for i, gram in enumerate(naive.weight)}
    matrix = np.zeros((80, len(places)))
    for i, counts in enumerate(naive.counts):
        for gram, n in counts.items():
            matrix[i, places[gram]] = n
    theirs = apricot.FeatureBasedSelection(40, concave_func="sqrt", optimizer="lazy").fit(matrix)
    growth = lazy(texts, tmp_path, ctx)
    assert growth.pick(40).tolist() == theirs.ranking.tolist()
    values = [naive.value(theirs.ranking[:k]) for k in range(41)]
    np.testing.assert_allclose(np.diff(values), theirs.gains, rtol=1e-9)


def test_auto_follows_the_budget(tmp_path, ctx):
    texts = texts_of(50, 3)
    pool = pool_of([t.replace("w1", "wörd") for t in texts], tmp_path, dedup="none")
    tokens = Budget(tokens=int(pool.n_tokens.sum()))
    order = {per: everything(pool, ctx, per=per).tolist() for per in ("byte", "token", "sample")}
    assert len({tuple(o) for o in order.values()}) == 3
    assert everything(pool, ctx).tolist() == order["byte"]
    assert everything(pool, ctx, tokens).tolist() == order["token"]


def test_texts_without_words_come_last_in_row_order(tmp_path, ctx):
    texts = ["", "a b", "nobody says", "a b c", ""]
    pool = pool_of(texts, tmp_path, ["x", "y"], dedup="none")
    order = everything(pool, ctx, own_pairs=0.0, balance=5.0)
    assert order.tolist()[2:] == [0, 2, 4]


# -- the function ----------------------------------------------------------------------------------


def test_gains_are_those_of_a_monotone_submodular_function(tmp_path, ctx):
    texts = texts_of(40, 11)
    naive = Naive(texts, own_pairs=0.0)
    growth = lazy(texts, tmp_path, ctx)
    rng = random.Random(0)
    order = rng.sample(range(40), 40)
    before = np.full(40, np.inf)
    for k in range(0, 40, 4):
        now = np.empty(40)
        kernel.gains_of(now, growth._samples, growth._state)
        for one, other in pairwise(order):  # two at a time are, bit for bit, one and one
            both = kernel.gains_of_two(one, other, growth._samples, growth._state)
            assert both == (now[one], now[other])
        base = naive.value(order[:k])
        left = order[k:]
        true = [naive.value([*order[:k], i]) - base for i in left]
        np.testing.assert_allclose(now[left], true, atol=1e-9)
        assert (now >= 0).all()
        assert (now <= before).all()  # in floating point, not only nearly
        before = now
        growth.replay(np.array(order[k : k + 4]))


def test_old_gains_bound_new_ones_where_roots_are_close():
    """√(c + n) - √c as a difference would rise and fall at counts of millions."""
    rng = np.random.default_rng(0)
    samples = kernel.Samples(
        np.array([0, 1], np.int32), np.array([0, 2]), np.array([2], np.int32),
        np.array([3], np.int32), np.array([0, 1]), np.array([0], np.int32), np.array([0]),
        np.zeros(1), np.ones(1),
    )  # fmt: skip
    state = kernel.State(np.ones(3), np.full(3, 10**9), np.zeros(3))
    last = np.inf
    for times in rng.integers(1, 5, 2000).tolist():
        for feature in range(3):
            kernel.count(feature, times, state)
        gain = kernel.gain_of(0, samples, state)
        assert gain <= last
        last = gain
    exact = 2 * 0.5 / math.sqrt(state.chosen[0]) + 3 * 0.5 / math.sqrt(state.chosen[2])
    assert last == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_stated_bounds_hold_against_the_best_set_there_is(seed, tmp_path, ctx):
    texts = texts_of(11, seed, words=8)
    naive = Naive(texts, own_pairs=0.0)
    worth = {
        rows: naive.value(rows) for k in range(6) for rows in itertools.combinations(range(11), k)
    }
    bound = 1 - 1 / math.e
    order = lazy(texts, tmp_path / "k", ctx).pick(11).tolist()
    for k in range(1, 6):
        best = max(value for rows, value in worth.items() if len(rows) == k)
        assert best * bound <= naive.value(order[:k]) <= best + 1e-9
    sizes = np.random.default_rng(seed).integers(1, 9, 11)
    order = lazy(texts, tmp_path / "t", ctx, sizes).pick(11)
    for limit in (5, 10, 15):
        fits = int(np.searchsorted(np.cumsum(sizes[order]), limit, side="right"))
        best = max(v for rows, v in worth.items() if sizes[list(rows)].sum() <= limit)
        assert naive.value(order[: fits + 1]) >= best * bound


# -- its features ----------------------------------------------------------------------------------


def test_frequencies_are_counted_once_per_text_and_exactly(tmp_path, ctx):
    """Many more grams than the first table holds, and a bitmap in which many bits are shared."""
    rng = np.random.default_rng(2)
    texts = [" ".join(f"x{w}" for w in rng.integers(0, 3000, 25)) for _ in range(4000)]
    pool = pool_of(texts, tmp_path)
    met = Counter(gram for text in texts for gram in Naive.grams(text))
    assert len(met) > 1 << 16
    nobody = np.zeros(4000, np.bool_)
    for min_df in (1, 2, 3):
        found = read_features(pool, np.arange(4000), ctx, min_df=min_df, suspects=nobody)
        wanted = Counter(m for m in met.values() if m >= min_df)
        got = Counter(found.frequency[found.frequency >= min_df].tolist())
        assert got == wanted
        occurrences = len(found.once) + int(found.times.sum())
        grams = (Naive.grams(text) for text in texts)
        assert occurrences == sum(n for own in grams for g, n in own.items() if met[g] >= min_df)
        pairs = [g for g in met if len(g) == 2 and met[g] < min_df]
        assert found.own.sum() == sum(met[g] for g in pairs)


def test_workers_do_not_change_the_picks(tmp_path):
    pool = pool_of(texts_of(300, 1), tmp_path, batch_rows=64)
    assert len(list(pool.batches())) > 2
    one, two = (
        everything(pool, context(workers=workers, cache_dir=tmp_path)) for workers in (1, 2)
    )
    assert one.tolist() == two.tolist()


# -- what it is for --------------------------------------------------------------------------------


def test_near_copies_in_chinese_wait(tmp_path, ctx):
    texts = [
        "北京是中国的首都，也是全国的政治和文化中心。",
        "北京是中国的首都，也是全国的政治和教育中心。",
        "北京是中国的首都，也是全国的经济和文化中心。",
        "今天天气很好，我们一起去公园散步吧。",
        "明天天气不好，我们不去公园散步了。",
        "水在零度时会结冰，在一百度时会沸腾。",
        "水在加热到一百度时会变成蒸汽。",
    ]
    order = everything(pool_of(texts, tmp_path), ctx).tolist()
    topics = [[0, 0, 0, 1, 1, 2, 2][i] for i in order]
    assert set(topics[:3]) == {0, 1, 2}
    assert 0 in topics[-2:]


def sentences(n, rng):
    """Text with the order of a language: a chain in which each word has a few that follow it."""
    follow = [rng.integers(0, 800, 12) for _ in range(800)]
    names = ["".join(chr(97 + c) for c in rng.integers(0, 26, 6)) for _ in range(800)]
    out = []
    for _ in range(n):
        word, words = int(rng.integers(800)), []
        for _ in range(int(rng.integers(20, 60))):
            words.append(names[word])
            word = int(follow[word][min(int(rng.exponential(3)), 11)])
        out.append(" ".join(words))
    return out


def junk_of(texts, rng):
    words = " ".join(texts).split()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"

    def junk(size):
        return "".join(rng.choice(list(letters), size))

    for _ in range(20):
        yield "salad", " ".join(rng.choice(words, 40))
        yield "mash", " ".join(junk(int(rng.integers(2, 9))) for _ in range(50))
        yield "solid", junk(280)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_noise_is_taken_less_than_by_chance(share, tmp_path, ctx):
    rng = np.random.default_rng(9)
    texts = sentences(1500, rng)
    planted = list(junk_of(texts, rng))
    pool = pool_of([*texts, *(text for _, text in planted)], tmp_path)
    kinds = ["real"] * 1500 + [kind for kind, _ in planted]
    budget = Budget(tokens=int(share * pool.n_tokens.sum()))
    taken = Counter(kinds[i] for i in everything(pool, ctx, budget))
    assert taken["mash"] == taken["solid"] == 0
    assert taken["salad"] <= share * 20
    if share == 0.5:  # as the function without the filter has no defense
        naked = Counter(kinds[i] for i in everything(pool, ctx, budget, noise=0.0))
        assert naked["salad"] == 20


def test_noise_comes_last_and_is_told(tmp_path, ctx):
    rng = np.random.default_rng(9)
    texts = sentences(1500, rng)
    pool = pool_of([*texts, *(text for _, text in junk_of(texts, rng))], tmp_path)
    chosen = choose(feature_based, pool, None, Budget(ratio=1.0), ctx)
    suspects = noisy(pool, np.arange(len(pool)), 0.3, context(workers=1))
    assert suspects.sum() > 50
    assert chosen.best_first()[-suspects.sum() :].tolist() == np.flatnonzero(suspects).tolist()
    reasons = np.array(chosen.reasons)[chosen.why]
    assert set(reasons[suspects[chosen.rows]]) == {"noise, for want of others"}
    assert set(reasons[~suspects[chosen.rows]]) == {"feature_based"}
    n = int(suspects.sum())
    (note,) = chosen.notes
    assert note.startswith(
        f"{n} of {len(pool):,} rows look like noise (noise=0.3) and come last; "
        f"{n} of them are chosen; sources: "
    )


# -- going on --------------------------------------------------------------------------------------


def test_one_at_a_time_blocked_and_replayed(tmp_path, ctx):
    texts = texts_of(50, 4)
    whole = lazy(texts, tmp_path / "a", ctx).pick(99).tolist()
    assert sorted(whole) == list(range(50))
    steps = lazy(texts, tmp_path / "b", ctx)
    assert [steps.pick(1)[0] for _ in range(50)] == whole
    assert len(steps.pick(1)) == 0
    again = lazy(texts, tmp_path / "c", ctx)
    again.replay(np.array(whole[:20]))
    assert again.pick(99).tolist() == whole[20:]
    without = lazy(texts, tmp_path / "d", ctx)
    without.block(np.array(whole[30:]))
    assert without.pick(99).tolist() == whole[:30]


def test_a_killed_selection_goes_on_to_the_same_picks(tmp_path, ctx, monkeypatch):
    pool = pool_of(texts_of(120, 6), tmp_path, dedup="none")
    wanted = everything(pool, ctx)
    monkeypatch.setattr(LazyGreedy, "chunk", 10)
    monkeypatch.setattr(growing, "_SAVE_SECONDS", -1)
    pieces = Pieces(tmp_path / "pieces")

    def killed(progress):
        if progress.stage == "select" and progress.done == 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        everything(pool, replace(ctx, pieces=pieces, progress=killed))
    seen = []
    ctx = replace(ctx, pieces=pieces, progress=seen.append)
    assert everything(pool, ctx).tolist() == wanted.tolist()
    assert [p.done for p in seen if p.stage == "select"][:2] == [0, 60]


def test_estimate_is_of_the_right_order(tmp_path, ctx):
    pool = pool_of(sentences(6000, np.random.default_rng(1)), tmp_path)
    budget = Budget(ratio=0.5)
    choose(feature_based, pool, None, Budget(samples=1), ctx)  # compiles
    started = time.process_time()
    choose(feature_based, pool, None, budget, ctx)
    seconds = time.process_time() - started
    how = {"noise": 0.3, "partitions": None}
    assert 0.2 < estimate_feature_based(pool.stats, budget, **how).cpu_seconds / seconds < 5
    assert estimate_feature_based(pool.stats, Budget(samples=0), **how).cpu_seconds == 0


# -- the heap --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257])
def test_the_heap_gives_the_largest_gain_and_of_equals_the_lowest_row(n):
    rng = np.random.default_rng(n)
    gains, rows = rng.integers(0, 6, n).astype(float), rng.permutation(n)
    entries = dict(zip(rows.tolist(), gains.tolist(), strict=True))
    heapify(gains, rows, n)
    size = n
    while size:
        best = min(entries, key=lambda row: (-entries[row], row))
        assert (rows[0], gains[0]) == (best, entries[best])
        if rng.random() < 0.5 and gains[0] > 0:
            entries[best] -= int(rng.integers(0, 4))
            replace_top(gains, rows, size, entries[best])
        else:
            del entries[best]
            size = pop(gains, rows, size)
            assert rows[size] == best
    assert not entries
