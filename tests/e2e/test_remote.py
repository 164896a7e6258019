"""Pools, targets, held-out files, tokenizers, models and configs in a bucket: as on a disk."""

import gzip
import json
import os
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

import didact
from didact import config as configs
from didact import pipeline, verbs
from didact.core.errors import ConfigError, DataError
from didact.data.reading.settings import DataSettings

pytestmark = pytest.mark.s3
SECRETS = (b"AKIDOFTHETEST", b"secret-of-the-test", b"PASSWORT", b"SIGNATURE")


def _rows(n, start=0):
    return [
        {"id": f"r{i}", "text": f"sample {i}: " + " ".join(str(i * k % 97) for k in range(1, 40))}
        for i in range(start, start + n)
    ]


def _jsonl(rows):
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _folder_of_all_kinds(folder):
    folder.mkdir()
    rows = _rows(60)
    (folder / "a.jsonl").write_bytes(_jsonl(rows[:10]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(_jsonl(rows[10:20])))
    (folder / "sub").mkdir()
    (folder / "sub" / "c.jsonl.zst").write_bytes(zstandard.compress(_jsonl(rows[20:30])))
    (folder / "d.json").write_bytes(orjson.dumps(rows[30:40]))
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows[40:50]), folder / "e.csv")
    member = folder / "member.jsonl"
    member.write_bytes(_jsonl(rows[50:60]))
    with tarfile.open(folder / "f.tar", "w") as tar:
        tar.add(member, "member.jsonl")
    member.unlink()
    (folder / "README.md").write_text("about it")
    (folder / "scores.bin").write_bytes(b"\0")


def _same(here, there):
    assert there.fingerprint == here.fingerprint
    assert there.ids.to_pylist() == here.ids.to_pylist()
    assert [f.kind for f in there.findings] == [f.kind for f in here.findings]


def test_a_folder_in_a_bucket_is_the_folder(s3, tmp_path):
    _folder_of_all_kinds(tmp_path / "pool")
    s3.put_tree(tmp_path / "pool")
    _same(didact.read(tmp_path / "pool"), didact.read(s3.url))
    # a file here and a pattern there
    mixed = [tmp_path / "pool" / "a.jsonl", f"{s3.url}/**/*.zst", f"{s3.url}/b.*"]
    local = [
        tmp_path / "pool" / "a.jsonl",
        tmp_path / "pool" / "sub",
        tmp_path / "pool" / "b.jsonl.gz",
    ]
    assert didact.read(mixed).ids.to_pylist() == didact.read(local).ids.to_pylist()


def test_many_small_objects_are_asked_little(s3, tmp_path):
    n, folder = 8, tmp_path / "pool"
    folder.mkdir()
    for i in range(n):
        data = _jsonl(_rows(3, 3 * i))
        name, data = (f"{i}.jsonl.gz", gzip.compress(data)) if i % 4 else (f"{i}.jsonl", data)
        (folder / name).write_bytes(data)
    s3.put_tree(tmp_path)
    s3.wire.seen.clear()
    _same(didact.read(folder), didact.read(f"{s3.url}/pool"))
    asked = [method for method, path, _ in s3.wire.seen if ".jsonl" in path.partition("?")[0]]
    # what it is, its hash and its rows: looked up and fetched; and its ETag before and behind that
    assert n < asked.count("GET") <= 3 * n
    assert asked.count("HEAD") <= 5 * n
    s3.put("pool/4.jsonl", b"{}\n")
    with pytest.raises(DataError, match=r"pool/4\.jsonl: row 1: no known format"):
        didact.read(f"{s3.url}/pool")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_are_read_as_they_are(s3, tmp_path, kind):
    rows = [{**row, "weight": i} for i, row in enumerate(_rows(400))]
    table = pa.Table.from_pylist(rows)
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=100)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed", chunksize=100)
    url = s3.put(path.name, path.read_bytes())
    _same(didact.read(path), didact.read(url))


