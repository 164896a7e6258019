"""Shares of scripts: kept within their factor at every budget, and told where they moved."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pytest
import zstandard

from didact.core.budget import Budget
from didact.core.errors import ConfigError
from didact.selection.around.choose import choose
from didact.selection.feature_based.feature_based import feature_based
from didact.selection.greedy.shares import kept_shares, share_notes
from didact.selection.shingle_novelty.shingle_novelty import shingle_novelty
from didact.testing import make_pool
from didact.text.scripts import SCRIPTS, script_of
from didact.verbs import context

pytest.importorskip("numba")
SELECTORS = [feature_based, shingle_novelty]
ALPHABETS = {
    "Latin": ("abcdefghijklmnopqrstuvwxyz", 2000),
    "Cyrillic": ("абвгдежзиклмнопрстуфхцчшыэюя", 60),
    "Han": ("".join(chr(0x4E00 + 7 * i) for i in range(900)), 3000),
    "Thai": ("".join(chr(0xE01 + i) for i in range(40)), 40),
    "Greek": ("αβγδεζηθικλμνξοπρστυφχψω", 300),
}


@pytest.fixture
def ctx(tmp_path):
    return context(workers=1, cache_dir=tmp_path / "cache")


def rows_of(script, n, rng, source=None):
    """Rows of words of one alphabet, out of a vocabulary as large as the alphabet's number says."""
    letters, size = ALPHABETS[script]
    words = ["".join(rng.choices(letters, k=rng.randint(2, 6))) for _ in range(size)]
    space = "" if script in {"Han", "Thai"} else " "
    return [
        {"text": space.join(rng.choices(words, k=rng.randint(15, 40))), "source": source or script}
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rng = random.Random(3)
    rows = [row for script in ALPHABETS for row in rows_of(script, 120, rng)]
    rows += rows_of("Greek", 6, rng, "few")
    rng.shuffle(rows)
    return make_pool([{"id": str(i), **row} for i, row in enumerate(rows)],
                     tmp_path_factory.mktemp("scripts"))  # fmt: skip


def factors(pool, rows):
    """By what each script's share of the tokens changed."""
    scripts = script_of(pool.read(range(len(pool)), ["text"]).column(0))
    tokens = pool.n_tokens.astype(float)
    before = np.bincount(scripts, tokens) / tokens.sum()
    after = np.bincount(scripts[rows], tokens[rows], len(before)) / tokens[rows].sum()
    return {SCRIPTS[i]: after[i] / before[i] for i in np.flatnonzero(before >= 0.02)}


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5, 0.8])
def test_every_script_keeps_its_share(selector, ratio, pool, ctx):
    budget = Budget(tokens=round(ratio * pool.n_tokens.sum()))
    kept = factors(pool, choose(selector, pool, None, budget, ctx, noise=0).rows)
    assert 1 / 1.5 <= min(kept.values()) <= max(kept.values()) <= 1.5
    chosen = choose(selector, pool, None, budget, ctx, noise=0, script_factor=1.1)
    near = factors(pool, chosen.rows)
    assert 1 / 1.12 <= min(near.values()) <= max(near.values()) <= 1.12
    if ratio <= 0.2:  # left alone, they do not
        free = choose(selector, pool, None, budget, ctx, noise=0, script_factor=None)
        assert max(max(f, 1 / max(f, 1e-9)) for f in factors(pool, free.rows).values()) > 1.6


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_smaller_budget_is_a_prefix_and_everything_a_permutation(selector, pool, ctx):
    whole = choose(selector, pool, None, Budget(ratio=1.0), ctx, noise=0).best_first()
    assert sorted(whole.tolist()) == list(range(len(pool)))
    for k in (1, 7, 100, 400):
        some = choose(selector, pool, None, Budget(samples=k), ctx, noise=0).best_first()
        assert some.tolist() == whole[:k].tolist()


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("factor", [1.5, 1.1])
def test_one_at_a_time_and_replayed_is_the_same(selector, factor, pool, ctx):
    def grown():
        settings = {"noise": 0.0, "script_factor": factor}
        return selector(pool, None, Budget(samples=9), ctx, **settings).open()

    with grown() as (growth, _):
        whole = growth.pick(500).tolist()
    with grown() as (growth, _):
        assert [int(growth.pick(1)[0]) for _ in range(500)] == whole
    with grown() as (growth, _):
        growth.replay(np.array(whole[:200]))
        assert growth.pick(300).tolist() == whole[200:]


