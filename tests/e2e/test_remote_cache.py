"""A cache in a bucket: shared by machines, read in ranges, whole or not at all."""

import pickle
import signal
import subprocess
import sys
import time
from random import Random

import numpy as np
import orjson
import pytest
import zstandard

import didact
from didact import pipeline
from didact.core import cache
from didact.core.entries import open_entry
from didact.core.errors import DataError
from didact.core.paths import place
from didact.execution.executors import Workers

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))


def _elsewhere(tmp_path, monkeypatch):
    """Another machine: nothing in its scratch."""
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "elsewhere"))


def test_a_pool_in_a_bucket_is_the_pool_on_a_disk(s3, tmp_path, chats):
    here = didact.read(chats, batch_rows=64, cache_dir=tmp_path / "cache")
    there = didact.read(chats, batch_rows=64, cache_dir=f"{s3.url}/cache")
    assert there.fingerprint == here.fingerprint
    assert str(there.path).startswith(s3.url)
    there = pickle.loads(pickle.dumps(there))  # noqa: S301 - the test's own
    every = range(len(here))
    for columns in (["id"], ["text", "messages"], ["record", "source"]):
        assert there.read(every, columns).equals(here.read(every, columns))
    rows = np.random.default_rng(0).permutation(len(here))[:150]
    for columns in (["id", "text"], ["record"]):
        assert there.read(rows, columns).equals(here.read(rows, columns))


@pytest.mark.parametrize("compressed", [False, True])
def test_machines_that_share_nothing_but_the_bucket_read_into_it(
    s3, tmp_path, monkeypatch, compressed
):
    """No file of the store is on this machine: workers put it there, and it is moved there."""
    rows = [
        b"not json " * 12
        if i % 300 < 2 or 700 < i < 1500
        else orjson.dumps({"id": f"r{i % 2900}", "text": Random(i % 2800).randbytes(75).hex()})
        for i in range(3000)
    ]
    data = b"\n".join(rows)
    pool = tmp_path / f"pool.jsonl{'.zst' if compressed else ''}"
    pool.write_bytes(zstandard.compress(data) if compressed else data)
    settings = {"shard_bytes": 40_000, "on_bad_row": "skip"}
    expected = didact.read(pool, cache_dir=tmp_path / "cache", **settings)
    shards = len(list(expected.path.glob("pool-*.arrow")))
    assert shards > 5
    monkeypatch.setattr("didact.data.reading.gathering._WORTH_PROCESSES", 0)
    monkeypatch.setattr(Workers, "sees", lambda *_: False)
    found = didact.read(pool, cache_dir=f"{s3.url}/cache", **settings)
    assert found.fingerprint == expected.fingerprint
    sent = [path for method, path, _ in s3.wire.seen if method == "PUT" and "/cache/tmp" in path]
    assert sum("/pool-" in path for path in sent) >= shards
    assert not list((place(s3.url) / "cache" / "tmp").rglob("*"))
    at = open_entry(found.path).at
    for file in expected.path.iterdir():
        if file.name != "entry.json":
            assert (found.path / at / file.name).read_bytes() == file.read_bytes(), file.name
    every = range(len(expected))
    assert found.read(every, ["id", "text"]).equals(expected.read(every, ["id", "text"]))