@pytest.fixture
def web(monkeypatch):
    """Web servers that end with the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:
        yield stack


def test_the_manifest_has_etags_and_nothing_has_credentials(s3, stores, tmp_path, web):
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "more.jsonl").write_bytes(_jsonl(_rows(3, 20)))
    s3.put("pool.jsonl", _jsonl(_rows(80)))
    s3.put("target.jsonl", _jsonl(_rows(5, 500)))
    s3.put("held.jsonl", _jsonl(_rows(3, 10)))
    whole = s3.url.replace("s3://", "s3://AKIDOFTHETEST:PASSWORT@")
    address = web.enter_context(stores.web_folder(tmp_path / "web"))
    signed = f"{address}/more.jsonl?X-Amz-Signature=SIGNATURE"
    config = {
        "data": {"path": f"{whole}/pool.jsonl", "exclude": [f"{whole}/held.jsonl", signed]},
        "score": {"method": "bm25", "target": f"{whole}/target.jsonl"},
        "select": {"method": "top_k", "budget": {"samples": 20}},
    }
    s3.put("run.yaml", yaml.safe_dump(config).encode())
    run = pipeline.run(f"{s3.url}/run.yaml", tmp_path / "run")
    inputs = {Path(i["path"]).name: i for i in run.manifest.inputs}
    assert inputs.pop("more.jsonl?X-Amz-Signature=***")["etag"]
    assert set(inputs) == {"pool.jsonl", "target.jsonl", "held.jsonl"}
    for name, found in inputs.items():
        assert found["path"] == f"s3://***@{s3.url[5:]}/{name}"
        info = s3.filesystem.open_input_file(f"{s3.url[5:]}/{name}")
        assert found["etag"] == info.metadata()["ETag"].decode().strip('"')
        assert (found["bytes"], len(found["blake2b"])) == (info.size(), 32)
    assert run.manifest.config["data"]["path"] == inputs["pool.jsonl"]["path"]
    for folder in (tmp_path / "run", Path(os.environ["DIDACT_CACHE"])):
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not any(secret in data for secret in SECRETS), path
    before = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    again = pipeline.run(f"{s3.url}/run.yaml", tmp_path / "again")  # from the cache
    assert again.manifest.inputs == run.manifest.inputs
    assert [s["outputs"].get("selection.parquet") for s in before["stages"]] == [
        s.outputs.get("selection.parquet") for s in again.manifest.stages
    ]


def test_a_changed_object_is_read_again_and_one_that_changes_meanwhile_is_named(s3, stores):
    url = s3.put("pool.jsonl", _jsonl(_rows(50)))
    first = didact.read(url)
    s3.wire.seen.clear()
    assert didact.read(url).fingerprint == first.fingerprint
    assert len(s3.wire.ranges("pool.jsonl")) <= 2  # its first bytes, to see what it is
    s3.put("pool.jsonl", _jsonl(_rows(50, 1)))
    assert didact.read(url).fingerprint != first.fingerprint

    def change():
        s3.put("pool.jsonl", _jsonl(_rows(50, 3)))

    s3.put("pool.jsonl", _jsonl(_rows(50, 2)))
    s3.wire.faults.append(stores.Fault(inside="pool.jsonl", after=2, then=change))
    with pytest.raises(
        DataError, match=r"s3://.*pool\.jsonl: was changed while it was read; run the same"
    ):
        didact.read(url)


def test_faults_on_the_way_change_nothing(s3, stores, tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(_jsonl(_rows(20_000)))
    url = s3.put("pool.jsonl", (tmp_path / "pool.jsonl").read_bytes())
    s3.wire.faults += [
        stores.Fault(inside="pool.jsonl", status=503, after=1),
        stores.Fault(inside="pool.jsonl", cut=50_000, after=1),
        stores.Fault(method="HEAD", inside="pool.jsonl", status=500),
    ]
    _same(didact.read(tmp_path / "pool.jsonl"), didact.read(url))
    assert not any(fault.times for fault in s3.wire.faults)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing.jsonl", "there is no such object; check the URL"),
        ("*.parquet", "no file matches this pattern"),
        ("empty/", "there is no such object"),
    ],
)
def test_bad_input_is_one_sentence(s3, name, said):
    s3.put("pool.jsonl", b"{}\n")
    with pytest.raises(DataError, match=said) as raised:
        didact.read(f"{s3.url}/{name}")
    assert s3.url in str(raised.value)


def test_a_config_that_is_wrong_shows_no_credentials():
    url = "https://host/pool.jsonl?X-Amz-Signature=SIGNATURE"
    with pytest.raises(ConfigError, match="Signature=") as raised:
        configs.parse({"data": {"path": {"wrong": url}}})
    assert "SIGNATURE" not in str(raised.value)


def test_presigned_urls_and_servers_that_tell_little(stores, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "pool.jsonl").write_bytes(_jsonl(_rows(50)))
    here = didact.read(tmp_path / "pool.jsonl")
    for says, finding in (
        ({}, None),
        ({"etag": False}, "size and time of the last change"),
        ({"etag": False, "times": False}, "is read once more"),
        ({"etag": False, "times": False, "ranges": False, "sized": False}, "is read once more"),
    ):
        with stores.web_folder(tmp_path, **says) as address:
            url = f"{address}/pool.jsonl?X-Amz-Signature=SIGNATURE"
            read = verbs.read_with_inputs(url, DataSettings(), verbs.context())
            assert read.pool.fingerprint == here.fingerprint
            assert read.inputs[0]["path"] == f"{address}/pool.jsonl?X-Amz-Signature=***"
            assert read.inputs[0]["bytes"] == (tmp_path / "pool.jsonl").stat().st_size
            assert ("etag" in read.inputs[0]) == (finding is None)
            texts = [f.text for f in read.pool.findings if f.kind == "no_etag"]
            assert (finding in texts[0]) if finding else not texts
            # another signature, the same file
            other = f"{address}/pool.jsonl?X-Amz-Signature=SIGNATURE2"
            assert verbs.read_with_inputs(other, DataSettings(), verbs.context()).reused
            if finding and "once more" in finding:
                (tmp_path / "pool.jsonl").write_bytes(_jsonl(_rows(50, 7)))
                assert didact.read(url).fingerprint != here.fingerprint
                (tmp_path / "pool.jsonl").write_bytes(_jsonl(_rows(50)))


def test_the_command_line_takes_urls(s3, tmp_path, warm_didact):
    s3.put("pool.jsonl", _jsonl(_rows(30)))
    done = subprocess.run(
        [*warm_didact, "inspect", f"{s3.url}/*.jsonl", "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["samples"] == 30
    failed = subprocess.run(
        [*warm_didact, "inspect", f"{s3.url.replace('s3://', 's3://AK:PASSWORT@')}/no.jsonl"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 1
    assert b"there is no such object" in failed.stderr
    assert b"PASSWORT" not in failed.stderr + failed.stdout
