"""Grades foretold from a few: what is foretold, what is told of it, what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import didact
from didact import verbs
from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.core.statistics import spearman, spearman_interval
from didact.execution.executors import serial
from didact.scoring.around.about_scores import about_target
from didact.scoring.around.score_pool import score_pool
from didact.scoring.learned.grades import grades_of
from didact.scoring.learned_grade import LearnedGrade
from didact.testing import make_pool

RNG = np.random.default_rng(11)


def rated(n: int) -> tuple[list[str], list[float]]:
    """Texts whose grade is the share of praise among their words."""
    praise, blame = ["fine", "clear", "right", "useful"], ["wrong", "broken", "empty", "rude"]
    out, grades = [], []
    for _ in range(n):
        good = int(RNG.integers(0, 7))
        words = [
            *RNG.choice(praise, good),
            *RNG.choice(blame, 6 - good),
            *RNG.choice(list("abcdefg"), 6),
        ]
        out.append(" ".join(RNG.permutation(words)))
        grades.append(float(good))
    return out, grades


TEXTS, GRADES = rated(160)


def rows(texts: list[str], grades: list[Any] | None = None) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"id": f"r{i}", "text": text} for i, text in enumerate(texts)]
    for row, grade in zip(out, grades or [], strict=False):
        row["meta"] = {"grade": grade}
    return out


def run(pool: Pool, target: Pool | None = None, **settings: Any) -> Scores:
    settings = {"grade": "meta.grade", **settings}
    ctx = Context(executor=serial(), seed=3, cache_dir=pool.path.parent)
    return score_pool(pool, "learned_grade", LearnedGrade(**settings), settings, target, ctx)


def test_grades_of_rows_that_have_none(tmp_path: Path) -> None:
    scores = run(make_pool(rows(TEXTS, GRADES[:90]), tmp_path, dedup="none"))
    assert spearman(scores.values[90:], GRADES[90:]) > 0.85
    facts = scores.facts
    assert facts["graded"] == 90
    assert facts["spearman"] > 0.8
    assert [facts["spearman_low"], facts["spearman_high"]] == pytest.approx(
        spearman_interval(facts["spearman"], 90, variance=2)
    )
    said = f"held-out Spearman {facts['spearman']:.2f} ({facts['spearman_low']:.2f} to "
    assert said in facts["note"]
    assert np.abs(scores.values[90:] - GRADES[90:]).mean() < 1  # in the grades' unit


@pytest.mark.parametrize("power", [-1000, -30, 1020])
def test_another_unit_changes_nothing(power: int, tmp_path: Path) -> None:
    grades = [grade + 0.1 for grade in GRADES[:90]]
    ours = run(make_pool(rows(TEXTS, grades), tmp_path, dedup="none"))
    unit = [math.ldexp(grade, power) for grade in grades]
    theirs = run(make_pool(rows(TEXTS, unit), tmp_path, name="unit", dedup="none"))
    assert np.array_equal(np.ldexp(theirs.values, -power), ours.values)
    assert theirs.facts["note"] == ours.facts["note"]


@pytest.mark.parametrize("factor", [1e-9, 1e100, -1e300, 1.7e308])
def test_nor_does_one_that_is_no_power_of_two(factor: float, tmp_path: Path) -> None:
    ours = run(make_pool(rows(TEXTS, [g / 6 for g in GRADES[:90]]), tmp_path, dedup="none"))
    unit = [grade / 6 * factor for grade in GRADES[:90]]
    theirs = run(make_pool(rows(TEXTS, unit), tmp_path, name="unit", dedup="none"))
    ends = np.clip(ours.values, -1.05, 1.05)  # nothing beyond what a float64 holds
    assert np.clip(theirs.values / factor, -1.05, 1.05) == pytest.approx(ends, abs=1e-6)
    assert theirs.facts["spearman"] == pytest.approx(ours.facts["spearman"], abs=1e-3)


def test_copies_make_nothing_more_certain(tmp_path: Path) -> None:
    texts = [text for text in TEXTS[:30] for _ in range(20)]
    scores = run(make_pool(rows(texts, RNG.normal(size=600).tolist()), tmp_path, dedup="none"))
    facts = scores.facts
    assert [facts["spearman_low"], facts["spearman_high"]] == pytest.approx(
        spearman_interval(facts["spearman"], 30, variance=2)
    )
    assert "with 600 grades" in facts["note"]
    assert "the interval is that of 30 texts with words of their own" in facts["note"]


def test_grades_of_a_range_are_two_arrays(tmp_path: Path) -> None:
    pool = make_pool(rows(TEXTS[:60], [None, *GRADES[:40]]), tmp_path, dedup="none")
    found = grades_of((pool, "meta.grade"), range(50)).value
    assert np.array_equal(found.rows, np.arange(1, 41))
    assert np.array_equal(found.values, GRADES[:40])


def test_a_graded_row_is_not_given_its_own_grade(tmp_path: Path) -> None:
    """Grades at random: what saw them would foretell them, what did not cannot."""
    texts = [" ".join(f"w{k}" for k in RNG.integers(0, 300, 10)) for _ in range(150)]
    grades = RNG.permutation(150).tolist()
    scores = run(make_pool(rows(texts, grades), tmp_path))
    assert scores.facts["spearman"] == pytest.approx(spearman(scores.values, grades), abs=1e-12)
    assert abs(scores.facts["spearman"]) < 0.25
    assert "not told from none" in scores.facts["note"]


def test_copies_of_a_graded_row_do_not_see_its_grade_either(tmp_path: Path) -> None:
    pool = make_pool(rows([*TEXTS[:60], TEXTS[0].upper()], GRADES[:60]), tmp_path)
    scores = run(pool)
    assert scores.values[60] == scores.values[0]


def test_graded_rows_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    graded = rows(TEXTS[:90], GRADES[:90])
    inside = run(make_pool(rows(TEXTS, GRADES[:90]), tmp_path, dedup="none"))
    target = make_pool(graded, tmp_path, name="graded", dedup="none")
    beside = run(make_pool(rows(TEXTS[90:]), tmp_path, name="others", dedup="none"), target)
    assert np.array_equal(beside.values, inside.values[90:])
    assert beside.facts["note"] == inside.facts["note"]


def test_length_is_a_feature_unless_it_is_not(tmp_path: Path) -> None:
    texts = [" ".join(f"w{k}" for k in RNG.integers(0, 5000, n)) for n in range(5, 105)]
    pool = make_pool(rows(texts, list(range(100))), tmp_path)
    with_shape, without = run(pool), run(pool, shape=False)
    assert with_shape.facts["spearman"] > 0.8
    assert with_shape.facts["spearman"] > without.facts["spearman"] + 0.2
    assert with_shape.facts["spearman_of_length"] == pytest.approx(1, abs=0.01)
    assert "length alone has 1.00" in with_shape.facts["note"]


def test_lower_grades_may_be_better(tmp_path: Path) -> None:
    scores = run(make_pool(rows(TEXTS, GRADES), tmp_path, dedup="none"), prefer="lower")
    assert not scores.higher_is_better


def test_null_and_nan_are_no_grades(tmp_path: Path) -> None:
    graded = rows(TEXTS[:60], [*GRADES[:50], None, None, None])
    lines = [json.dumps(row) for row in graded]
    lines[53:] = [json.dumps({**row, "meta": {"grade": float("nan")}}) for row in graded[53:]]
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(lines))

    scores = run(verbs.read(path, cache_dir=tmp_path, dedup="none"))
    assert scores.facts["graded"] == 50
    assert "7 grades of NaN counted as none" in scores.facts["note"]
    assert scores.present.all()


def test_grades_of_a_csv_file_are_text(tmp_path: Path) -> None:
    cells = [*map(str, GRADES[:50]), "", " "]
    with (tmp_path / "graded.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "grade"], *zip(TEXTS, cells, strict=False)])
    of_csv = run(verbs.read(tmp_path / "graded.csv", cache_dir=tmp_path), grade="grade")
    assert of_csv.facts["graded"] == 50
    of_json = run(make_pool(rows(TEXTS[:52], GRADES[:50]), tmp_path))
    assert of_csv.values.tolist() == of_json.values.tolist()


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ([*GRADES[:30], "good"], r"row 30 of the pool \(id 'r30', source '.*'\) has 'good' there; expected a number"),
        ([*GRADES[:30], True], r"row 30 of the pool .* has True there"),
        ([*GRADES[:30], "4.5 of 5"], "has '4.5 of 5' there; expected a number, or null .* write grades as"),
        ([*GRADES[:30], [3]], r"has \[3\] there"),
        ([*GRADES[:30], 10**400], "has 1000000000"),
        ([3.0] * 40, "all 40 grades are 3, and nothing can be learned"),
        (GRADES[:19], "19 rows of the pool have a grade; expected 20 at least"),
        ([4.0], "1 row of the pool has a grade; expected 20 at least"),
        ([None] * 30, "0 rows of the pool have a grade"),
    ],
)  # fmt: skip
def test_grades_that_are_none(grades: list[Any], message: str, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in rows(TEXTS[:60], grades))
    (tmp_path / "pool.jsonl").write_text(lines)

    with pytest.raises(DataError, match=rf"^score\.learned_grade\.grade=meta\.grade: .*{message}"):
        run(verbs.read(tmp_path / "pool.jsonl", cache_dir=tmp_path, dedup="none"))


def test_a_column_that_is_nowhere(tmp_path: Path) -> None:
    pool = make_pool(rows(TEXTS[:60], GRADES[:40]), tmp_path, dedup="none")
    with pytest.raises(
        DataError, match=r"no row of the pool has this column; did you mean 'meta\.grade'"
    ):
        run(pool, grade="meta.grades")


def test_twenty_grades_of_one_text_are_one(tmp_path: Path) -> None:
    pool = make_pool(rows(["The same. " * 2] * 30, list(range(30))), tmp_path, dedup="none")
    with pytest.raises(DataError, match="the 30 graded rows have 1 different texts"):
        run(pool)


def test_what_is_told_of_combined_scores_is_in_the_run(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in rows(TEXTS, GRADES[:90]))
    (tmp_path / "pool.jsonl").write_text(lines)
    graded = {"method": "learned_grade", "grade": "meta.grade"}
    config = {
        "data": {"path": str(tmp_path / "pool.jsonl"), "dedup": "none"},
        "score": {"combine": "rank_mean", "of": [graded, {"method": "length"}]},
        "select": {"method": "top_k", "budget": {"samples": 20}},
        "order": {"method": "keep"},
    }
    didact.run(config, tmp_path / "out", workers=1, cache_dir=tmp_path / "cache")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert any(n.startswith("learned_grade: held-out") for n in stages["score"]["notes"])
    report = (tmp_path / "out" / "report.html").read_text()
    assert "learned_grade: held-out Spearman 0." in report


def test_graded_rows_of_the_pool_are_no_target_in_it(tmp_path: Path) -> None:
    pool = make_pool(rows(TEXTS[:30]), tmp_path)
    graded = make_pool(rows(TEXTS[:20], GRADES), tmp_path, name="graded")
    assert next(about_target(pool, graded, [])).kind == "target_in_pool"
    assert not [*about_target(pool, graded, [], aimed_at=False)]
