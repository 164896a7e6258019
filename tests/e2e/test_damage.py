"""Every file of the cache and of the run folder, harmed in every way: noticed, and mended."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import didact
from didact import pipeline
from didact.core.errors import DamagedError, DataError

WAYS = ("flip", "cut", "empty", "delete")


def config(folder: Path) -> dict[str, object]:
    return {
        "data": {
            "path": str(folder / "pool.jsonl"), "validation": 0.05, "on_bad_row": "skip",
            "exclude": [str(folder / "target.jsonl")], "exclude_ngram": 3, "batch_rows": 64,
        },
        "score": {"method": "bm25", "target": str(folder / "target.jsonl")},
        "select": {"method": "round_robin", "budget": {"samples": 60}, "near_duplicates": {}},
        "order": {"method": "shuffle", "score": {"method": "compression"}},
        "export": {"for": "trl", "shards": 2},
    }  # fmt: skip


def data_files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.parent.name != "stages"
        and p.name not in {"manifest.json", "report.html", ".lock"}
    }


def harm(path: Path, how: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "delete" or not data:
        path.unlink()
        return
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        data = data[: rng.randrange(len(data))]
    else:
        data = bytearray()
    path.write_bytes(data)


@pytest.fixture
def whole(chats, target, tmp_path):
    with chats.open("ab") as file:
        file.write(b'{"id": "bad", "messages": []}\n')
    assert chats.parent == target.parent == tmp_path
    run = didact.run(config(tmp_path), tmp_path / "out", cache_dir=tmp_path / "cache")
    names = {s.name: s.outputs for s in run.manifest.stages}
    assert {"rejected.jsonl", "excluded.jsonl"} <= set(names["data"])
    return tmp_path, data_files(tmp_path / "out"), run.manifest


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_every_file_of_the_run_folder(whole):
    folder, files, manifest = whole
    rng = random.Random(1)
    spare = folder / "spare"
    shutil.copytree(folder / "out", spare)
    for number, path in enumerate(files_of(folder / "out")):
        for how in (WAYS[number % 4], WAYS[(number + 1) % 4]):
            harm(path, how, rng)
            again = didact.run(config(folder), folder / "out", cache_dir=folder / "cache")
            assert data_files(folder / "out") == files, (path, how)
            assert again.manifest.without_measured() == manifest.without_measured(), (path, how)
            for name in ("flops", "tokens"):
                told = getattr(again.manifest.bill.value, name)
                assert told == getattr(manifest.bill.value, name)
            if path.name not in {"manifest.json", "manifest.checksum"}:  # written anew in any case
                assert again.changes, (path, how)
            assert path.exists(), (path, how)
            shutil.rmtree(folder / "out")
            shutil.copytree(spare, folder / "out")


def test_every_file_of_the_cache(whole):
    folder, files, _ = whole
    rng = random.Random(2)
    spare = folder / "spare"
    shutil.copytree(folder / "cache", spare)
    seen = set()
    for number, path in enumerate(files_of(folder / "cache")):
        how = WAYS[number % 4]
        harm(path, how, rng)
        shutil.rmtree(folder / "out")  # so that everything is asked of the cache
        again = didact.run(config(folder), folder / "out", cache_dir=folder / "cache")
        assert data_files(folder / "out") == files, (path, how)
        kind = path.relative_to(folder / "cache").parts[0]
        unread = how == "flip" and path.name == "records-00000.bin"  # of the target: nobody's rows
        assert again.changes or unread, (path, how)
        assert path.exists(), (path, how)
        seen.add(kind)
        shutil.rmtree(folder / "cache")
        shutil.copytree(spare, folder / "cache")
    assert seen == {"pools", "reads", "scores", "selections"}


@pytest.mark.parametrize(
    "name", ["pool-00000.arrow", "index.arrow", "records-00000.bin", "meta.json"]
)
def test_a_pool_that_is_open_is_not_read_where_it_was_harmed(name, chats, tmp_path):
    pool = didact.read(chats, cache_dir=tmp_path / "cache")
    path = pool.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=name):
        pool.read(range(len(pool)), ["id", "text", "n_bytes"])
        list(pool.records(range(len(pool))))
    again = didact.read(chats, cache_dir=tmp_path / "cache")  # its entry is void: made again
    assert len(list(again.records(range(len(again))))) == 300


def test_records_that_are_gone_are_not_exported_as_blank_lines(chats, tmp_path):
    pool = didact.read(chats, cache_dir=tmp_path / "cache")
    (pool.path / "records-00000.bin").write_bytes(b"")
    scores = didact.score(pool, "length")
    chosen = didact.select(pool, scores, "top_k", budget=didact.Budget(samples=9))
    order = didact.order(pool, chosen, scores, "sort")
    with pytest.raises(DamagedError, match="0 bytes where"):
        didact.export(pool, order, tmp_path / "out")
    assert not list((tmp_path / "out").glob("train*"))


def test_the_command_line_mends_and_says_so(chats, tmp_path):
    command = [
        sys.executable, "-m", "didact.cli", "score", str(chats), "--method", "compression",
        "-o", str(tmp_path / "s.parquet"), "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip

    def score() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stderr

    score()
    expected = (tmp_path / "s.parquet").read_bytes()
    shutil.rmtree(tmp_path / "cache" / "scores")
    (path,) = (tmp_path / "cache" / "pools").glob("*/pool-00000.arrow")
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1
    path.write_bytes(data)
    said = score()
    assert "pool-00000.arrow: is damaged" in said
    assert "bug" not in said
    assert (tmp_path / "s.parquet").read_bytes() == expected
    assert score() == ""


def test_after_a_power_cut_the_cache_is_used_or_made_again(whole):
    """Names without their bytes: what a disk that was not synced looks like afterwards."""
    folder, files, _ = whole
    for path in files_of(folder / "cache"):
        os.truncate(path, 0)
    shutil.rmtree(folder / "out")
    didact.run(config(folder), folder / "out", cache_dir=folder / "cache")
    assert data_files(folder / "out") == files


def test_a_report_is_not_written_from_a_table_that_was_changed(whole):
    folder, *_ = whole
    path = folder / "out" / "scores.parquet"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="was changed or removed since the run"):
        pipeline.report(folder / "out", folder / "r.html", cache_dir=folder / "cache")
    with pytest.raises(DataError, match="was changed or removed since the run"):
        pipeline.diff(folder / "out", folder / "out")


# -- power cuts ------------------------------------------------------------------------------------

RUN = """
import json, sys
import didact
from didact.core import atomic
if sys.argv[4] == "unsynced":
    atomic.os.fsync = lambda descriptor: None
