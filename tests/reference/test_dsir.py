"""DSIR against its released package, and by hand.

Birth certificate: `dsir.json` holds what `data-selection` 1.0.3 wrote for these texts: the log
importance weights and lengths of `HashedNgramDSIR`, fitted with its defaults but for the n-grams,
buckets and `separate_targets` of each case; its NLTK and numpy are named there. NLTK 3.9 splits
with Python's `re`; from 3.10 on combining marks, as of Hindi and Thai, are part of its words.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import didact
from didact import Budget
from didact.testing import make_pool
from didact.text.importance import NGrams, count, log_ratio, weigh

RECORDED = json.loads(Path(__file__).with_name("dsir.json").read_text("utf-8"))
POOL, TARGET = RECORDED["pool"], RECORDED["target"]


def rows(contents: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"{more}{i}", "text": text, **more} for i, text in enumerate(contents)]


def target_rows() -> list[dict[str, Any]]:
    return [row for k, texts in enumerate(TARGET) for row in rows(texts, task=f"t{k}")]


@pytest.mark.parametrize("case", RECORDED["cases"], ids=range(4))
def test_weights_and_lengths_are_the_packages(case: dict[str, Any]) -> None:
    ngrams = NGrams(case["order"], case["buckets"], "released")
    texts = pa.array(POOL, pa.large_string())
    of_pool = count(texts, ngrams)
    of_target = np.stack([count(pa.array(t, pa.large_string()), ngrams) for t in TARGET])
    if not case["separate_targets"]:
        of_target = of_target.sum(axis=0, keepdims=True)
    ratios = np.stack([log_ratio(t, of_pool, 1e-8) for t in of_target])
    sums, words, grams = weigh(texts, ngrams, ratios)
    expected = np.array(case["weights"]).reshape(len(POOL), -1)
    # float64 sums of the same terms in another order
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-10)
    order = case["order"]
    lengths = (grams + order * (order - 1) / 2) // order  # how the package counts words back
    assert lengths.tolist() == case["lengths"]
    long = words >= order - 1
    assert words[long].tolist() == np.array(case["lengths"])[long].tolist()


def test_the_scorer_gives_the_packages_weights(tmp_path: Path) -> None:
    pool = make_pool(rows([text or "\n" for text in POOL]), tmp_path)
    target = make_pool(target_rows(), tmp_path, name="target")
    cases = {(c["order"], c["separate_targets"]): c for c in RECORDED["cases"]}
    for separate in (False, True):
        scores = didact.score(
            pool,
            "dsir",
            target=target,
            features="released",
            buckets=10_000,
            smoothing=1e-8,
            per="sample",
            separate_targets=separate,
        )
        expected = np.array(cases[2, separate]["weights"]).reshape(len(POOL), -1).mean(axis=1)
        assert set(scores.missing) == {i for i, text in enumerate(POOL) if not text.strip()}
        present = scores.present
        np.testing.assert_allclose(scores.values[present], expected[present], rtol=1e-12)


def test_by_hand() -> None:
    """Two words, no pairs, so many buckets that they do not meet."""
    ngrams = NGrams(1, 1 << 20)
    pool, target = pa.array(["a b b b"], pa.large_string()), pa.array(["a"], pa.large_string())
    ratios = log_ratio(count(target, ngrams), count(pool, ngrams), 0.01)
    sums, words, grams = weigh(pa.array(["A, b!"], pa.large_string()), ngrams, ratios[np.newaxis])
    by_hand = math.log(1.01 / 0.26) + math.log(0.01 / 0.76)
    assert sums[0, 0] == pytest.approx(by_hand, rel=1e-14)
    assert (words.tolist(), grams.tolist()) == ([2], [2])


def test_resampling_is_a_draw_from_the_target(tmp_path: Path) -> None:
    """Of a pool nine tenths prose, as many formulas are drawn as the target has: half."""
    rng = np.random.default_rng(0)

    def words(kind: str, n: int) -> list[str]:
        return [f"{kind}{i} number{j}" for j, i in enumerate(rng.integers(0, 20, n))]

    pool = make_pool(rows([*words("prose", 1800), *words("formula", 200)]), tmp_path)
    target = make_pool(rows([*words("prose", 500), *words("formula", 500)]), tmp_path, name="t")
    scores = didact.score(pool, "dsir", target=target, per="sample", order=1, smoothing=1e-3)
    chosen = didact.select(
        pool, scores, "gumbel_top_k", budget=Budget(samples=100), unit="score", temperature=1.0
    )
    share = float((chosen.rows >= 1800).mean())
    assert 0.3 < share < 0.7
