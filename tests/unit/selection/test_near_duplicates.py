"""Near-duplicates: found as exact Jaccard similarity says, at little work, and told about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from didact.core.binding import bind
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.core.protocols import Ranking
from didact.core.scores import Scores
from didact.pipeline import context
from didact.selection.around import near_duplicates
from didact.selection.around.budget import cut
from didact.selection.around.choose import Around, choose
from didact.selection.around.near_duplicates import (
    NearDuplicates,
    Refusal,
    drop_near_duplicates,
    estimate_all,
)
from didact.selection.around.quotas import Quotas
from didact.selection.round_robin import round_robin
from didact.selection.threshold import threshold
from didact.selection.top_k import top_k
from didact.testing import make_pool
from didact.verbs import estimate_selection


@pytest.fixture(name="ctx")
def _ctx(tmp_path):
    return context(seed=17, workers=1, cache_dir=tmp_path / "cache")


def words(rng, n):
    return [f"w{number}" for number in rng.integers(0, 50_000, n)]


def changed(rng, text, places):
    """The text with some words replaced, spread evenly."""
    out = list(text)
    for place in np.linspace(5, len(out) - 6, places).astype(int) if places else ():
        out[place] = f"new{rng.integers(0, 50_000)}"
    return out


def exact(a, b, n=5):
    """Jaccard similarity of the n-gram sets of two texts of plain words."""
    one, other = ({tuple(t[i : i + n]) for i in range(len(t) - n + 1)} for t in (a, b))
    return len(one & other) / len(one | other)


def pool_from(texts, directory, **more):
    rows = [
        {"id": f"r{i}", "text": text if isinstance(text, str) else " ".join(text)}
        | {k: v[i] for k, v in more.items()}
        for i, text in enumerate(texts)
    ]
    return make_pool(rows, directory, dedup="none")


def refusal_of(texts, directory, ctx, **how):
    pool = pool_from(texts, directory)
    return Refusal(pool, np.arange(len(pool)), NearDuplicates(**how), ctx)


@pytest.mark.parametrize(
    ("similarity", "permutations", "margin"),
    [(0.6, 128, 0.1), (0.7, 128, 0.1), (0.8, 128, 0.1), (0.9, 512, 0.04)],
)
def test_it_refuses_what_exact_similarity_says(similarity, permutations, margin, tmp_path, ctx):
    rng = np.random.default_rng(1)
    texts, group = [], []
    for base in range(60):
        text = words(rng, 200)
        for places in range(16):  # Jaccard similarity from 1 down to 0.4
            texts.append(changed(rng, text, places))
            group.append(base)
    how = {"similarity": similarity, "permutations": permutations}
    refusal = refusal_of(texts, tmp_path, ctx, **how)
    above = below = 0
    for base in range(60):
        first = 16 * base
        refused = set(refusal.after(first).tolist())
        assert refused <= set(range(first + 1, first + 16))
        for other in range(first + 1, first + 16):
            truth = exact(texts[first], texts[other])
            if truth >= similarity + margin:
                assert other in refused
                above += 1
            elif truth <= similarity - margin:
                assert other not in refused
                below += 1
    assert above >= 50
    assert below >= 50
    assert refusal.refused >= above


def test_only_what_is_near_a_chosen_row_is_refused(tmp_path, ctx):
    # A ~ B ~ C and not A ~ C: windows of 200 words that start 20 words apart.
    text = words(np.random.default_rng(2), 240)
    a, b, c = text[:200], text[20:220], text[40:]
    assert exact(a, b) == exact(b, c) == pytest.approx(176 / 216)
    assert exact(a, c) == pytest.approx(156 / 236)
    refusal = refusal_of([a, b, c], tmp_path / "a first", ctx, similarity=0.74)
    assert refusal.after(0).tolist() == [1]
    assert refusal.after(2).tolist() == []  # B, which is near C too, was named before
    refusal = refusal_of([a, b, c], tmp_path / "b first", ctx, similarity=0.74)
    assert refusal.after(1).tolist() == [0, 2]
    assert refusal.refused == 2


def test_a_chosen_row_is_never_named(tmp_path, ctx):
    text = words(np.random.default_rng(3), 100)
    refusal = refusal_of([text] * 3, tmp_path, ctx)
    assert refusal.after(2).tolist() == [0, 1]
    assert refusal.after(0).tolist() == []


def test_texts_without_words_are_near_to_none(tmp_path, ctx):
    refusal = refusal_of(["...", "?!", "...", "!?", "word", "Word."], tmp_path, ctx)
    assert refusal.after(0).tolist() == []
    assert refusal.after(1).tolist() == []
    assert refusal.after(4).tolist() == [5]
    assert refusal_of(["!", "?"], tmp_path / "none has words", ctx).after(1).tolist() == []


def test_texts_shorter_than_a_run_are_near_when_their_words_are_equal(tmp_path, ctx):
    texts = ["yes it is", "Yes, it is!", "no it is", "is it yes", "yes it is so"]
    assert refusal_of(texts, tmp_path, ctx).after(0).tolist() == [1]


def test_scripts_without_spaces_count_characters(tmp_path, ctx):
    rng = np.random.default_rng(4)
    text = [chr(0x4E00 + c) for c in rng.integers(0, 5000, 200)]
    other = [chr(0x4E00 + c) for c in rng.integers(0, 5000, 200)]
    near = [*text[:100], "好", *text[101:]]
    texts = ["".join(t) for t in (text, near, other)]
    assert exact(text, near) > 0.9
    assert refusal_of(texts, tmp_path, ctx).after(0).tolist() == [1]


def test_similarity_one_refuses_equal_sets_only(tmp_path, ctx):
    rng = np.random.default_rng(5)
    text = words(rng, 300)
    texts = [text, " ".join(text).upper() + "!", [*text[:280], *words(rng, 20)], text[:280]]
    assert refusal_of(texts, tmp_path, ctx, similarity=1).after(0).tolist() == [1]


def test_rows_that_teach_opposites_are_not_refused(tmp_path, ctx):
    answer, other = (" ".join(words(np.random.default_rng(i), 100)) for i in (6, 7))
    labels = [
        {"id": f"l{i}", "prompt": "Which?", "completion": answer, "label": label}
        for i, label in enumerate([True, False, True])
    ]
    pairs = [
        {"id": f"p{i}", "prompt": "Which?", "chosen": one, "rejected": two}
        for i, (one, two) in enumerate([(answer, other), (other, answer), (f"{answer} x", other)])
    ]
    for rows in (labels, pairs):
        pool = make_pool(rows, tmp_path / rows[0]["id"], dedup="none")
        kept, refused = drop_near_duplicates(
            pool, np.arange(3), NearDuplicates(), ctx, sizes=np.ones(3, np.int64)
        )
        assert (kept.tolist(), refused) == ([0, 1], 1)


def test_a_cluster_is_looked_at_once(tmp_path, ctx):
    # 800 rows nearly alike, and 60 that share three quarters of their words with them but are
    # near to none: each of these would look at what is left of the cluster.
    rng = np.random.default_rng(6)
    core = words(rng, 200)
    cluster = [[*core, f"end{i}"] for i in range(800)]
    similar = [[*core[:170], *words(rng, 60)] for _ in range(60)]
    refusal = refusal_of([*cluster, *similar], tmp_path, ctx)
    assert refusal.after(0).tolist() == list(range(1, 800))
    bands = refusal.looked_at // 800
    assert bands >= 10
    for position in range(800, 860):
        assert refusal.after(position).tolist() == []
    # Once when they were refused, once when they were found closed; then the 60 among themselves.
    assert refusal.looked_at < 2 * 800 * (bands + 1) + 2 * 60 * 60


def test_a_row_that_was_compared_and_stays_is_refused_later(tmp_path, ctx):
    rng = np.random.default_rng(9)
    texts = []
    for _ in range(30):
        first = words(rng, 200)
        second = changed(rng, first, 8)
        texts += [first, second, [*second, "end"]]
        assert exact(first, second) < 0.7
        assert exact(*texts[-2:]) > 0.95
    refusal = refusal_of(texts, tmp_path, ctx)
    for at in range(0, 90, 3):
        assert refusal.after(at).tolist() == []
    assert refusal.looked_at > 30  # some pairs were met, and none was near
    for at in range(0, 90, 3):
        assert refusal.after(at + 1).tolist() == [at + 2]


@pytest.fixture(name="ranked")
def _ranked(tmp_path):
    """A ranking of 400 rows with sizes, of which a good part is near one above it."""
    rng = np.random.default_rng(7)
    bases = [words(rng, 80) for _ in range(150)]
    texts = [changed(rng, bases[rng.integers(150)], rng.integers(0, 2)) for _ in range(400)]
    return pool_from(texts, tmp_path), rng.permutation(400), rng.integers(0, 4, 400)


def test_a_ranking_is_walked_as_one_would(ranked, ctx):
    pool, rows, sizes = ranked
    texts = [t.split() for t in pool.read(rows, ["text"]).column("text").to_pylist()]
    kept = []
    for i, text in enumerate(texts):
        if all(exact(text, texts[j]) < 0.8 for j in kept):
            kept.append(i)
    found, refused = drop_near_duplicates(pool, rows, NearDuplicates(), ctx, sizes=sizes)
    assert found.tolist() == kept
    assert refused == 400 - len(kept) > 200


@pytest.mark.parametrize("step", [1, 7, 60])
def test_a_walk_that_grows_gives_what_the_whole_walk_gives(ranked, step, ctx, monkeypatch):
    pool, rows, sizes = ranked
    how = NearDuplicates()
    whole, _ = drop_near_duplicates(pool, rows, how, ctx, sizes=sizes)
    monkeypatch.setattr(near_duplicates, "_FACTOR", 1)
    monkeypatch.setattr(near_duplicates, "_reach", lambda least, total: min(least + step, total))
    before = np.cumsum(sizes[whole]) - sizes[whole]
    for enough in (0, 1, 40, 120, 10_000):
        read = []
        watched = replace(ctx, progress=read.append)
        kept, refused = drop_near_duplicates(pool, rows, how, watched, sizes=sizes, enough=enough)
        assert kept.tolist() == whole[before <= enough].tolist()
        walked = kept[-1] + 1 if len(kept) < len(whole) else 400
        assert refused == walked - len(kept)
        if enough == 40 and step == 7:
            assert max(p.total for p in read) < 200
            assert {p.stage for p in read} == {"near-duplicates"}
            assert read[-1].done == read[-1].total


def scored(pool, values=None, **more):
    values = -np.arange(len(pool), dtype=float) if values is None else np.asarray(values, float)
    return Scores(
        values=values, higher_is_better=True, method="mine",
        pool_fingerprint=pool.fingerprint, **more,
    )  # fmt: skip


@pytest.fixture(name="twins")
def _twins(tmp_path):
    """Ten rows: 0 to 3 nearly alike, 8 nearly 9; sources web and books in turn."""
    rng = np.random.default_rng(8)
    texts = [words(rng, 60) for _ in range(10)]
    texts[1:4] = ([*texts[0], f"end{i}"] for i in range(3))
    texts[9] = [*texts[8], "end"]
    return pool_from(texts, tmp_path, source=["web", "books"] * 5)


def test_top_k_refuses_and_says_how_many(twins, ctx):
    how = NearDuplicates()
    chosen = choose(top_k, twins, scored(twins), Budget(samples=3), ctx, near_duplicates=how)
    assert chosen.best_first().tolist() == [0, 4, 5]
    assert chosen.notes == ("near-duplicates refused: 3",)
    assert choose(
        top_k, twins, scored(twins), Budget(samples=1), ctx, near_duplicates=how
    ).rows == [0]


def test_a_budget_above_what_refusal_leaves_is_an_error_with_the_way_out(twins, ctx):
    how = NearDuplicates()
    with pytest.raises(BudgetError) as caught:
        choose(top_k, twins, scored(twins), Budget(samples=7), ctx, near_duplicates=how)
    assert str(caught.value) == (
        f"budget samples=7 is more than the pool has: 10 rows with {twins.n_tokens.sum():,} "
        "tokens, of which 6 rows may be chosen (0 exact duplicates, 4 near-duplicates, 0 "
        "validation rows and 0 rows without a score may not); ask for at most 6 samples, or give "
        "a ratio, or raise near_duplicates.similarity"
    )
    chosen = choose(top_k, twins, scored(twins), Budget(ratio=1.0), ctx, near_duplicates=how)
    assert chosen.rows.tolist() == [0, 4, 5, 6, 7, 8]
    assert "asks for 10, more than the 6 samples that may be chosen" in chosen.notes[0]
    assert chosen.notes[1] == "near-duplicates refused: 4"


def test_a_greedy_selector_tells_what_it_refused(twins, ctx):
    rest = {"method": "mine", "refused": 4}
    ranking = Ranking(rows=np.array([0, 4, 5, 6, 7, 8]))
    chosen = cut(twins, ranking, Budget(samples=2), ctx, **rest)
    assert chosen.notes == ("near-duplicates refused: 4",)
    with pytest.raises(BudgetError, match=r"0 exact duplicates, 4 near-duplicates, .* at most 6"):
        cut(twins, ranking, Budget(samples=7), ctx, **rest)


def test_a_threshold_keeps_its_ceiling(twins, ctx):
    settings = {"value": -8.5, "near_duplicates": NearDuplicates()}
    chosen = choose(threshold, twins, scored(twins), None, ctx, **settings)
    assert chosen.rows.tolist() == [0, 4, 5, 6, 7, 8]
    assert chosen.notes == ("near-duplicates refused: 3",)
    chosen = choose(threshold, twins, scored(twins), Budget(samples=9), ctx, **settings)
    assert len(chosen) == 6
    assert "asks for 9, more than the 6 samples that passed" in chosen.notes[0]
    assert "10 rows may be chosen (0 exact duplicates, 0 validation" in chosen.notes[0]


def test_quotas_see_what_refusal_leaves(twins, ctx):
    chosen = choose(
        top_k, twins, scored(twins), Budget(samples=4), ctx,
        quotas=Quotas(at_least={"web": 4}), near_duplicates=NearDuplicates(),
    )  # fmt: skip
    assert chosen.rows.tolist() == [0, 4, 6, 8]  # 2 is near 0; 8 is the sixth that is left


def test_nothing_asked_reads_nothing(twins, ctx):
    def never(_):
        raise AssertionError("a text was read")

    watched = replace(ctx, progress=never)
    for budget in (Budget(samples=0), Budget(tokens=0)):
        how = {"near_duplicates": NearDuplicates()}
        assert len(choose(top_k, twins, scored(twins), budget, watched, **how)) == 0


def test_tasks_take_their_next_best_when_one_is_refused(twins, ctx):
    by_task = np.zeros((10, 2))
    by_task[[0, 4, 5], 0] = 9, 8, 7
    by_task[[1, 2, 6], 1] = 9, 8, 7  # 1 and 2 are near 0, which the first task takes
    scores = scored(twins, by_task.mean(axis=1), by_task=by_task, tasks=("a", "b"))
    how = {"near_duplicates": NearDuplicates()}
    chosen = choose(round_robin, twins, scores, Budget(samples=3), ctx, **how)
    assert chosen.best_first().tolist() == [0, 6, 4]
    assert chosen.notes == ("near-duplicates refused: 3",)
    with pytest.raises(BudgetError, match="ask for at most 6 samples"):
        choose(round_robin, twins, scores, Budget(samples=7), ctx, **how)


def test_settings_are_checked_by_every_door():
    assert bind(Around, {"near_duplicates": {}}, "x")["near_duplicates"] == NearDuplicates()
    for given in ({"similarity": 0.4}, NearDuplicates(similarity=0.4)):
        with pytest.raises(ConfigError, match=r"x.near_duplicates.similarity: .* got 0.4"):
            bind(Around, {"near_duplicates": given}, "x")


def test_the_estimate_is_of_what_is_read(tmp_path):
    pool = pool_from([f"row {i}" for i in range(9000)], tmp_path)

    def seconds(method="top_k", budget=None, **more):
        more = {"near_duplicates": {}} | more
        return estimate_selection(pool, method, budget=budget, **more).cpu_seconds

    everything = seconds("round_robin", Budget(samples=5))
    assert 0 < seconds(budget=Budget(samples=1000)) < everything / 2
    assert 0 < seconds(budget=Budget(tokens=10)) < everything / 2
    assert seconds(budget=Budget(ratio=0.9)) == everything
    assert seconds(budget=Budget(samples=10), quotas={"at_most": 5}) == everything
    assert seconds(budget=Budget(samples=0)) == 0
    assert seconds(budget=Budget(samples=10), near_duplicates=None) == 0
    assert seconds("round_robin", near_duplicates=None) == 0
    assert seconds("threshold", value=0) == everything
    pairs = replace(pool.stats, kind="pair")  # both answers are signed too
    assert estimate_all(pairs).cpu_seconds == 2 * estimate_all(pool.stats).cpu_seconds
