"""DSIR: tasks, lengths, what it refuses and what it tells of a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import didact
from didact.core import sampling
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.scores import Scores
from didact.core.statistics import spearman
from didact.scoring.bm25 import BM25
from didact.scoring.dsir import DSIR
from didact.testing import make_pool

MATHS = [f"Ann has {i} apples and buys {i + 1} more; how many apples has she?" for i in range(9)]
PROSE = [f"Once upon a time a king had {i} daughters, each fairer than the last" for i in range(9)]


def pool_of(tmp_path: Path, *contents: str, name: str = "pool", task: str = "") -> Pool:
    more = {"task": task} if task else {}
    rows = [{"id": str(i), "text": text, **more} for i, text in enumerate(contents)]
    return make_pool(rows, tmp_path, name=name)


def score(pool: Pool, target: Pool, **settings: Any) -> Scores:
    return didact.score(pool, "dsir", target=target, **settings)


def test_the_targets_kind_is_above_the_rest(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE, *MATHS)
    target = pool_of(tmp_path, *(text.replace("Ann", "Bob") for text in MATHS), name="target")
    for per in ("sample", "ngram"):
        scores = score(pool, target, per=per)
        assert scores.values[9:].min() > scores.values[:9].max()
        assert scores.higher_is_better
        assert "note" not in scores.facts


def test_a_mean_is_the_sum_over_the_ngrams(tmp_path: Path) -> None:
    pool, target = pool_of(tmp_path, *MATHS, "apples"), pool_of(tmp_path, *PROSE, name="target")
    n_grams = np.array([*[2 * 13 - 1] * 9, 1])
    total, mean = score(pool, target, per="sample"), score(pool, target)
    assert total.facts["pool_ngrams"] == n_grams.sum()
    np.testing.assert_allclose(mean.values * n_grams, total.values, rtol=1e-15)


def test_a_sum_goes_with_length_and_a_mean_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = [" ".join(f"w{i}" for i in rng.integers(0, 500, 5 * n)) for n in range(1, 200)]
    pool = pool_of(tmp_path, *contents)
    target = pool_of(tmp_path, *(" ".join(f"w{i}" for i in range(80)) for _ in "ab"), name="target")
    lengths = pool.n_bytes.astype(float)
    total, mean = score(pool, target, per="sample"), score(pool, target)
    assert spearman(total.values, lengths) < -0.95
    assert abs(spearman(mean.values, lengths)) < 0.3
    assert "samples differ in length" in total.facts["note"]
    assert "score.dsir.per: ngram takes the mean" in total.facts["note"]
    assert "differ in length" not in mean.facts["note"]  # of two rows of a target alone


def test_one_score_for_every_task_or_one_of_all(tmp_path: Path) -> None:
    rows = [
        {"id": f"{task}{i}", "text": text, "task": task}
        for task, texts in (("maths", MATHS), ("prose", PROSE))
        for i, text in enumerate(texts)
    ]
    pool, target = make_pool(rows, tmp_path), make_pool(rows, tmp_path, name="target")
    scores = score(pool, target)
    assert scores.tasks == ("maths", "prose")
    assert scores.by_task is not None
    assert (scores.by_task[:9, 0] > scores.by_task[:9, 1]).all()
    maths = score(pool, pool_of(tmp_path, *MATHS, name="maths"))
    assert scores.by_task[:, 0].tolist() == maths.values.tolist()
    together = score(pool, target, separate_targets=False)
    assert together.tasks == ()
    np.testing.assert_allclose(together.values, 0, atol=1e-12)  # the target is the pool


def test_short_and_wordless_texts_have_no_score(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, "?!", "one", "one two", "one two three")
    target = pool_of(tmp_path, "one two", name="target")
    assert score(pool, target).missing == {0: "no words"}
    missing = score(pool, target, min_words=3).missing
    assert sorted(missing) == [0, 1, 2]
    assert missing[2] == "fewer than 3 words: score.dsir.min_words leaves it out"


def test_a_target_without_words_is_refused(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE)
    with pytest.raises(DataError, match=r"the text of target task 'target' has no words; drop it"):
        score(pool, pool_of(tmp_path, "?!", name="target"))
    rows = [{"id": "a", "text": "word", "task": "x"}, {"id": "b", "text": "...", "task": "y"}]
    target = make_pool(rows, tmp_path, name="tasks")
    with pytest.raises(DataError, match=r"target task 'y' has no words"):
        score(pool, target)
    assert score(pool, target, separate_targets=False).present.all()


def test_a_target_of_one_row_is_told_of(tmp_path: Path) -> None:
    target = pool_of(tmp_path, "a king had", name="target")
    note = score(pool_of(tmp_path, *MATHS, *PROSE), target).facts["note"]
    assert "of the pool's n-grams are in buckets where the target's 5 n-grams left none" in note
    assert "give more target samples" in note


def test_a_target_in_another_script_is_told_of(tmp_path: Path) -> None:
    target = pool_of(tmp_path, "Кошка сидит на коврике", "а собака спит", name="target")
    note = score(pool_of(tmp_path, *MATHS, *PROSE), target).facts["note"]
    assert note.startswith("of the target's words 0% are in a sample of the pool")


def test_a_target_that_is_like_the_end_of_the_pool_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long rows, of which few are looked at: they are drawn from the whole pool."""
    monkeypatch.setattr(sampling, "MOST_BYTES", 1500)
    chinese = [f"小猫第{c}次看见黑色的狗在花园里睡觉。" * 2 for c in "一二三四五六七八九十"]
    target = pool_of(tmp_path, *MATHS, name="target")
    facts = score(pool_of(tmp_path, *chinese, *MATHS), target).facts
    assert facts["target_words_in_pool"] > 0.8
    assert "hardly share" not in facts.get("note", "")


@pytest.mark.parametrize(("scorer", "rate"), [(DSIR(), 30e-9), (BM25(), 15e-9)])
def test_reading_the_target_is_in_the_estimate(tmp_path: Path, scorer: Any, rate: float) -> None:
    stats, target = pool_of(tmp_path, *PROSE).stats, pool_of(tmp_path, *MATHS, name="t").stats
    more = replace(target, n_bytes=target.n_bytes + 10**9)
    seconds = [scorer.estimate(stats, of).cpu_seconds for of in (more, target)]
    assert seconds[0] - seconds[1] == pytest.approx(rate * 10**9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buckets": 1}, "greater than or equal to 2"),
        ({"order": 0}, "greater than or equal to 1"),
        ({"smoothing": 0}, "greater than 0"),
        ({"features": "md5"}, "'words' or 'released'"),
        ({"bucket": 9}, "did you mean 'buckets'"),
        ({"field": "prompt"}, "the pool is raw text, which has no prompt"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    pool = pool_of(tmp_path, *PROSE)
    with pytest.raises(ConfigError, match=message):
        score(pool, pool, **settings)