print("begun", flush=True)
didact.run(json.loads(sys.argv[1]), sys.argv[2], cache_dir=sys.argv[3])
print("done", flush=True)
"""


@pytest.fixture
def disk(tmp_path):
    """An ext4 disk in a file, whose copies are what a power cut would have left on it."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(96 * 2**20)
    made = shutil.which("mkfs.ext4") and shutil.which("mount")
    # Nothing is written on its own for a minute: only what is synced is there.
    options = "loop,commit=60"
    if (
        not made
        or subprocess.run(["mkfs.ext4", "-q", image], check=False).returncode
        or (subprocess.run(["mount", "-o", options, image, place], check=False).returncode)
    ):
        pytest.skip("no right to mount a disk")
    yield image, place
    subprocess.run(["umount", str(place)], check=True)


def run_on(place: Path, folder: Path, how: str = "synced") -> subprocess.Popen[str]:
    command = [
        sys.executable, "-c", RUN, json.dumps(config(folder)), str(place / "out"),
        str(place / "cache"), how,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def after_a_cut(image: Path, folder: Path, name: str):
    """The disk as it would be found, mounted."""
    copy, place = folder / f"{name}.img", folder / name
    shutil.copyfile(image, copy)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", copy, place], check=True)
    return place


@pytest.mark.parametrize("how", ["synced", "unsynced"])
def test_what_is_done_survives_a_power_cut(disk, whole, how):
    image, place = disk
    folder, files, _ = whole
    with run_on(place, folder, how) as running:
        assert running.stdout is not None
        assert running.stdout.read() == "begun\ndone\n"
    found = after_a_cut(image, folder, "found")
    try:
        if how == "unsynced":  # the control: without syncing, the same look finds less
            assert data_files(found / "out") != files
            return
        assert data_files(found / "out") == files
        again = didact.run(config(folder), found / "out", cache_dir=found / "cache")
        assert all(stage.measured.reused for stage in again.manifest.stages)
        assert again.changes == ()
        shutil.rmtree(found / "out")
        again = didact.run(config(folder), found / "out", cache_dir=found / "cache")
        assert again.changes == ()  # nothing in the cache is damaged
        assert data_files(found / "out") == files
    finally:
        subprocess.run(["umount", str(found)], check=True)


def test_a_power_cut_in_the_middle_leaves_nothing_that_is_wrong(disk, whole):
    image, place = disk
    folder, files, _ = whole
    rng = random.Random(3)
    for number in range(4):
        shutil.rmtree(place / "out", ignore_errors=True)
        shutil.rmtree(place / "cache", ignore_errors=True)
        with run_on(place, folder) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(rng.random())
            found = after_a_cut(image, folder, f"found-{number}")
            running.kill()
        try:
            didact.run(config(folder), found / "out", cache_dir=found / "cache")
            assert data_files(found / "out") == files
        finally:
            subprocess.run(["umount", str(found)], check=True)


# -- what somebody else may have written -----------------------------------------------------------


def test_a_manifest_cannot_make_a_report_remove_a_folder(whole):
    folder, *_ = whole
    precious = folder / "precious"
    precious.mkdir()
    (precious / "mine.txt").write_text("mine")
    path = folder / "out" / "manifest.json"
    for name in (str(precious), "../../precious"):
        values = json.loads(path.read_text())
        for stage in values["stages"]:
            if stage["name"] == "data":
                stage["depends_on"]["pool"] = name
        path.write_text(json.dumps(values))
        (folder / "out" / "stages" / "manifest.checksum").unlink(missing_ok=True)
        with pytest.raises(DataError, match="is no pool's fingerprint"):
            pipeline.report(folder / "out", folder / "r.html", cache_dir=folder / "cache")
        assert (precious / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("stages", 0, "depends_on"), []), (("stages", 0, "outputs"), {"a": 7}),
        (("stages", 0, "measured", "own", "flops"), "many"), (("stages", 0, "counts"), "none"),
        (("stages", 0, "measured", "uses"), ["x"]), (("stages", 0, "facts"), None),
        (("stages", 0, "measured", "own", "tokens"), -7), (("config",), []), (("seed",), "x"),
        (("environment",), [1]), (("stages",), {}), (("inputs",), 3), (("stages",), []),
    ],
)  # fmt: skip
def test_a_manifest_of_somebody_else_gives_a_message(whole, place, value):
    folder, *_ = whole
    path = folder / "out" / "manifest.json"
    values = json.loads(path.read_text())
    inner = values
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path.write_text(json.dumps(values))
    (folder / "out" / "stages" / "manifest.checksum").unlink()
    with pytest.raises(didact.DidactError):
        pipeline.report(folder / "out", folder / "r.html", cache_dir=folder / "cache")


