"""The main job through the run folder: the same from Python, CLI and single verbs; resume; kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

import didact
from didact import Budget, pipeline
from didact.core.errors import BudgetError, ConfigError, DataError, PoolMismatchError
from didact.core.protocols import Progress
from didact.data import tables
from didact.runs.folder import read_manifest

DATA_FILES = (
    "scores.parquet",
    "selection.parquet",
    "order.parquet",
    "train.jsonl",
    "validation.jsonl",
)


def config(pool: Path, target: Path, **change: object) -> dict[str, object]:
    return {
        "seed": 5,
        "data": {"path": str(pool), "validation": 0.05},
        "score": {"method": "bm25", "target": str(target)},
        "select": {"method": "round_robin", "budget": {"ratio": 0.4}, "quotas": {"at_most": 0.5}},
        "order": {"method": "fold", "layers": 3, "epochs": 2, "jitter": 12, "batch_size": 8},
        "export": {"for": "trl"},
        **change,
    }


def files(folder: Path) -> dict[str, bytes]:
    return {n: (folder / n).read_bytes() for n in DATA_FILES if (folder / n).exists()}


def reused(run: pipeline.Run) -> list[str]:
    return [s.name for s in run.manifest.stages if s.measured.reused and s.name != "data"]


def test_the_exported_rows_are_the_users_rows_in_order(chats, target, tmp_path):
    run = didact.run(config(chats, target), tmp_path / "out")
    originals = dict(
        zip((f"row-{i}" for i in range(300)), chats.read_bytes().splitlines(), strict=True)
    )
    order = pq.read_table(run.folder / "order.parquet")
    lines = (run.folder / "train.jsonl").read_bytes().splitlines()
    assert lines == [originals[i] for i in order.column("id").to_pylist()]
    assert order.column("position").to_pylist() == list(range(len(lines)))
    chosen = pq.read_table(run.folder / "selection.parquet")
    assert chosen.column_names == ["row", "id", "rank", "score", "why"]
    assert len(lines) == 2 * len(chosen) == 2 * int(0.4 * 300)
    held = {
        orjson.loads(x)["id"] for x in (run.folder / "validation.jsonl").read_bytes().splitlines()
    }
    assert len(held) >= 14
    assert not held & set(order.column("id").to_pylist())
    contents = {orjson.dumps(orjson.loads(originals[i])["messages"]) for i in held}
    assert not contents & {orjson.dumps(orjson.loads(x)["messages"]) for x in lines}


def test_config_python_and_verbs_give_the_same_bytes(chats, target, tmp_path, warm_didact):
    plain = config(chats, target)
    plain["data"] = {"path": str(chats)}
    plain["order"] = {"method": "fold", "layers": 3}
    run = didact.run(plain, tmp_path / "run")

    pool = didact.read(chats)
    scores = didact.score(pool, "bm25", target=didact.read(target))
    ctx = didact.context(seed=5)
    chosen = didact.select(
        pool, scores, "round_robin", budget=Budget(ratio=0.4), quotas={"at_most": 0.5}, ctx=ctx
    )
    ordered = didact.order(pool, chosen, scores, "fold", layers=3, ctx=ctx)
    didact.export(pool, ordered, tmp_path / "python")

    def verb(*words: object) -> None:
        command = [*warm_didact, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    verb("score", chats, "--method", "bm25", "--target", target, "--seed", 5, "-o", "s.parquet")
    verb("select", chats, "--scores", "s.parquet", "--method", "round_robin", "--budget", "ratio=0.4",
         "--set", "quotas.at_most=0.5", "--seed", 5, "-o", "chosen")  # fmt: skip
    verb("order", "chosen", "--scores", "s.parquet", "--method", "fold", "--set", "layers=3",
         "--seed", 5, "-o", "order.parquet")  # fmt: skip
    verb("export", chats, "--order", "order.parquet", "--for", "trl", "-o", "verbs")
    expected = (run.folder / "train.jsonl").read_bytes()
    assert (tmp_path / "python" / "train.jsonl").read_bytes() == expected
    assert (tmp_path / "verbs" / "train.jsonl").read_bytes() == expected
    for name, path in (("scores", "s.parquet"), ("selection", "chosen/selection.parquet")):
        mine, theirs = pq.read_table(run.folder / f"{name}.parquet"), pq.read_table(tmp_path / path)
        assert mine.equals(theirs)


def test_two_runs_are_equal_outside_measured_whatever_the_workers(chats, target, tmp_path):
    a = didact.run(config(chats, target), tmp_path / "a", workers=1)
    b = didact.run(
        config(chats, target), tmp_path / "b", workers=7, cache_dir=tmp_path / "another cache"
    )
    assert a.manifest.without_measured() == b.manifest.without_measured()
    assert files(a.folder) == files(b.folder)
    assert "measured" not in json.dumps(a.manifest.without_measured())


def test_a_relaunch_skips_what_is_there(chats, target, tmp_path):
    first = didact.run(config(chats, target), tmp_path / "out")
    stamps = {p: p.stat().st_mtime_ns for p in first.folder.glob("*.parquet")}
    again = didact.run(config(chats, target), tmp_path / "out")
    assert reused(again) == ["score", "select", "order", "export", "report"]
    assert again.changes == ()
    assert {p: p.stat().st_mtime_ns for p in first.folder.glob("*.parquet")} == stamps
    assert again.manifest.without_measured() == first.manifest.without_measured()


@pytest.mark.parametrize(
    ("change", "kept", "said"),
    [
        ({"order": {"method": "fold", "layers": 4}}, ["score", "select"], "order.layers changed from 3 to 4"),
        ({"select": {"method": "top_k", "budget": {"samples": 9}}}, ["score"],
         "select.method changed from 'round_robin' to 'top_k'"),
        ({"export": {"shards": 2}}, ["score", "select", "order"], "export.shards changed from 1 to 2"),
        ({"report": {"samples": False}}, ["score", "select", "order", "export"],
         "report.samples changed from True to False"),
        ({"seed": 6}, [], "seed changed from 5 to 6"),
    ],
)  # fmt: skip
def test_a_changed_setting_reruns_what_depends_on_it_and_says_so(
    chats, target, tmp_path, change, kept, said
):
    didact.run(config(chats, target), tmp_path / "out")
    changed = didact.run(config(chats, target, **change), tmp_path / "out")
    assert reused(changed) == kept
    assert any(said in line for line in changed.changes), changed.changes
    fresh = didact.run(config(chats, target, **change), tmp_path / "fresh")
    assert files(changed.folder) == files(fresh.folder)
    listed = {name for stage in changed.manifest.stages for name in stage.outputs}
    there = {
        str(p.relative_to(changed.folder))
        for p in changed.folder.rglob("*")
        if p.is_file() and p.parent.name != "stages" and p.name not in {"manifest.json", ".lock"}
    }
    assert there == listed, "files of the earlier run are left, or listed files are missing"


def test_a_changed_row_of_the_pool_reruns_everything(chats, target, tmp_path):
    didact.run(config(chats, target), tmp_path / "out")
    chats.write_bytes(chats.read_bytes().replace(b'"score":0.37', b'"score":0.38'))
    again = didact.run(config(chats, target), tmp_path / "out")
    assert reused(again) == []  # even the scores: the pool is another one


def test_a_damaged_output_is_made_again(chats, target, tmp_path):
    run = didact.run(config(chats, target), tmp_path / "out")
    before = files(run.folder)
    (run.folder / "train.jsonl").write_bytes(b"{}\n")
    again = didact.run(config(chats, target), tmp_path / "out")
    assert files(run.folder) == before
    assert any("train.jsonl was changed or removed" in line for line in again.changes)


def test_a_change_that_was_interrupted_leaves_no_file_of_before(
    chats, target, tmp_path, monkeypatch
):
    """Four shards, then two, stopped inside the export, then two again: two shards are there."""
    four = config(chats, target, export={"shards": 4})
    two = config(chats, target, export={"shards": 2})
    didact.run(four, tmp_path / "out")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("didact.stages.export.write_data_set", stop)
        didact.run(two, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    again = didact.run(two, tmp_path / "out")
    assert sorted(p.name for p in again.folder.glob("train*.jsonl")) == [
        "train-00000-of-00002.jsonl",
        "train-00001-of-00002.jsonl",
    ]
    assert any("export.shards changed from 4 to 2" in line for line in again.changes)


def test_where_a_file_lies_changes_the_report_and_nothing_else(chats, target, tmp_path):
    didact.run(config(chats, target), tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = config(elsewhere / "pool.jsonl", elsewhere / "target.jsonl")
    (elsewhere / "pool.jsonl").write_bytes(chats.read_bytes())
    (elsewhere / "target.jsonl").write_bytes(target.read_bytes())
    again = didact.run(moved, tmp_path / "out")
    assert reused(again) == ["score", "select", "order", "export"]
    assert "elsewhere" in (again.folder / "report.html").read_text()
    roles = {Path(i["path"]).name: i.get("role", "pool") for i in again.manifest.inputs}
    assert roles == {"pool.jsonl": "pool", "target.jsonl": "target"}


def test_a_report_stays_without_samples(chats, target, tmp_path):
    run = didact.run(config(chats, target, report={"samples": False}), tmp_path / "out")
    pipeline.report(run.folder, run.folder / "report.html")
    assert "question " not in (run.folder / "report.html").read_text()
    pipeline.report(run.folder, tmp_path / "mine.html", samples=True, cache_dir=tmp_path / "empty")
    assert "question " in (tmp_path / "mine.html").read_text()


def test_a_missing_target_is_said_before_anything_is_read(chats, tmp_path):
    plain = {"data": {"path": str(chats)}, "score": {"method": "bm25"}}
    with pytest.raises(ConfigError, match="needs a target set"):
        didact.run(plain, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"method": "zip", "k3": 500}, "expected k1 ≥ k2 ≥ k3"),
        ({"method": "zip", "mode": "released"}, "more than the 300 candidates"),
        ({"method": "zip", "mode": "released", "k1": 90, "quotas": {"at_most": 0.5}, "k2": 20,
          "k3": 10}, "quotas with mode=released"),
    ],
)  # fmt: skip
def test_what_a_selector_cannot_do_is_said_before_scoring(select, message, chats, target, tmp_path):
    wrong = config(chats, target, select={**select, "budget": {"samples": 20}})
    with pytest.raises(ConfigError, match=message):
        didact.run(wrong, tmp_path / "out")
    assert not (tmp_path / "out" / "scores.parquet").exists()
    with pytest.raises(ConfigError, match=message):
        pipeline.plan(didact.config.parse(wrong), pipeline.context(cache_dir=tmp_path / "cache"))


@pytest.mark.parametrize("method", ["zip", "feature_based", "shingle_novelty"])
def test_a_set_that_repeats_little_needs_no_score(method, chats, tmp_path):
    part = {"method": method, "budget": {"ratio": 0.2}, "near_duplicates": {}}
    plan = {"data": {"path": str(chats)}, "select": part, "order": {"method": "shuffle"}}
    run = didact.run(plan, tmp_path / "out")
    chosen = tables.read_selection(run.folder)
    assert 0 < len(chosen) <= 60
    stage = next(s for s in run.manifest.stages if s.name == "select")
    assert stage.estimated.cpu_seconds > 0
    assert stage.depends_on["method"]["libraries"]["rensa"]
    assert (run.folder / "report.html").exists()
    assert not (run.folder / ".work").exists()
    assert reused(didact.run(plan, tmp_path / "out")) == ["select", "order", "export", "report"]


def test_everything_keeps_the_copy_that_has_a_score(tmp_path):
    path = tmp_path / "pool.jsonl"
    rows = [
        {"id": "a", "text": "same"},
        {"id": "b", "text": "same", "grade": 2},
        {"id": "c", "text": "x", "grade": 1},
    ]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    column = {"method": "column", "name": "grade", "prefer": "higher"}
    run = didact.run({"data": {"path": str(path)}, "score": column}, tmp_path / "out")
    assert pq.read_table(run.folder / "selection.parquet").column("id").to_pylist() == ["b", "c"]


def test_methods_of_ones_own(chats, tmp_path):
    """A class or a function is as good as a name."""
    from didact.scoring.length import Length
    from didact.selection.top_k import top_k

    pool = didact.read(chats)
    by_name = didact.score(pool, "length", unit="bytes")
    by_class = didact.score(pool, Length, unit="bytes")
    assert by_class.method == "length"
    assert np.array_equal(by_name.values, by_class.values)
    chosen = didact.select(pool, by_class, top_k, budget=Budget(samples=3))
    assert (
        chosen.rows.tolist()
        == didact.select(pool, by_name, "top_k", budget=Budget(samples=3)).rows.tolist()
    )


KILLER = """
import os, signal
import didact.core.atomic as atomic
left = int(os.environ["LEFT"])
def countdown():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("replace", "rename"):
    def wrapped(self, target, _real=getattr(atomic.Path, name)):
        countdown()            # killed just before the name appears …
        out = _real(self, target)
        countdown()            # … or just after
        return out
    setattr(atomic.Path, name, wrapped)
