"""The target told from the pool: by models that did not see the row, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from didact.core import sampling
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.execution.executors import serial
from didact.scoring.around.score_pool import score_pool
from didact.scoring.classifier import Classifier
from didact.scoring.learned import learned_scorer
from didact.scoring.learned.cross_fitting import Folds
from didact.testing import make_pool

SUMS = [f"What is {i} plus {i + 3} apples? It is {2 * i + 3}." for i in range(30)]
TALES = [f"The {c} walked home through the rain and {c} sang." for c in "abcdefghijklmnopqrstuvwxy"]


def texts(folder: Path, contents: list[str], name: str = "pool", **data: Any) -> Pool:
    rows = [{"id": f"{name}{i}", "text": text} for i, text in enumerate(contents)]
    return make_pool(rows, folder, name=name, **data)


def run(pool: Pool, target: Pool, **settings: Any) -> Scores:
    ctx = Context(executor=serial(), seed=3, cache_dir=pool.path.parent)
    return score_pool(pool, "classifier", Classifier(**settings), settings, target, ctx)


def noise(rows: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{k}" for k in rng.integers(0, 400, 12)) for _ in range(rows)]


def test_what_is_like_the_target_is_above_0_and_the_rest_below(tmp_path: Path) -> None:
    pool = texts(tmp_path, [*SUMS[:5], *TALES])
    scores = run(pool, texts(tmp_path, SUMS[5:], "target"))
    assert scores.higher_is_better
    assert scores.values[:5].min() > scores.values[5:].max()
    assert scores.values[5:].max() < 0


def test_the_held_out_area_is_that_of_rows_judged_by_models_that_did_not_see_them(
    tmp_path: Path,
) -> None:
    ours, theirs = [*TALES, *SUMS[:4], *noise(20, 1)], [*SUMS[10:], *noise(8, 2)]
    target = texts(tmp_path, theirs, "target")
    alone = run(texts(tmp_path, ours), target)
    # with the target's samples in it, the pool shows what each of them was judged to be
    both = run(texts(tmp_path, [*ours, *theirs], "both"), target)
    assert np.array_equal(both.values[: len(ours)], alone.values)
    pairs = [(t > p) + (t == p) / 2 for t in both.values[len(ours) :] for p in alone.values]
    assert alone.facts["auc"] == pytest.approx(np.mean(pairs), abs=1e-12)
    assert f"held-out AUC {np.mean(pairs):.3f}" in alone.facts["note"]


def test_nothing_is_learned_by_heart(tmp_path: Path) -> None:
    """Words drawn alike: a model that saw a row would know its class; copies betray nothing."""
    theirs = noise(120, 1)
    target = texts(tmp_path, theirs, "target")
    pool = texts(tmp_path, [*noise(300, 2), *theirs[:60]])
    scores = run(pool, target)
    assert 0.4 < scores.facts["auc"] < 0.6
    assert "cannot be told from the pool" in scores.facts["note"]
    copies, others = scores.values[300:], scores.values[:300]
    assert 0.35 < (copies[:, None] > others).mean() < 0.65
    assert scores.facts["pool_rows"] == 300


def test_copies_and_other_case_fall_into_one_fold(tmp_path: Path) -> None:
    target = texts(tmp_path, SUMS, "target")
    told = run(texts(tmp_path, ["Rain, rain!", "rain RAIN", *TALES], dedup="none"), target).values
    assert told[0] == told[1]


def test_folds_are_even_and_of_the_words_alone() -> None:
    keys = np.random.default_rng(0).integers(1, 1 << 62, 101).astype(np.uint64)
    folds = Folds.of(np.repeat(keys, 2), 5)
    dealt = folds.find(keys)
    assert sorted(np.bincount(dealt)) == [20, 20, 20, 20, 21]
    assert np.array_equal(Folds.of(keys[::-1], 5).find(keys), dealt)
    others = np.arange(1, 5001, dtype=np.uint64)
    assert np.bincount(folds.find(others)).min() > 900
    assert np.array_equal(folds.find(others)[::7], folds.find(others[::7]))
    assert set(folds.find(others, otherwise=9)) == {9}
    assert Folds.of(keys[:3], 5).count == 3


def test_a_target_in_a_script_that_the_pool_lacks_is_told_and_noted(tmp_path: Path) -> None:
    animals = "猫狗鸟"
    chinese = [f"小{a}第{c}次在花园里睡觉。" for a in animals for c in "一二三四五六七八九十"]
    scores = run(texts(tmp_path, [*TALES, *SUMS]), texts(tmp_path, chinese, "target"))
    assert scores.facts["auc"] > 0.99
    assert "format, in language" in scores.facts["note"]
    few = run(texts(tmp_path, [*TALES, *SUMS]), texts(tmp_path, chinese[:10], "few"))
    assert few.facts["auc"] > 0.99
    assert "10 target samples are few" in few.facts["note"]
    assert "format, in language" not in few.facts["note"]  # ten alike are no sign of it


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (["Only one."], "the target has 1 distinct sample; a classifier learns"),
        (
            ["One row.", "one, row", "!?"],
            r"the target has 1 distinct sample \(row 2: the text has no",
        ),
        (["...", "!"], "the target has 0 distinct samples"),
    ],
)
def test_a_target_of_one_sample_is_refused(
    contents: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        run(texts(tmp_path, TALES), texts(tmp_path, contents, "target"))


def test_two_target_samples_are_enough(tmp_path: Path) -> None:
    scores = run(texts(tmp_path, [SUMS[9], *TALES]), texts(tmp_path, SUMS[:2], "target"))
    assert scores.facts["folds"] == 2
    assert scores.values[0] == scores.values.max()


def test_a_pool_of_target_samples_alone_tells_nothing(tmp_path: Path) -> None:
    scores = run(texts(tmp_path, SUMS[:3]), texts(tmp_path, SUMS, "target"))
    assert scores.values.tolist() == [0, 0, 0]
    assert "no sample to tell the target from" in scores.facts["note"]
    assert "auc" not in scores.facts


def test_nothing_is_told_where_the_pool_is_all_in_one_fold(tmp_path: Path) -> None:
    for i, tale in enumerate(TALES[:3]):
        scores = run(
            texts(tmp_path, [tale] * 4, f"pool{i}", dedup="none"), texts(tmp_path, SUMS, "target")
        )
        assert scores.values.tolist() == [0, 0, 0, 0]
        assert "the held-out AUC cannot be measured" in scores.facts["note"]
        assert "auc" not in scores.facts


def test_copies_make_nothing_more_certain(tmp_path: Path) -> None:
    words = noise(40, 3)
    pool = texts(tmp_path, words[10:])
    once = run(pool, texts(tmp_path, words[:10], "once")).facts
    copies = run(pool, texts(tmp_path, words[:10] * 40, "copies", dedup="none")).facts
    wide, narrow = (facts["auc_high"] - facts["auc_low"] for facts in (copies, once))
    assert wide == pytest.approx(narrow, rel=0.2)  # the fits end a little apart
    assert "the interval is that of 10 and 30 with words of their own" in copies["note"]
    assert "10 different target samples are few" in copies["note"]
    assert "with words of their own" not in once["note"]


def test_texts_without_words_have_no_score(tmp_path: Path) -> None:
    scores = run(texts(tmp_path, [*TALES, "?!", "…"]), texts(tmp_path, SUMS, "target"))
    assert dict(scores.missing) == dict.fromkeys([25, 26], learned_scorer.NO_WORDS)


def test_both_classes_count_equally(tmp_path: Path) -> None:
    """Rows that could be of either class score near 0, however few target samples there are."""
    mixed = np.random.default_rng(4)
    shared = [" ".join(mixed.permutation(list("bcdfgh"))) for _ in range(80)]
    target = texts(tmp_path, [*SUMS[:10], *shared[:10]], "target")
    pool = texts(tmp_path, [*TALES, *(f"{t} again" for t in TALES), *shared[10:60]])
    scores = run(pool, target)
    assert abs(np.median(scores.values[50:])) < 0.5
    assert np.median(scores.values[:50]) < -1.5


def test_a_part_of_the_pool_stands_for_it(tmp_path: Path) -> None:
    pool, target = texts(tmp_path, noise(90, 1)), texts(tmp_path, SUMS, "target")
    assert run(pool, target, train_rows=40).facts["pool_rows"] == 40
    assert run(pool, target).facts["pool_rows"] == 90


def test_very_long_target_is_cut_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_BYTES", 500)
    scores = run(texts(tmp_path, TALES), texts(tmp_path, SUMS, "target"))
    assert 8 <= scores.facts["target_rows"] <= 14  # of some 40 bytes each
    assert "of the target's 30 rows" in scores.facts["note"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "embedding"}, r"features=embedding needs score\.classifier\.model"),
        ({"model": "some"}, "features=ngrams takes no model"),
    ],
)
def test_an_encoder_where_there_is_one(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pool, target = texts(tmp_path, TALES), texts(tmp_path, SUMS, "target")
    with pytest.raises(ConfigError, match=message):
        Classifier(**settings).estimate(pool.stats, target.stats)
    with pytest.raises(ConfigError, match=message):
        run(pool, target, **settings)


def test_the_weights_of_every_fold_cost_though_rows_are_few(tmp_path: Path) -> None:
    """Measured: 0.97 processor seconds for 4,400 rows of 2.7 MB, 3.4 for 20,000 of 12.2 MB."""
    stats = texts(tmp_path, noise(50, 1)).stats
    for rows, megabytes, measured in ((4_400, 2.7, 0.97), (20_000, 12.2, 3.4)):
        pool = replace(stats, n=rows, n_bytes=round(megabytes * 1e6))
        assert Classifier().estimate(pool, stats).cpu_seconds == pytest.approx(measured, rel=0.1)


def test_vectors_of_an_encoder(tmp_path: Path, tiny_encoder: Path) -> None:
    pool, target = texts(tmp_path, [*SUMS[:5], *TALES]), texts(tmp_path, SUMS[5:], "target")
    settings = {"features": "embedding", "model": str(tiny_encoder), "device": "cpu", "folds": 2}
    scores = run(pool, target, **settings)
    assert scores.facts["auc"] > 0.9
    assert scores.values[:5].mean() > scores.values[5:].mean()
    assert scores.facts["model"]
    cost = Classifier(**settings).estimate(pool.stats, target.stats)
    assert cost.flops > 0
    assert scores.flops is not None
    assert 0.3 < cost.flops / scores.flops < 3
