"""ZIP-FIT: the target's samples, what it refuses and what it tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import didact
from didact.core.cost import Cost
from didact.core.errors import ConfigError, DataError
from didact.core.pool import Pool
from didact.core.scores import Scores
from didact.scoring.zip_fit import ZipFit
from didact.testing import chat, make_pool
from didact.text.deflate.sizes import fast_backend

FAST: dict[str, Any] = {"codec": "lz4"}
CODE = [f"def f{i}(x, y):\n    return x + {i} * y - f{i + 1}(y)" for i in range(8)]
PROSE = [f"Once upon a time a king had {i} daughters, each fairer than the last" for i in range(8)]


def pool_of(tmp_path: Path, *contents: str, name: str = "pool") -> Pool:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(contents)]
    return make_pool(rows, tmp_path, name=name)


def score(pool: Pool, target: Pool, **settings: Any) -> Scores:
    return didact.score(pool, "zip_fit", target=target, **settings)


@pytest.mark.parametrize("codec", ["gzip", "zlib", "isal", "zstd", "lz4"])
def test_the_targets_kind_is_above_the_rest(tmp_path: Path, codec: str) -> None:
    pool = pool_of(tmp_path, *PROSE, *CODE)
    target = pool_of(tmp_path, *(text.replace("f", "g") for text in CODE), name="target")
    scores = score(pool, target, codec=codec)
    assert scores.values[8:].min() > scores.values[:8].max()
    assert "note" not in scores.facts
    assert scores.facts["codec"] == codec


def test_a_target_of_one_row_in_a_script_that_the_pool_lacks(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE, "кошка спит на коврике")
    target = pool_of(tmp_path, "собака спит на коврике", name="target")
    values = score(pool, target).values
    assert np.isfinite(values).all()
    assert values.argmax() == 8


def test_a_task_has_the_mean_over_its_own_samples(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE[:3], *CODE[:3])
    rows = [
        {"id": text, "text": text, "task": task}
        for task, texts in (("code", CODE[4:]), ("prose", PROSE[4:]))
        for text in texts
    ]
    both = score(pool, make_pool(rows, tmp_path, name="target"), **FAST)
    assert both.tasks == ("code", "prose")
    assert both.by_task is not None
    for task, texts in enumerate((CODE[4:], PROSE[4:])):
        alone = score(pool, pool_of(tmp_path, *texts, name=f"t{task}"), **FAST)
        assert both.by_task[:, task].tolist() == alone.values.tolist()


def test_samples_of_the_target_are_drawn_by_the_seed_and_told_of(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE)
    target = pool_of(tmp_path, *CODE, *PROSE, name="target")
    few = score(pool, target, max_targets=3, **FAST)
    assert few.facts["target_samples"] == 3
    assert few.facts["note"].startswith("3 of 16 target samples with text were drawn by the seed")
    assert few.values.tolist() == score(pool, target, max_targets=3, **FAST).values.tolist()
    ctx = didact.context(seed=1, cache_dir=pool.path.parent.parent)
    other = didact.score(pool, "zip_fit", target=target, ctx=ctx, max_targets=3, **FAST)
    assert few.values.tolist() != other.values.tolist()
    for enough in (16, None):
        facts = score(pool, target, max_targets=enough, **FAST).facts
        assert facts["target_samples"] == 16
        assert "note" not in facts


def test_samples_are_drawn_among_those_with_text(tmp_path: Path) -> None:
    pool = make_pool([chat("a", "who?", "me"), chat("b", "and?", "you")], tmp_path)
    rows = [chat(f"t{i}", f"so {i}?", "him" if i == 5 else "") for i in range(8)]
    for max_targets in (1, 4, None):
        target = make_pool(rows, tmp_path, name="target")
        scores = score(pool, target, field="completion", max_targets=max_targets, **FAST)
        assert scores.facts["target_samples"] == 1
        assert "were drawn" not in scores.facts["note"]


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
def test_the_order_of_the_target_does_not_matter(tmp_path: Path, codec: str) -> None:
    pool = pool_of(tmp_path, *PROSE, *CODE)
    one_way = pool_of(tmp_path, *CODE, *PROSE, name="target")
    other_way = pool_of(tmp_path, *PROSE[::-1], *CODE[::-1], name="reversed")
    for max_targets in (5, None):
        here = score(pool, one_way, codec=codec, max_targets=max_targets).values
        there = score(pool, other_way, codec=codec, max_targets=max_targets).values
        assert here.tolist() == there.tolist()


def test_empty_texts_have_no_score_and_empty_targets_are_refused(tmp_path: Path) -> None:
    chats = make_pool([chat("a", "who?", "me"), chat("b", "and?", "")], tmp_path)
    target = make_pool([chat("c", "who?", "him"), chat("d", "so?", "")], tmp_path, name="target")
    scores = score(chats, target, field="completion", **FAST)
    assert scores.missing == {1: "empty text: a compression distance needs at least one byte"}
    assert scores.facts["target_samples"] == 1
    empty = make_pool([chat("d", "so?", "")], tmp_path, name="empty")
    with pytest.raises(DataError, match=r"the completion of target task 'empty' is empty; drop"):
        score(chats, empty, field="completion")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "brotli"}, r"'gzip', 'zlib', 'isal', 'zstd' or 'lz4'"),
        ({"codec": "zstd", "level": 0}, r"compression level 0; zstd has levels 1 to 22"),
        ({"codec": "isal", "level": 9}, r"compression level 9; isal has levels 0 to 3"),
        ({"max_targets": 0}, r"greater than or equal to 1"),
        ({"max_target": 3}, r"did you mean 'max_targets'"),
        ({"field": "prompt"}, r"the pool is raw text, which has no prompt"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    pool = pool_of(tmp_path, *PROSE)
    with pytest.raises(ConfigError, match=message):
        score(pool, pool, **settings)


def test_a_codec_that_pyarrow_was_built_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(tmp_path, *PROSE)
    monkeypatch.setattr("pyarrow.Codec", SimpleNamespace(is_available=lambda _: False))
    with pytest.raises(ConfigError, match=r"codec lz4: this build of pyarrow is without it; inst"):
        score(pool, pool, codec="lz4")


def test_level_0_is_told_of(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE)
    note = score(pool, pool, level=0).facts["note"]
    assert note.startswith("gzip at level 0 stores without compressing, so these scores are a func")


def test_estimates_grow_with_pairs_and_not_beyond_the_target(tmp_path: Path) -> None:
    stats, target = pool_of(tmp_path, *PROSE).stats, pool_of(tmp_path, *CODE, name="t").stats

    def seconds(**settings: Any) -> Cost:
        return ZipFit(**settings).estimate(stats, target).cpu_seconds

    for codec in ("gzip", "lz4"):
        assert seconds(codec=codec, max_targets=2) < seconds(codec=codec, max_targets=8)
        assert seconds(codec=codec, max_targets=8) == seconds(codec=codec, max_targets=None)
        assert seconds(codec=codec, max_targets=8) == seconds(codec=codec)
    assert seconds(codec="lz4") < seconds(codec="zstd") < seconds(level=6)
    assert ZipFit().estimate(stats, None).cpu_seconds > seconds()


@pytest.mark.skipif(not fast_backend(), reason="without numba every byte costs the same")
def test_long_target_samples_cost_more_a_byte(tmp_path: Path) -> None:
    # 19 kB each: 58 times `compression` on 5,000 long texts (benchmarks/results/estimates.json)
    stats, target = pool_of(tmp_path, *PROSE * 3).stats, pool_of(tmp_path, *CODE, name="t").stats

    def more(n_bytes: int) -> float:
        of = (replace(target, n=16, n_bytes=16 * size) for size in (n_bytes, 2 * n_bytes))
        short, long = (ZipFit().estimate(stats, each).cpu_seconds for each in of)
        return (long - short) / n_bytes

    assert more(20_000) > 3 * more(300)


def test_a_target_that_shares_no_word_with_the_pool_is_noted(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, *PROSE)
    thai = pool_of(tmp_path, "แมวนอนหลับอยู่บนเสื่อ", "หมาวิ่งเล่นในสวน", name="thai")
    note = score(pool, thai, **FAST).facts["note"]
    assert note.startswith("of the target's words 0% are in a sample of the pool")
    marks = pool_of(tmp_path, "!!! ???", "<> <>", name="marks")
    assert "note" not in score(pool, marks, **FAST).facts  # bytes that may repeat all the same