@pytest.mark.parametrize("selector", SELECTORS)
def test_one_script_is_chosen_as_if_there_were_no_factor(selector, ctx, tmp_path):
    rng = random.Random(8)
    rows = rows_of("Latin", 150, rng) + rows_of("Han", 1, rng)
    one = make_pool([{"id": str(i), **row} for i, row in enumerate(rows)], tmp_path)
    budget = Budget(samples=60)
    with_it = choose(selector, one, None, budget, ctx, noise=0).best_first()
    without = choose(selector, one, None, budget, ctx, noise=0, script_factor=None).best_first()
    assert with_it.tolist() == without.tolist()


def test_small_scripts_and_noise_have_no_share():
    codes = np.array([SCRIPTS.index(s) for s in ("Latin", "Greek", "Thai", "no letters")], np.uint8)
    tokens = np.array([900, 10, 90, 500])
    none = np.zeros(4, np.bool_)
    shares = kept_shares(tokens, codes, none, 1.5)
    assert shares.group.tolist() == [1, 0, 2, 0]
    np.testing.assert_allclose(shares.share, [0, 0.6, 0.06])
    shares = kept_shares(tokens, codes, np.array([False, False, False, True]), 1.5)
    np.testing.assert_allclose(shares.share, [0, 0.9, 0.09])
    assert kept_shares(tokens, codes, none, None).share.tolist() == [0]


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("factor", [1.0, 0.5, "much"])
def test_factors_that_cannot_be(selector, factor, pool, ctx):
    import didact

    with pytest.raises(ConfigError, match="script_factor"):
        didact.select(pool, None, selector.about.name, budget=Budget(samples=3), ctx=ctx,
                      script_factor=factor)  # fmt: skip


def test_what_is_told(tmp_path):
    rows = [{"id": f"a{i}", "text": f"word{i} " * 10, "source": "kept"} for i in range(40)]
    rows += [{"id": f"b{i}", "text": f"item{i % 20} " * 10, "source": "lost"} for i in range(40)]
    rows += [{"id": f"c{i}", "text": f"τεστ{i} " * 10, "source": "gone"} for i in range(40)]
    pool = make_pool(rows, tmp_path, dedup="none")
    everything = np.arange(120)
    scripts = script_of(pool.read(range(120), ["text"]).column(0))
    assert share_notes(pool, everything, everything, scripts, "a rule") == ()
    chosen = np.concatenate([np.arange(40), np.arange(40, 50)])
    sources, moved = share_notes(pool, everything, chosen, scripts, "a rule")
    assert sources.startswith(
        "sources with a smaller share of the tokens than in the pool: gone to "
    )
    assert "gone to nothing (0% of it are exact duplicates), lost to 1/1." in sources
    assert "(50% of it are exact duplicates)" in sources
    assert "kept" not in sources
    assert moved.startswith("scripts whose share of the tokens changed (a rule): Greek ")
    # so few rows say nothing of shares
    assert share_notes(pool, everything, np.arange(3), scripts, "a rule") == ()


@pytest.mark.parametrize("selector", SELECTORS)
def test_paragraphs_of_six_languages(selector, real_data, ctx, tmp_path):
    """The same paragraphs in five scripts: a fifth of the tokens is not a fifth of two scripts."""
    file = real_data / "multilingual_paragraphs.jsonl.zst"
    if not file.exists():
        pytest.skip("no paragraphs in several languages")
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        rows = [orjson.loads(line) for line in lines]
    rows = [{key: row[key] for key in ("id", "text", "source")} for row in rows]
    pool = make_pool(rows, tmp_path)
    budget = Budget(tokens=round(0.2 * pool.n_tokens.sum()))
    kept = choose(selector, pool, None, budget, ctx)
    found = factors(pool, kept.rows)
    assert set(found) == {"Latin", "Cyrillic", "Arabic", "Thai", "Han"}
    assert 1 / 1.5 <= min(found.values()) <= max(found.values()) <= 1.5
    free = choose(selector, pool, None, budget, ctx, script_factor=None)
    moved = factors(pool, free.rows)
    assert moved["Han"] > 1.8
    assert moved["Thai"] < 0.6
    assert any("Thai to 1/" in note and "Han " in note for note in free.notes)
