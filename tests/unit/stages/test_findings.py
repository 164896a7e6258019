"""What a run should make its reader know: in its output, its manifest and its report, each once."""

import io
import json
from contextlib import redirect_stdout

import pytest

import didact
from didact.cli import printing
from didact.core.budget import Budget
from didact.core.findings import TITLE
from didact.inspection import inspect_pool
from didact.runs.folder import read_manifest
from didact.scoring.around.about_scores import about_scores, about_target
from didact.selection.around.about_selection import about_selection
from didact.testing import make_pool

POOL = ["数学的问题在这里", "قطة صغيرة", "a cat on a mat", "a dog in the fog"]


@pytest.fixture
def write(tmp_path):
    def written(name, rows):
        path = tmp_path / name
        rows = [{"text": row} if isinstance(row, str) else row for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return written


def kinds(findings):
    return {finding.kind: finding.count for finding in findings}


def scored(tmp_path, texts, target=None, method="bm25"):
    pool = make_pool([{"text": text} for text in texts], tmp_path / "pool")
    wanted = None if target is None else make_pool(target, tmp_path / "target")
    return didact.score(pool, method, target=wanted), pool, wanted


@pytest.mark.parametrize(
    ("texts", "target"),
    [
        (POOL, [{"text": "slovo"}]),
        (["!!!", "😀😀", "？？"], [{"text": "a cat"}]),
        (["猫", "狗"], [{"text": "قطة"}]),
    ],
)
def test_scores_that_are_all_equal_are_said_to_be_no_choice(texts, target, tmp_path):
    scores, pool, wanted = scored(tmp_path, texts, target)
    assert list(about_target(pool, wanted, ["t.jsonl"])) == []
    (found,) = about_scores(scores)
    assert (found.kind, found.count) == ("all_equal", len(texts))
    assert "chosen by the order of the files" in found.text


def test_scores_that_differ_are_not(tmp_path):
    assert about_scores(scored(tmp_path, POOL, [{"text": "the cat"}])[0]) == ()
    assert about_scores(scored(tmp_path, POOL[:1], [{"text": "slovo"}])[0]) == ()


def test_target_rows_in_the_pool_are_counted_whatever_their_ids(tmp_path):
    _, pool, target = scored(tmp_path, POOL, [{"text": POOL[1], "id": "x"}, {"text": "cat"}])
    (found,) = about_target(pool, target, ["target.jsonl"])
    assert (found.kind, found.count) == ("target_in_pool", 1)
    assert found.first == "row 1 of the pool"
    assert found.remedy.startswith("data.exclude: [target.jsonl]")
    assert next(about_target(pool, target, [])).remedy == ""
    assert "[a, b, c, …]" in next(about_target(pool, target, list("abcd"))).remedy


def test_what_is_said_of_a_target_set_names_no_setting_of_the_pool_alone(tmp_path):
    rows = [[{"role": role, "content": "hi"}] for role in ("assistant", "assistant", "user")]
    pool = make_pool([{"text": text} for text in POOL], tmp_path / "pool")
    target = make_pool([{"messages": row} for row in rows], tmp_path / "t", dedup="none")
    assert [(found.text, found.remedy) for found in about_target(pool, target, [])] == [
        ("target set: 1 row has no turn of the assistant: nothing to learn", ""),
        ("target set: 1 row repeats an earlier row exactly, kept", ""),
    ]


def test_settings_around_a_selection_that_met_nothing_are_said(tmp_path):
    rows = [{"text": text, "source": f"s{i % 2}"} for i, text in enumerate(POOL)]
    scores, budget = [9.0, 0.0, 8.0, 0.0], Budget(samples=2)
    pool = make_pool(rows, tmp_path / "pool")
    given = didact.Scores(values=scores, higher_is_better=True, method="m",
                          pool_fingerprint=pool.fingerprint)  # fmt: skip
    chosen = didact.select(pool, given, "top_k", budget=budget, near_duplicates={},
                           quotas={"at_most": {"s0": 1.0, "s1": 0.5}})  # fmt: skip
    texts = [found.text for found in about_selection(chosen, pool)]
    assert texts == [
        "select.near_duplicates met nothing: 0 rows were refused",
        "select.quotas.at_most met nothing in 1 of its sources (s1): no row of them was chosen",
    ]
    twice = make_pool([*rows, {"text": POOL[0], "id": "again"}], tmp_path / "twice", dedup="none")
    given = didact.Scores(values=[*scores, 8.5], higher_is_better=True, method="m",
                          pool_fingerprint=twice.fingerprint)  # fmt: skip
    met = didact.select(twice, given, "top_k", budget=budget, near_duplicates={})
    assert (len(met.notes), about_selection(met, twice)) == (1, ())


def test_a_run_says_each_thing_once_everywhere(write, tmp_path):
    pool = write("pool.jsonl", [*POOL, " ", {"text": ""}, POOL[0]])
    config = {
        "data": {"path": str(pool), "on_bad_row": "skip",
                 "exclude": [str(write("held.jsonl", ["no such words"]))]},
        "score": {"method": "bm25",
                  "target": str(write("target.jsonl", [POOL[2], "\u200b", "\u2060", {"txt": "lost"}]))},
        "select": {"method": "top_k", "budget": {"samples": 2}},
    }  # fmt: skip
    done = didact.run(config, tmp_path / "out", cache_dir=tmp_path / "cache")
    by_stage = {stage.name: kinds(stage.findings) for stage in done.manifest.stages}
    assert by_stage["data"] == {
        "blank_text": 1, "rejected": 1, "duplicates": 1, "nothing_matched": 0,
    }  # fmt: skip
    assert by_stage["score"] == {"target_in_pool": 1, "blank_text": 2, "rejected_target": 1}
    assert read_manifest(tmp_path / "out").stages == done.manifest.stages
    shown = io.StringIO()
    with redirect_stdout(shown):
        printing.run_table(done)
    page = (tmp_path / "out" / "report.html").read_text()
    assert shown.getvalue().count(TITLE) == page.count(TITLE) == 1
    for stage in done.manifest.stages:
        for finding in stage.findings:
            assert shown.getvalue().count(finding.text) == 1
            assert page.count(finding.text.replace("'", "&#39;")) == 1
    again = didact.run(config, tmp_path / "out", cache_dir=tmp_path / "cache")
    assert again.manifest.without_measured() == done.manifest.without_measured()


def test_inspect_prints_the_block_where_there_is_something(write, tmp_path):
    for rows, block in ((POOL, False), ([*POOL, "\u200b"], True)):
        path = write(f"{block}.jsonl", rows)
        result = inspect_pool(didact.read(path, cache_dir=tmp_path / "cache"))
        json.dumps(result)
        shown = io.StringIO()
        with redirect_stdout(shown):
            printing.inspection_table(result)
        assert bool(result["findings"]) == (TITLE in shown.getvalue()) == block
