"""Run folders, tables and exports in a bucket: the bytes of a local run, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
import yaml

from didact import pipeline
from didact.core.errors import ConfigError, DataError

pytestmark = pytest.mark.s3
SECRETS = (b"AKIDOFTHETEST", b"secret-of-the-test", b"PASSWORT")


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))


def _config(tmp_path, chats, **more):
    return {
        "data": {"path": str(chats), "validation": 0.05},
        "score": {"method": "compression"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "order": {"method": "fold"},
        "export": {"for": "trl", "shards": 3},
        **more,
    }


def objects(s3, folder=""):
    """Name → bytes of every object in a folder of the bucket, past the proxy."""
    from pyarrow.fs import FileSelector, FileType

    base = f"{s3.url[5:]}/{folder}".rstrip("/")
    found = s3.filesystem.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
    return {
        info.path[len(base) + 1 :]: s3.filesystem.open_input_file(info.path).read()
        for info in found
        if info.type == FileType.File
    }


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in Path(folder).rglob("*") if p.is_file()}  # fmt: skip


def same_run(here, there):
    """Every file equal byte for byte, the manifest and records outside of what was measured."""
    assert set(here) - {".lock"} == set(there) - {"stages/.begun"}
    for name, data in here.items():
        if name.startswith("stages/") or name in {"manifest.json", ".lock", "report.html"}:
            continue
        assert there[name] == data, name
    a, b = (json.loads(x["manifest.json"]) for x in (here, there))
    for manifest in (a, b):
        manifest.pop("cost")
        for stage in manifest["stages"]:
            stage.pop("measured")
    assert a == b


def test_a_run_in_a_bucket_is_the_run_on_a_disk(s3, tmp_path, chats):
    config = _config(tmp_path, chats)
    pipeline.run(config, tmp_path / "run")
    done = pipeline.run(config, f"{s3.url.replace('s3://', 's3://AKIDOFTHETEST:PASSWORT@')}/run")
    assert str(done.folder) == f"s3://***@{s3.url[5:]}/run"
    here, there = files(tmp_path / "run"), objects(s3, "run")
    same_run(here, there)
    assert not [n for n, data in there.items() if any(secret in data for secret in SECRETS)]
    assert not list((tmp_path / "scratch").rglob("*.*"))  # nothing stays behind
    # again: nothing is done, and nothing written but the manifest
    s3.wire.seen.clear()
    again = pipeline.run(config, f"{s3.url}/run")
    assert all(stage.measured.reused for stage in again.manifest.stages)
    written = {
        path.partition("?")[0].rpartition("/")[2] for m, path, _ in s3.wire.seen if m == "PUT"
    }
    assert written - {""} == {".lock", "manifest.json", "manifest.checksum"}
    same_run(here, objects(s3, "run"))
    # read back from there
    assert pipeline.diff(tmp_path / "run", f"{s3.url}/run")["order"]["equal"]
    pipeline.report(f"{s3.url}/run", f"{s3.url}/page.html")
    assert b"<html" in objects(s3)["page.html"]


def _started(s3, config, out, tmp_path, scratch="scratch"):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "didact.cli", "run", str(tmp_path / "run.yaml"), "-o", out]
    env = {**os.environ, "DIDACT_SCRATCH": str(tmp_path / scratch)}
    with (tmp_path / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=env)


def _until(s3, what, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if any(what in path for method, path, _ in s3.wire.seen if method == "PUT"):
            return
        time.sleep(0.02)
    pytest.fail(f"no {what}")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_killed_in_the_middle_of_an_upload_and_started_again(s3, stores, tmp_path, chats):
    config = _config(tmp_path, chats)
    pipeline.run(config, tmp_path / "run")
    s3.wire.faults.append(stores.Fault("PUT", "train-00001-of-00003", seconds=20))
    process = _started(s3, config, f"{s3.url}/run", tmp_path)
    _until(s3, "train-00001-of-00003", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = objects(s3, "run")
    assert "train-00000-of-00003.jsonl" in left
    assert not {"train-00001-of-00003.jsonl", "manifest.json", "stages/export.json"} & set(left)
    with pytest.raises(DataError, match="did not finish"):
        pipeline.diff(f"{s3.url}/run", tmp_path / "run")
    s3.wire.faults.clear()
    s3.wire.seen.clear()
    done = pipeline.run(config, f"{s3.url}/run")  # at once: its process is gone
    assert {s.name: s.measured.reused for s in done.manifest.stages}["score"]
    assert not [p for m, p, _ in s3.wire.seen if m == "PUT" and "scores.parquet" in p]
    same_run(files(tmp_path / "run"), objects(s3, "run"))


def test_faults_while_writing_end_in_the_same_bytes(s3, stores, tmp_path, chats):
    config = _config(tmp_path, chats)
    pipeline.run(config, tmp_path / "run")
    s3.wire.faults += [
        stores.Fault("PUT", "scores.parquet", status=500, times=2),
        stores.Fault("POST", "scores.parquet", status=503, times=2),
        stores.Fault("PUT", "train-00002", cut=0),
        stores.Fault("POST", "train-00000", cut=10, after=1),  # the answer of the last request
        stores.Fault("PUT", "selection.parquet", seconds=1),
        stores.Fault("HEAD", "order.parquet", status=500),
        stores.Fault("PUT", "manifest.json", status=500),
        stores.Fault("DELETE", "run", status=500),
    ]
    pipeline.run(config, f"{s3.url}/run")
    same_run(files(tmp_path / "run"), objects(s3, "run"))


def test_a_store_that_stays_down_is_one_sentence_and_no_finished_run(s3, stores, tmp_path, chats):
    config = _config(tmp_path, chats)
    for method in ("PUT", "POST"):
        s3.wire.faults.append(stores.Fault(method, "order.parquet", status=503, times=10**6))
    with pytest.raises(DataError, match=r"order.parquet: cannot be written after \d tries .*again"):
        pipeline.run(config, f"{s3.url}/run")
    assert "manifest.json" not in objects(s3, "run")
    s3.wire.faults.clear()
    pipeline.run(config, tmp_path / "run")
    pipeline.run(config, f"{s3.url}/run")
    same_run(files(tmp_path / "run"), objects(s3, "run"))


def test_folders_of_others_are_refused(s3, tmp_path, chats):
    config = _config(tmp_path, chats)
    s3.put("data/mine.txt", b"mine")
    with pytest.raises(ConfigError, match="not empty and not a run folder .*'mine.txt'"):
        pipeline.run(config, f"{s3.url}/data")
    with pytest.raises(ConfigError, match="is a file; choose a folder"):
        pipeline.run(config, f"{s3.url}/data/mine.txt")
    with pytest.raises(DataError, match="no-bucket.*there is no such bucket"):
        pipeline.run(config, "s3://no-bucket-of-mine/run")
    assert set(objects(s3)) == {"data/mine.txt"}
    claim = {"token": "x", "user": "u", "host": "elsewhere", "pid": 7, "renewed": time.time()}
    s3.put("run/.lock", orjson.dumps(claim))
    with pytest.raises(ConfigError, match="in use by another run .process 7 of u on elsewhere"):
        pipeline.run(config, f"{s3.url}/run")
    assert set(objects(s3, "run")) == {".lock"}


def test_every_command_reads_and_writes_buckets(s3, tmp_path, chats, warm_didact):
    """Pool, cache and outputs are in buckets; on the disk the same commands give the same."""
    url = s3.put("pool.jsonl", chats.read_bytes()).rpartition("/")[0]
    there = {**os.environ, "DIDACT_CACHE": f"{url}/cache"}

    def didact(environment, *words, code=0):
        done = subprocess.run(
            [*warm_didact, *map(str, words)], capture_output=True, text=True, check=False,
            env=environment, stdin=subprocess.DEVNULL, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    def both(*words):
        for environment, at in ((os.environ, str(tmp_path)), (there, url)):
            didact(environment, *(str(word).replace("@", at) for word in words))

    both("score", "@/pool.jsonl", "--method", "compression", "-o", "@/scores.parquet")
    both(
        "select", "@/pool.jsonl", "--scores", "@/scores.parquet", "--method", "top_k",
        "--budget", "ratio=0.4", "-o", "@/chosen",
    )  # fmt: skip
    both(
        "order", "@/chosen", "--scores", "@/scores.parquet", "--method", "fold",
        "-o", "@/order.parquet",
    )  # fmt: skip
    shards = ("--for", "trl", "--set", "shards=2")
    both("export", "@/pool.jsonl", "--order", "@/order.parquet", *shards, "-o", "@/exported")
    both("dedup", "@/pool.jsonl", "-o", "@/distinct")
    found = objects(s3)
    here = files(tmp_path)
    names = {name for name in found if not name.startswith("cache/")} - {"pool.jsonl"}
    assert {"scores.parquet", "chosen/selection.parquet", "exported/train-00001-of-00002.jsonl",
            "distinct/clusters.html"} <= names  # fmt: skip
    for name in names:
        assert found[name] == here[name], name
    assert any(name.startswith("cache/pools/") for name in found)
    # again with fewer shards: the old one goes; what is somebody's own stays, and is said
    didact(there, "export", f"{url}/pool.jsonl", "--order", f"{url}/order.parquet",
           "-o", f"{url}/exported")  # fmt: skip
    assert {n for n in objects(s3, "exported") if n.startswith("train")} == {"train.jsonl"}
    s3.put("own/train.jsonl", b"{}\n")
    done = didact(there, "export", f"{url}/pool.jsonl", "--order", f"{url}/order.parquet",
                  "-o", f"{url}/own", code=1)  # fmt: skip
    assert "is no file of an earlier export here" in done.stderr
    assert objects(s3, "own") == {"train.jsonl": b"{}\n"}
    s3.put("own/scores.parquet", b"mine")
    done = didact(there, "score", f"{url}/pool.jsonl", "--method", "length", "-o",
                  f"{url}/own/scores.parquet", code=1)  # fmt: skip
    assert "exists and is no table of didact's" in done.stderr
    log = s3.put("log.jsonl", b"".join(
        orjson.dumps({"step": i + 1, "positions": [i]}) + b"\n" for i in range(120)
    ))  # fmt: skip
    done = didact(there, "verify-order", log, f"{url}/order.parquet", "--json")
    assert json.loads(done.stdout)["verdict"] == "in order"
    listing = json.loads(didact(there, "cache", "ls", "--json").stdout)
    assert {"pools", "scores", "selections"} <= {kind["kind"] for kind in listing["kinds"]}
    didact(there, "cache", "clear")
    assert not [name for name in objects(s3, "cache") if not name.endswith("/")]


@pytest.mark.parametrize(
    ("words", "code", "found"),
    [
        ("law @/law.csv -o @/out", 5, {"law.json", "law.html"}),
        ("evaluate --runs @/runs.csv", 0, set()),
    ],
)  # fmt: skip
def test_what_is_told_of_runs_in_buckets(s3, tmp_path, warm_didact, words, code, found):
    law = "run,ratio,first_epoch_loss,performance\n" + "".join(
        f"s{i},{1 + i / 10},{2 + i % 4 / 10},{-0.5 - i % 3 / 10}\n" for i in range(9)
    )
    runs = "run,set,metric,value\n" + "".join(
        f"{s}{i},{s},loss,{ord(s) - 95 + i / 100}\n" for s in "ab" for i in range(3)
    )
    for name, text in (("law.csv", law), ("runs.csv", runs)):
        (tmp_path / name).write_text(text)
        s3.put(name, text.encode())
    said = []
    for at in (str(tmp_path), s3.url):
        done = subprocess.run(
            [*warm_didact, *words.replace("@", at).split()], capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        said.append(done.stdout.replace(at, "@"))
    assert said[0] == said[1]
    assert set(objects(s3, "out")) == found
