"""BM25 against other people's implementations, given the same words.

Birth certificates: `rank_bm25` 0.2.2 (BM25Okapi) and `bm25s` 0.3 (method="lucene"), both run here
and now; their tokenizers are not used. The first test holds numbers worked out by hand.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import bm25s  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import pytest
import rank_bm25  # type: ignore[import-untyped]
import zstandard

import didact
from didact.testing import make_pool
from didact.text import bm25
from didact.text.words import word_strings

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def scores(
    documents: list[str],
    queries: list[str],
    variant: bm25.Variant,
    batch: int = 50,
    **settings: Any,
) -> np.ndarray:
    """Scores `(n, K)` by our two passes, in batches."""
    texts = pa.array(documents, pa.large_string())
    asked = pa.array(queries, pa.large_string())
    among = bm25.Queries.of([(asked, np.arange(len(queries)))], len(queries))
    totals = bm25.Totals(among.among)
    parts = [texts.slice(at, batch) for at in range(0, len(texts), batch)]
    for part in parts:
        for counts in bm25.count_batch(part, among.among, vocabulary=variant == "okapi"):
            totals.add(counts)
    chosen = {"k1": 1.5, "b": 0.75, "epsilon": 0.25} | settings
    fitted = bm25.statistics(totals, variant, **chosen)
    return np.concatenate([bm25.score_batch(part, among, fitted) for part in parts])


def by_rank_bm25(documents: list[str], queries: list[str], **settings: Any) -> np.ndarray:
    oracle = rank_bm25.BM25Okapi([word_strings(d) for d in documents], **settings)
    with np.errstate(invalid="ignore"):  # its 0 / 0 on empty documents when b = 1; ours is 0
        found = np.stack([oracle.get_scores(word_strings(q)) for q in queries], axis=1)
    return np.asarray(np.nan_to_num(found))


def by_bm25s(documents: list[str], queries: list[str], **settings: Any) -> np.ndarray:
    oracle = bm25s.BM25(method="lucene", dtype="float64", **settings)
    oracle.index([word_strings(d) for d in documents], show_progress=False)
    return np.stack([oracle.get_scores(word_strings(q)) for q in queries], axis=1)


def zipf_corpus(seed: int) -> tuple[list[str], list[str]]:
    """Documents with a word that all have, words that most have, empty ones; queries with repeats,
    unknown words, and nothing but unknown words."""
    rng = np.random.default_rng(seed)
    documents = []
    for length in rng.geometric(0.03, 200):
        words = [f"w{i}" for i in np.minimum(rng.zipf(1.3, length), 5000)]
        documents.append(" ".join(["all", *words]))
    documents[3] = documents[77] = ""
    queries = [" ".join(f"w{i}" for i in np.minimum(rng.zipf(1.3, 60), 9000)) for _ in range(4)]
    return documents, [*queries, "all all w1 w1 w2", "unknown words only", "w1"]


DOCSTRINGS = [
    text
    for module in (io, json, math, np, pa, Path)
    for name in sorted(dir(module))
    if (text := getattr(getattr(module, name), "__doc__", None))
][:400]


def test_by_hand() -> None:
    # Three documents of two words. "the" is in two, four words are in one each, so their idf are
    # log(1.5 / 2.5) = -0.5108256 and log(2.5 / 1.5) = 0.5108256, the average of the five is
    # 0.3064954, and a quarter of that, 0.0766238, replaces the negative one.
    # Every length is the mean, so tf 1 counts 2.5 / 2.5 = 1 in Okapi and 1 / 2.5 in Lucene.
    documents, queries = ["the cat", "the dog", "a sat"], ["cat", "the", "The, the; cat?"]
    okapi = scores(documents, queries, "okapi")
    assert okapi[:, 0] == pytest.approx([0.5108256, 0, 0], abs=1e-7)
    assert okapi[:, 1] == pytest.approx([0.0766238, 0.0766238, 0], abs=1e-7)
    assert okapi[:, 2] == pytest.approx([0.6640733, 0.1532477, 0], abs=1e-7)
    # log(1 + 2.5 / 1.5) / 2.5 and log(1 + 1.5 / 2.5) / 2.5
    lucene = scores(documents, queries, "lucene")
    assert lucene[:, 0] == pytest.approx([0.3923317, 0, 0], abs=1e-7)
    assert lucene[:, 1] == pytest.approx([0.1880015, 0.1880015, 0], abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings", [{}, {"k1": 0.9, "b": 0.4, "epsilon": 1.0}, {"k1": 1.2, "b": 1.0, "epsilon": 0.0}]
)
def test_okapi_is_rank_bm25(seed: int, settings: dict[str, Any]) -> None:
    documents, queries = zipf_corpus(seed)
    expected = by_rank_bm25(documents, queries, **settings)
    found = scores(documents, queries, "okapi", **settings)
    # float64 on both sides; only the order of the sums differs
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert (found[3] == 0).all()
    assert (found[:, 5] == 0).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"k1": 0.9, "b": 0.4}])
def test_lucene_is_bm25s(seed: int, settings: dict[str, Any]) -> None:
    documents, queries = zipf_corpus(seed)
    expected = by_bm25s(documents, queries, **settings)
    found = scores(documents, queries, "lucene", **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_terms_of_scripts_without_spaces() -> None:
    # Runs of ideographs and of Thai letters; what the others count was cut here.
    rng = np.random.default_rng(3)
    texts, terms = [], []
    for _ in range(120):
        runs = [
            (n, "".join(rng.choice(list(letters), rng.integers(n, 12))))
            for n, letters in ((2, "東京都北南"), (3, "กขคงจ")) * int(rng.integers(1, 5))
        ]
        texts.append("".join(run for _, run in runs))
        terms.append([run[i : i + n] for n, run in runs for i in range(len(run) - n + 1)])
    for variant, oracle in (
        ("okapi", rank_bm25.BM25Okapi(terms[:100])),
        ("lucene", bm25s.BM25(method="lucene", dtype="float64")),
    ):
        if variant == "lucene":
            oracle.index(terms[:100], show_progress=False)
        expected = np.stack([oracle.get_scores(query) for query in terms[100:]], axis=1)
        found = scores(texts[:100], texts[100:], variant)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_prose_of_docstrings() -> None:
    documents, queries = DOCSTRINGS[:350], DOCSTRINGS[350:]
    assert len(queries) == 50
    found = scores(documents, queries, "okapi")
    np.testing.assert_allclose(found, by_rank_bm25(documents, queries), rtol=1e-9, atol=1e-12)
    found = scores(documents, queries, "lucene")
    np.testing.assert_allclose(found, by_bm25s(documents, queries), rtol=1e-9, atol=1e-9)


def test_a_pool_where_the_average_idf_is_negative() -> None:
    documents = ["a b c", "a b c", "a b c d"]
    expected = by_rank_bm25(documents, ["a d"])
    assert (expected < 0).any()
    np.testing.assert_allclose(scores(documents, ["a d"], "okapi"), expected, rtol=1e-12)


def test_first_messages_of_many_turns(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def said(length: int) -> str:
        return " ".join(f"w{i}" for i in np.minimum(rng.zipf(1.3, length), 400))

    turns = [[said(9) for _ in range(1 + 2 * int(rng.integers(1, 4)))] for _ in range(60)]
    roles = ("user", "assistant")
    rows = [
        {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(each)]}
        for each in turns
    ]
    aim = [{"messages": rows[i]["messages"], "task": f"t{i % 2}"} for i in range(4)]
    pool, target = make_pool(rows, tmp_path), make_pool(aim, tmp_path, name="target")
    found = didact.score(
        pool, "bm25", target=target, variant="okapi", field="first_message", target_field="text"
    )
    queries = [" ".join(w for each in turns[t:4:2] for w in each) for t in range(2)]
    expected = by_rank_bm25([each[0] for each in turns], queries)
    assert found.by_task is not None
    np.testing.assert_allclose(found.by_task, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.values, expected.mean(1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", ["okapi", "lucene"])
def test_batches_do_not_change_a_bit(variant: bm25.Variant) -> None:
    documents, queries = zipf_corpus(9)
    whole = scores(documents, queries, variant, batch=1000)
    for batch in (1, 7, 64):
        assert scores(documents, queries, variant, batch=batch).tobytes() == whole.tobytes()


@pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")
def test_real_instructions() -> None:
    documents = _texts("instruct_small.jsonl.zst")[:500]
    long = "\n".join(_texts("target_gsm8k_val.jsonl.zst")[:50])
    queries = [*_texts("target_bbh_val.jsonl.zst")[::20], long]
    found = scores(documents, queries, "okapi")
    np.testing.assert_allclose(found, by_rank_bm25(documents, queries), rtol=1e-9, atol=1e-9)
    found = scores(documents, queries, "lucene")
    np.testing.assert_allclose(found, by_bm25s(documents, queries), rtol=1e-9, atol=1e-9)


def _texts(name: str) -> list[str]:
    with zstandard.open(DATA / name, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return ["\n".join(m["content"] for m in row["messages"]) for row in rows]