def test_what_is_spent_before_damage_is_met_is_charged(chats, tmp_path, monkeypatch):
    """The run mends itself: the same bytes and value, and all that was spent is on the bill."""
    from didact.core.cost import Cost
    from didact.stages import score

    config = {"data": {"path": str(chats)}, "score": {"method": "compression"}}
    didact.run(config, tmp_path / "whole", cache_dir=tmp_path / "a")
    work, tries = score.STAGE.work, []

    def spending(values, folder, ctx):
        ctx.meter.add(Cost(flops=5.0))
        tries.append(1)
        if len(tries) == 1:
            raise DamagedError(tmp_path / "x", "for the test")
        return work(values, folder, ctx)

    stages = tuple(replace(s, work=spending) if s.name == "score" else s for s in pipeline.STAGES)
    monkeypatch.setattr(pipeline, "STAGES", stages)
    done = didact.run(config, tmp_path / "mended", cache_dir=tmp_path / "b")
    bill = done.manifest.stage("score").measured.bill
    assert (bill.charged.flops, bill.value.flops) == (10.0, 5.0)
    assert data_files(tmp_path / "mended") == data_files(tmp_path / "whole")


def test_scores_that_differ_in_a_column_beside_them_are_other_scores(chats, tmp_path):
    from didact.core.array_folders import scores_identity

    pool = didact.read(chats, cache_dir=tmp_path / "cache")
    scores = didact.score(pool, "length")
    others = [
        replace(scores, parts={"grade": scores.values}),
        replace(scores, parts={"grade": -scores.values}),
        replace(scores, facts={"a": 1}),
        replace(scores, higher_is_better=False),
    ]
    assert len({scores_identity(s) for s in (scores, *others)}) == 5