real_replace = os.replace
def replaced(a, b):
    countdown(); real_replace(a, b); countdown()
os.replace = replaced
"""


@pytest.mark.slow
def test_killed_at_every_commit_and_started_again_gives_the_same_bytes(
    chats, target, tmp_path, warm_didact
):
    plain = config(chats, target)
    (tmp_path / "run.yaml").write_text(json.dumps(plain))
    whole = didact.run(plain, tmp_path / "whole", cache_dir=tmp_path / "cache 0")
    moments, kill = 0, 1
    while True:
        out, cache = tmp_path / f"out {kill}", tmp_path / f"cache {kill}"
        command = ["run", str(tmp_path / "run.yaml"), "-o", str(out), "--cache-dir", str(cache)]
        killed = subprocess.run(
            [*warm_didact, *command], capture_output=True, check=False,
            env={**os.environ, "WARM_FIRST": KILLER, "LEFT": str(kill)},
        )  # fmt: skip
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "manifest.json").exists() or read_manifest(out)
        again = didact.run(plain, out, cache_dir=cache)
        assert files(out) == files(whole.folder)
        assert again.manifest.without_measured() == whole.manifest.without_measured()
        assert not list(out.rglob("*.tmp"))
        moments, kill = moments + 1, kill + 3  # every third commit: before and after alternate
    assert moments >= 8


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.4, 0.6, 0.8, 1.0])
def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(real_data, tmp_path, seconds):
    plain = {
        "data": {"path": str(real_data / "text_pool.jsonl.zst"), "batch_rows": 64},
        "score": {"method": "compression", "codec": "zlib"},
        "select": {"method": "top_k", "budget": {"ratio": 0.2}},
        "order": {"method": "fold"},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(plain))
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = [
        sys.executable,
        "-m",
        "didact.cli",
        "run",
        str(tmp_path / "run.yaml"),
        "-o",
        str(out),
    ]
    child = subprocess.Popen([*command, "--cache-dir", str(cache)], stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    again = didact.run(plain, out, cache_dir=cache)
    whole = didact.run(plain, tmp_path / "whole", cache_dir=tmp_path / "other cache")
    assert files(out) == files(whole.folder)
    assert again.manifest.without_measured() == whole.manifest.without_measured()


def test_a_long_scoring_goes_on_shard_by_shard(real_data, tmp_path):
    """Shards that are there are read, not computed: their content shows in the result."""
    pool = didact.read(
        real_data / "instruct_small.jsonl.zst", batch_rows=16, cache_dir=tmp_path / "cache"
    )
    cache = tmp_path / "cache"
    whole = didact.score(pool, "compression", ctx=didact.context(cache_dir=tmp_path / "another"))

    def killed(step: Progress) -> None:
        if step.stage == "score" and step.done > step.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        didact.score(pool, "compression", ctx=didact.context(cache_dir=cache, progress=killed))
    shards = sorted(cache.glob("unfinished/scores-*/*/arrays.npz"))
    assert len(shards) > 2
    stamps = {s: s.stat().st_mtime_ns for s in shards}
    seen: list[int] = []

    def look(step: Progress) -> None:
        if step.stage == "score":
            seen.append(step.done)
            there = {s: s.stat().st_mtime_ns for s in shards if s.exists()}
            assert there == stamps  # none is written again

    again = didact.score(pool, "compression", ctx=didact.context(cache_dir=cache, progress=look))
    assert len(seen) > len(shards)
    assert np.array_equal(whole.values, again.values)
    assert not list(cache.glob("unfinished/*"))


def test_a_folder_of_something_else_is_left_alone(chats, target, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match="not empty and not a run folder"):
        didact.run(config(chats, target), tmp_path / "mine")
    assert (tmp_path / "mine" / "train.jsonl").read_text() == "precious"


def test_two_runs_in_one_folder_at_once_are_refused(chats, target, tmp_path):
    from didact.runs.folder import open_run_folder

    with (
        open_run_folder(tmp_path / "out"),
        pytest.raises(ConfigError, match="in use by another run"),
    ):
        didact.run(config(chats, target), tmp_path / "out")


def test_an_unfinished_run_has_no_manifest(tmp_path):
    (tmp_path / "stages").mkdir()
    with pytest.raises(DataError, match="did not finish; run the same command again"):
        read_manifest(tmp_path)


def test_scores_of_another_pool_are_refused(chats, tmp_path):
    pool = didact.read(chats)
    scores = didact.score(pool, "length")
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\n".join(chats.read_bytes().splitlines()[:50]) + b"\n")
    with pytest.raises(PoolMismatchError, match=r"scores belong to pool .*re-run 'didact score'"):
        didact.select(didact.read(other), scores, "top_k", budget=Budget(samples=3))
    with pytest.raises(BudgetError, match=r"301"):
        didact.select(pool, scores, "top_k", budget=Budget(samples=301))


def test_without_scores_selection_or_order_everything_is_exported(chats, tmp_path):
    run = didact.run({"data": {"path": str(chats)}}, tmp_path / "out")
    lines = (run.folder / "train.jsonl").read_bytes().splitlines()
    unique = [x for i, x in enumerate(chats.read_bytes().splitlines()) if i % 10 != 9]
    assert lines == unique
    all_rows = didact.run({"data": {"path": str(chats), "dedup": "none"}}, tmp_path / "all")
    assert (all_rows.folder / "train.jsonl").read_bytes() == chats.read_bytes()


def test_combined_scores_and_an_order_of_its_own(chats, target, tmp_path):
    parts = [{"method": "bm25", "target": str(target)}, {"method": "length"}]
    run = didact.run(
        config(
            chats, target,
            score={"combine": "rank_mean", "of": parts, "weights": [3, 1]},
            select={"method": "top_k", "budget": {"samples": 40}},
            order={"method": "sort", "score": {"method": "column", "name": "meta.score", "prefer": "higher"}},
        ),
        tmp_path / "out",
    )  # fmt: skip
    lines = [orjson.loads(x) for x in (run.folder / "train.jsonl").read_bytes().splitlines()]
    graded = [x["meta"]["score"] for x in lines]
    assert graded == sorted(graded)
    scores = tables.read_scores(run.folder / "scores.parquet")
    assert set(scores.parts) == {"bm25", "length"}


def test_held_out_text_is_excluded_counted_and_listed(chats, target, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    rows = [orjson.loads(x) for x in chats.read_bytes().splitlines()]
    long = [i for i, r in enumerate(rows) if len(r["messages"][0]["content"].split()) >= 15]
    text = rows[long[0]]["messages"][0]["content"].upper()
    held_out.write_bytes(orjson.dumps({"text": f"before it {text}!"}) + b"\n")
    plain = config(chats, target)
    plain["data"] = {"path": str(chats), "exclude": [str(held_out)]}
    run = didact.run(plain, tmp_path / "out")
    listed = [orjson.loads(x) for x in (run.folder / "excluded.jsonl").read_bytes().splitlines()]
    assert f"row-{long[0]}" in [x["id"] for x in listed]
    counts = run.manifest.stage("data").counts
    assert counts["excluded"] == len(listed) == 300 - counts["kept"]
    chosen = pq.read_table(run.folder / "order.parquet").column("id").to_pylist()
    assert not set(chosen) & {x["id"] for x in listed}
    assert any("excluded.jsonl" in f.text for f in run.manifest.stage("data").findings)


def test_bad_rows_are_skipped_and_listed(chats, target, tmp_path):
    lines = chats.read_bytes().splitlines()
    lines[7] = b'{"id": "row-7", "messages": []}'
    chats.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(DataError, match=r"row 8: messages is empty"):
        didact.run(config(chats, target), tmp_path / "out")
    plain = config(chats, target)
    plain["data"] = {"path": str(chats), "on_bad_row": "skip"}
    run = didact.run(plain, tmp_path / "out")
    (rejected,) = [
        orjson.loads(x) for x in (run.folder / "rejected.jsonl").read_bytes().splitlines()
    ]
    assert rejected["row"] == 8
    assert rejected["raw"] == lines[7].decode()
    assert run.manifest.stage("data").counts["rejected"] == 1


def test_chunks_are_exported_with_parent_and_offsets(tmp_path):
    text = "One sentence here. " * 40
    path = tmp_path / "long.jsonl"
    path.write_bytes(orjson.dumps({"id": "a", "text": text, "lang": "en"}) + b"\n")
    run = didact.run(
        {
            "data": {
                "path": str(path),
                "unit": "chunk",
                "chunk": {"max_tokens": 30},
                "dedup": "none",
            }
        },
        tmp_path / "out",
    )
    rows = [orjson.loads(x) for x in (run.folder / "train.jsonl").read_bytes().splitlines()]
    assert "".join(r["text"] for r in rows) == text
    assert all(r["parent"] == "a" and text[r["start"] : r["end"]] == r["text"] for r in rows)
    assert {r["lang"] for r in rows} == {"en"}


@pytest.mark.parametrize("ending", ["", "The end. " * 9])
def test_chunks_of_a_validation_document_are_never_chosen(tmp_path, ending):
    path = tmp_path / "long.jsonl"
    rows = [{"id": f"d{i}", "text": f"Document {i} says this. " * 30 + ending} for i in range(20)]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    data = {"path": str(path), "unit": "chunk", "chunk": {"max_tokens": 24}, "validation": 0.2}
    run = didact.run({"data": data}, tmp_path / "out")

    def read(name: str, key: str) -> set[str]:
        return {orjson.loads(x)[key] for x in (run.folder / name).read_bytes().splitlines()}

    assert read("validation.jsonl", "id")
    # a common ending that is set aside with one document is set aside with all
    for key in ("id", "text") if ending else ("id", "text", "parent"):
        assert not read("validation.jsonl", key) & read("train.jsonl", key)


def test_a_file_changed_behind_its_times_is_read_again(chats, target, tmp_path):
    didact.run(config(chats, target), tmp_path / "out")
    times = chats.stat()
    chats.write_bytes(chats.read_bytes().replace(b"apple", b"grape"))
    os.utime(chats, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = didact.run(config(chats, target), tmp_path / "out")
    fresh = didact.run(config(chats, target), tmp_path / "fresh", cache_dir=tmp_path / "new cache")
    assert files(again.folder) == files(fresh.folder)
