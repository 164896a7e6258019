"""Each scorer by itself: its numbers, its direction, what it refuses."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from didact.core import registry
from didact.core.binding import bind
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.execution.executors import serial
from didact.scoring.around.score_pool import score_pool
from didact.testing import chat, make_pool
from didact.text.words import word_strings


def run(
    pool: Pool, method: str, target: Pool | None = None, seed: int = 0, **settings: Any
) -> Scores:
    find = registry.find("scorers", method)
    ctx = Context(executor=serial(), seed=seed, cache_dir=pool.path.parent)
    bound = bind(find, settings, method)
    return score_pool(pool, method, find(**bound), bound, target, ctx)


def texts(tmp_path: Path, *contents: str, name: str = "pool") -> Pool:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(contents)]
    return make_pool(rows, tmp_path, name=name)


# -- random ----------------------------------------------------------------------------------------


def test_random_is_uniform_and_follows_the_seed(tmp_path: Path) -> None:
    pool = texts(tmp_path, *(f"text {i}" for i in range(4000)))
    values = run(pool, "random", seed=1).values
    assert values.min() >= 0
    assert values.max() < 1
    # Kolmogorov-Smirnov: the largest gap to the uniform distribution, 1.95 / sqrt(n) at p = 0.001
    assert np.abs(np.sort(values) - np.arange(4000) / 4000).max() < 1.95 / np.sqrt(4000)
    assert np.array_equal(run(pool, "random", seed=1).values, values)
    other = run(pool, "random", seed=2).values
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.06  # 1 / sqrt(n) is 0.016


def test_random_keeps_its_numbers_when_the_pool_grows(tmp_path: Path) -> None:
    small = run(texts(tmp_path, "a", "b", "c"), "random").values
    large = run(texts(tmp_path, *"abcdefgh", name="large"), "random").values
    assert large[:3].tolist() == small.tolist()


# -- length ----------------------------------------------------------------------------------------

CONTENTS = ("Hello, world!", "猫 😀", ".", "one two three")


def test_lengths_in_every_unit(tmp_path: Path) -> None:
    pool = texts(tmp_path, *CONTENTS)
    assert run(pool, "length", unit="bytes").values.tolist() == [13, 8, 1, 13]
    assert run(pool, "length", unit="characters").values.tolist() == [13, 3, 1, 13]
    assert run(pool, "length", unit="words").values.tolist() == [2, 2, 0, 3]
    tokens = run(pool, "length")
    assert tokens.values.tolist() == pool.n_tokens.tolist()
    assert tokens.facts == {"tokens": pool.token_counter, "estimated": True}


def test_which_length_is_better(tmp_path: Path) -> None:
    pool = texts(tmp_path, *CONTENTS)
    assert run(pool, "length").utility.argmax() in {0, 3}
    assert run(pool, "length", unit="bytes", prefer="shortest").utility.argmax() == 2


def test_length_of_a_part(tmp_path: Path) -> None:
    pool = make_pool([chat("a", "four", "seven 7")], tmp_path)
    assert run(pool, "length", unit="bytes", field="prompt").values.tolist() == [4]
    assert run(pool, "length", unit="bytes", field="completion").values.tolist() == [7]
    with pytest.raises(ConfigError, match=r"tokens of the prompt are not counted; use unit=words"):
        run(pool, "length", field="prompt")


# -- compression -----------------------------------------------------------------------------------


def test_compression_is_raw_by_compressed_bytes(tmp_path: Path) -> None:
    contents = ["the cat sat on the mat. " * 30, "猫", "abc"]
    found = run(texts(tmp_path, *contents), "compression")
    expected = [len(t.encode()) / len(zlib.compress(t.encode(), 9)) for t in contents]
    assert found.values.tolist() == expected
    assert found.values[0] > 10  # repeats itself
    assert found.values[2] < 1  # too short to gain anything
    assert found.utility.argmax() == found.values.argmin()
    assert found.facts["library"] == f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    assert (found.facts["codec"], found.facts["level"]) == ("zlib", 9)


@pytest.mark.parametrize("codec", ["zlib", "zstd", "isal"])
def test_an_empty_text_has_no_ratio(codec: str, tmp_path: Path) -> None:
    rows = [chat("a", "q", "some text"), chat("b", "q", ""), chat("c", "q", "more text")]
    pool = make_pool(rows, tmp_path)
    found = run(pool, "compression", codec=codec, field="completion")
    assert list(found.missing) == [1]
    assert "empty text" in found.missing[1]
    assert np.isnan(found.values).tolist() == [False, True, False]


def test_compression_of_a_part(tmp_path: Path) -> None:
    pool = make_pool([chat("a", "q", "yes " * 50)], tmp_path)
    assert run(pool, "compression", field="completion").values[0] == 200 / len(
        zlib.compress(b"yes " * 50, 9)
    )


def test_a_level_the_codec_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compression level 9; isal has levels 0 to 3"):
        run(texts(tmp_path, "x"), "compression", codec="isal", level=9)


# -- bm25 ------------------------------------------------------------------------------------------


def bm25_pool(tmp_path: Path) -> tuple[Pool, Pool]:
    rows = [
        chat("cat", "tell me of the cat", "cats sleep"),
        chat("dog", "tell me of the dog", "dogs bark at a cat"),
        chat("sum", "what is 3 plus 4", "3 plus 4 is 7"),
        chat("none", "嗯", "..."),
    ]
    aim = [
        chat("q", "the cat", "purrs", task="animals"),
        chat("r", "plus", "7", task="sums"),
        chat("s", "cat", "", task="animals"),
    ]
    return make_pool(rows, tmp_path), make_pool(aim, tmp_path, name="target")


def test_bm25_has_one_score_per_task(tmp_path: Path) -> None:
    pool, target = bm25_pool(tmp_path)
    found = run(pool, "bm25", target)
    assert found.tasks == ("animals", "sums")
    assert found.by_task is not None
    assert found.by_task.argmax(axis=0).tolist() == [0, 2]
    assert found.by_task[3].tolist() == [0, 0]  # no shared word: zero, not missing
    assert found.values.tolist() == found.by_task.mean(axis=1).tolist()
    most = run(pool, "bm25", target, reduce="max")
    assert most.values.tolist() == found.by_task.max(axis=1).tolist()
    words = {w for t in ("the cat", "purrs", "plus", "7", "cat") for w in word_strings(t)}
    assert found.facts["query_words"] == len(words)
    assert found.facts["documents"] == 4


def test_bm25_of_prompts_only(tmp_path: Path) -> None:
    pool, target = bm25_pool(tmp_path)
    whole = run(pool, "bm25", target).by_task
    assert whole is not None
    assert (whole[:2, 0] > 0).all()  # "cat" is in the dog's answer too
    one_word = make_pool([chat("q", "cat", "dog")], tmp_path, name="one")
    prompts = run(pool, "bm25", one_word, field="prompt").values
    assert (prompts > 0).tolist() == [True, False, False, False]
    # prompts of the pool, whole samples of the target
    both = run(pool, "bm25", one_word, field="prompt", target_field="text").values
    assert (both > 0).tolist() == [True, True, False, False]


def test_bm25_is_lucenes_unless_asked_otherwise(tmp_path: Path) -> None:
    pool, target = texts(tmp_path, "the cat", "the dog"), texts(tmp_path, "the", name="target")
    # "the" is in both of two: log(1 + 0.5 / 2.5), and tf 1 of mean length counts 1 / 2.5
    expected = pytest.approx([np.log(1.2) / 2.5] * 2)
    assert run(pool, "bm25", target).values.tolist() == expected
    assert run(pool, "bm25", target, variant="okapi").values.tolist() != expected


def test_bm25_reads_runs_of_characters_where_there_are_no_spaces(tmp_path: Path) -> None:
    # The same characters in another order share no pair, nor a run of three.
    pool = texts(tmp_path, "京東は北", "กนไท", "東京北", "ไทยกน")
    chinese, thai = (texts(tmp_path, t, name=t) for t in ("東京", "ไทย"))
    assert (run(pool, "bm25", chinese).values > 0).tolist() == [False, False, True, False]
    assert (run(pool, "bm25", thai).values > 0).tolist() == [False, False, False, True]


# Measured: the share of a paragraph's R best others that are of its article, where it has R.
# Single characters found 0.168 in Thai and 0.567 in Chinese.
@pytest.mark.parametrize(
    ("language", "precision"),
    [("en", 0.568), ("ar", 0.569), ("ru", 0.486), ("tr", 0.571), ("th", 0.599), ("zh", 0.670)],
)
def test_bm25_finds_paragraphs_of_the_same_article(
    language: str, precision: float, real_data: Path, tmp_path: Path
) -> None:
    path = real_data / "multilingual_paragraphs.jsonl.zst"
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["source"] == language]
    pool = texts(tmp_path, *(row["text"] for row in rows))
    asked = [{"id": str(i), "text": r["text"], "task": f"{i:03}"} for i, r in enumerate(rows)]
    by_task = run(pool, "bm25", make_pool(asked, tmp_path, name="asked")).by_task
    assert by_task is not None
    by_task = np.where(np.eye(len(rows), dtype=bool), -1, by_task)
    article = np.unique([row["meta"]["article"] for row in rows], return_inverse=True)[1]
    same = article[np.argsort(-by_task, axis=0, kind="stable")] == article
    others = np.bincount(article)[article] - 1
    found = [same[:n, i].mean() for i, n in enumerate(others) if n]
    assert np.mean(found) == pytest.approx(precision, abs=0.002)


def test_bm25_refuses_what_makes_no_query(tmp_path: Path) -> None:
    pool, target = bm25_pool(tmp_path)
    with pytest.raises(ConfigError, match=r"score\.bm25: needs a target set"):
        run(pool, "bm25")
    silent = make_pool([chat("q", "?!", "...", task="silent")], tmp_path, name="silent")
    with pytest.raises(DataError, match="the text of target task 'silent' has no words"):
        run(pool, "bm25", silent)
    raw = texts(tmp_path, "cat", name="raw")
    with pytest.raises(ConfigError, match=r"field=prompt: the pool is raw text"):
        run(raw, "bm25", target, field="prompt")
    with pytest.raises(ConfigError, match=r"target_field=prompt: the target set is raw text"):
        run(pool, "bm25", raw, field="prompt")
    assert run(pool, "bm25", raw, field="prompt", target_field="text").values[0] > 0


@pytest.mark.parametrize("bad", [{"k1": -1}, {"b": 1.5}, {"variant": "plus"}, {"k_1": 1}])
def test_bm25_settings_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        bind(registry.find("scorers", "bm25"), bad, "score.bm25")


# -- column ----------------------------------------------------------------------------------------


def graded(tmp_path: Path, *grades: Any) -> Pool:
    rows: list[dict[str, Any]] = [
        {"id": str(i), "text": f"text {i}", "meta": {"score": grade}}
        for i, grade in enumerate(grades)
    ]
    return make_pool(rows, tmp_path)


def test_column_reads_the_users_number(tmp_path: Path) -> None:
    pool = graded(tmp_path, 3, 1.5, -2)
    higher = run(pool, "column", name="meta.score", prefer="higher")
    assert higher.values.tolist() == [3, 1.5, -2]
    assert higher.utility.argmax() == 0
    assert run(pool, "column", name="meta.score", prefer="lower").utility.argmax() == 2


def test_what_is_not_a_number_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    values = ["7", "true", '"1,5"', "null", "NaN", "1e999", "9" * 400, "[1]", "-0.0", '" 0.5"']
    lines = [f'{{"text": "t{i}", "score": {value}}}\n' for i, value in enumerate(values)]
    path.write_text("".join(lines) + '{"text": "none"}\n')
    import didact

    pool = didact.read(path, cache_dir=tmp_path / "cache")
    found = run(pool, "column", name="score", prefer="higher")
    assert np.flatnonzero(found.present).tolist() == [0, 8, 9]
    assert found.values[9] == 0.5  # as CSV files have every number
    assert found.missing[1] == "'score' is True, not a number"
    assert found.missing[2] == "'score' is '1,5', not a number"
    assert found.missing[3] == "'score' is None, not a number"
    assert found.missing[4] == "'score' is nan, not a finite number"
    assert "finite" in found.missing[5]
    assert "finite" in found.missing[6]
    assert found.missing[10] == "the row has no 'score'"


def test_a_column_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"called 'meta\.scor'; row 0: .*did you mean 'meta\.score' or 'meta'\? \(known: id, ",
    ):
        run(graded(tmp_path, 1, 2), "column", name="meta.scor", prefer="higher")


def test_a_column_without_any_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 0: 'meta\.score' is 'good', not a number"):
        run(graded(tmp_path, "good", "bad"), "column", name="meta.score", prefer="higher")


def test_the_first_number_may_come_late(tmp_path: Path) -> None:
    found = run(graded(tmp_path, *[None] * 9, 4), "column", name="meta.score", prefer="higher")
    assert found.values[9] == 4
    assert len(found.missing) == 9


def test_column_needs_a_name_and_a_direction() -> None:
    with pytest.raises(ConfigError, match=r"score\.column\.prefer: this setting is required"):
        bind(registry.find("scorers", "column"), {"name": "x"}, "score.column")


def test_column_of_parquet_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    import didact

    table = pa.table({"text": ["a", "b", "c"], "score": pa.array([1.5, None, float("nan")])})
    pq.write_table(table, tmp_path / "pool.parquet")
    pool = didact.read(tmp_path / "pool.parquet", cache_dir=tmp_path / "cache")
    found = run(pool, "column", name="score", prefer="higher")
    assert found.values[0] == 1.5
    assert sorted(found.missing) == [1, 2]


# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["compression", "length"])
@pytest.mark.parametrize("field", ["prompt", "first_message", "completion"])
def test_raw_text_has_no_parts(method: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"score\.{method}\.field={field}: the pool is raw text"):
        run(texts(tmp_path, "x"), method, field=field)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("bm25", {}),
        ("column", {"name": "x", "prefer": "higher"}),
        ("compression", {}),
        ("compression", {"codec": "zstd", "level": 2}),
        ("length", {"unit": "words"}),
        ("random", {}),
    ],
)
def test_estimates_grow_with_the_pool(
    method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    scorer = registry.find("scorers", method)(**settings)
    small, large = (texts(tmp_path, *"ab" * n, name=f"p{n}").stats for n in (2, 20))
    costs: Sequence[Any] = [scorer.estimate(stats, None) for stats in (small, large)]
    assert 0 < costs[0].cpu_seconds * 9 < costs[1].cpu_seconds < costs[0].cpu_seconds * 11
    assert costs[0].flops == costs[1].flops == 0
