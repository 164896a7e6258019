"""A cache in a bucket: shared by machines, read in ranges, whole or not at all."""

import pickle

import numpy as np
import pytest

import didact
from didact import pipeline, verbs
from didact.core import cache
from didact.core.paths import place

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
    there = pickle.loads(pickle.dumps(there))
    every = range(len(here))
    for columns in (["id"], ["text", "messages"], ["record", "source"]):
        assert there.read(every, columns).equals(here.read(every, columns))
    rows = np.random.default_rng(0).permutation(len(here))[:150]
    for columns in (["id", "text"], ["record"]):
        assert there.read(rows, columns).equals(here.read(rows, columns))


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