def test_what_one_machine_made_another_finds(s3, tmp_path, monkeypatch, chats):
    config = {
        "data": {"path": str(chats)},
        "score": {"method": "compression"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "export": {"format": "jsonl"},
    }
    url = f"{s3.url}/cache"
    first = pipeline.run(config, tmp_path / "a", cache_dir=url)
    _elsewhere(tmp_path, monkeypatch)
    second = pipeline.run(config, f"{s3.url}/b", cache_dir=url)
    reused = {s.name: s.measured.reused for s in second.manifest.stages}
    assert reused["data"]
    bills = [
        next(s for s in run.manifest.stages if s.name == "score").measured.bill
        for run in (first, second)
    ]
    assert bills[0].uses == bills[1].uses
    for name in ("scores.parquet", "order.parquet", "train.jsonl"):
        assert (place(second.folder / name)).read_bytes() == (tmp_path / "a" / name).read_bytes()
    kinds = {k["kind"]: k for k in cache.listed(place(url))["kinds"]}
    assert {"pools", "reads", "scores"} <= set(kinds)
    assert kinds["scores"]["cpu_seconds"] > 0
    assert "unfinished" not in kinds
    assert cache.prune(place(url), 3600)["removed"] == 0
    found = cache.clear(place(url))
    assert found["removed"] == sum(k["entries"] for k in kinds.values())
    assert cache.listed(place(url))["entries"] == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_killed_while_an_entry_is_shared(s3, stores, tmp_path, monkeypatch, chats):
    url = f"{s3.url}/cache"
    command = [sys.executable, "-m", "didact.cli", "inspect", str(chats), "--cache-dir", url]
    s3.wire.faults.append(stores.Fault("PUT", "records-00000.bin", seconds=20))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        stores.kill_while_it_puts(process, "records-00000.bin", s3.wire)
    there = place(url)
    assert not list(there.glob("**/entry.json"))
    assert list(there.glob("unfinished/*/claim"))
    start = time.monotonic()
    _elsewhere(tmp_path, monkeypatch)
    pool = didact.read(chats, cache_dir=url)  # at once: its process is gone
    assert time.monotonic() - start < 60
    assert pool.fingerprint == didact.read(chats).fingerprint
    assert not list(there.glob("unfinished/*/claim"))


def test_faults_while_sharing_and_reading(s3, stores, tmp_path, monkeypatch, chats):
    url = f"{s3.url}/cache"
    s3.wire.faults += [
        stores.Fault("PUT", "pool-00000.arrow", status=500, times=2),
        stores.Fault("POST", "records-00000.bin", status=503, times=2),
        stores.Fault("PUT", "entry.json", status=500),
        stores.Fault("PUT", "index.arrow", cut=0),
        stores.Fault("PUT", "claim", seconds=1),
        stores.Fault("GET", "pool-00000.arrow", cut=1000),
        stores.Fault("GET", "records-00000.bin", status=500, times=2),
        stores.Fault("GET", "meta.json", cut=10),
    ]
    here, there = didact.read(chats), didact.read(chats, cache_dir=url)
    every = range(len(here))
    assert there.read(every, ["text", "record"]).equals(here.read(every, ["text", "record"]))
    assert not [fault for fault in s3.wire.faults if fault.times]


def test_a_cache_that_cannot_be_written_is_one_sentence(s3, stores, chats):
    with pytest.raises(DataError, match="no-bucket-here/.*there is no such bucket"):
        didact.read(chats, cache_dir="s3://no-bucket-here/cache")
    s3.wire.faults += [
        stores.Fault(method, "cache", status=403, times=10**6) for method in ("PUT", "POST")
    ]
    rights = "access is refused .*expected the rights to list, read and write it"
    with pytest.raises(DataError, match=rights):
        didact.read(chats, cache_dir=f"{s3.url}/cache")


def test_damage_in_the_bucket_is_mended_by_the_next_run(s3, tmp_path, monkeypatch, chats):
    url = f"{s3.url}/cache"
    config = {"data": {"path": str(chats)}, "score": {"method": "compression"},
              "select": {"method": "top_k", "budget": {"ratio": 0.5}}}  # fmt: skip
    pipeline.run(config, tmp_path / "a", cache_dir=url)
    file = next(place(url).glob("pools/*/*/pool-00000.arrow"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    _elsewhere(tmp_path, monkeypatch)
    done = pipeline.run(config, tmp_path / "b", cache_dir=url)
    assert any("is damaged" in change for change in done.changes)
    same = (tmp_path / "a" / "train.jsonl").read_bytes()
    assert (tmp_path / "b" / "train.jsonl").read_bytes() == same
