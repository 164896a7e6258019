"""Stores as they are: a real S3 server, web servers, fsspec's memory; whole, and with faults."""

import os
import pickle
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from didact.core.errors import DataError
from didact.core.paths import place
from didact.core.paths.faults import RemoteMissingError

pytestmark = pytest.mark.s3
DATA = bytes(range(256)) * 4096 * 12  # 12 MiB: several ranges, some ahead


def test_a_bucket_is_listed_like_a_folder(s3, tmp_path):
    for name in ("d/b.jsonl", "d/e/c.jsonl", "d-1/a.jsonl", "top.txt", "d/e/.hidden"):
        s3.put(name, b"x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    bucket = place(s3.url)

    def names(folder, found):
        return [each.relative_to(folder).as_posix() for each in found]

    assert names(bucket, bucket.rglob("*")) == names(tmp_path, sorted(tmp_path.rglob("*")))
    for pattern in ("*", "d*/*", "**/*.jsonl", "d/**/*.jsonl", "*/e/*"):
        expected = names(tmp_path, sorted(tmp_path.glob(pattern)))
        assert names(bucket, bucket.glob(pattern)) == expected
    s3.wire.seen.clear()
    found = list(bucket.rglob("*"))
    assert sum(f.is_file() for f in found) == 5
    assert len(s3.wire.seen) == 1  # what was listed is known
    assert (bucket / "d").is_dir()
    assert not (bucket / "d").is_file()
    assert not (bucket / "nothing").exists()
    assert [p.name for p in (bucket / "d").iterdir()] == ["b.jsonl", "e"]


def test_objects_are_read_in_ranges_and_ahead(s3):
    path = place(s3.put("x.bin", DATA))
    found = path.stat()
    assert (found.st_size, bool(found.tag)) == (len(DATA), True)
    with path.open() as file:
        assert file.seek(-5, os.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]
        file.seek(3)
        assert file.read(4) == DATA[3:7]
    assert sum(_lengths(s3.wire.ranges("x.bin"))) < 2**18
    assert path.read_bytes() == DATA
    assert max(_lengths(s3.wire.ranges("x.bin"))) <= 2**23
    assert pickle.loads(pickle.dumps(path)).read_bytes() == DATA  # noqa: S301


def _lengths(ranges):
    pairs = [r.removeprefix("bytes=").split("-") for r in ranges]
    return [int(last) - int(first) + 1 for first, last in pairs]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "times": 3},
        {"status": 503, "after": 2},
        {"cut": 10_000},
        {"cut": 100_000, "after": 2, "times": 3},
        {"cut": 0, "after": 1, "times": 3},
        {"seconds": 0.3, "after": 1},
    ],
)
def test_faults_that_pass_change_no_byte(s3, stores, fault):
    path = place(s3.put("x.bin", DATA))
    s3.wire.faults.append(stores.Fault(inside="x.bin", **fault))
    assert path.read_bytes() == DATA
    assert all(f.times == 0 for f in s3.wire.faults)


def test_faults_that_stay_are_named(s3, stores, monkeypatch):
    monkeypatch.setattr("didact.core.paths.faults._WAITS", (0.01, 0.01))
    path = place(s3.put("x.bin", DATA))
    s3.wire.faults.append(stores.Fault(inside="x.bin", status=500, after=1, times=99))
    with pytest.raises(
        DataError,
        match=r"s3://.*/x\.bin: cannot be read after 3 tries .*HTTP status 500.*; run the same command again",
    ):
        path.read_bytes()


def test_an_object_that_changes_meanwhile_is_named(s3):
    path = place(s3.put("x.bin", DATA))
    with path.open() as file:
        file.read(10)
        s3.put("x.bin", DATA[::-1])
        with pytest.raises(DataError, match=r"x\.bin: was changed while it was read"):
            file.read()


def test_what_is_not_there_or_not_allowed(s3, stores, monkeypatch):
    with pytest.raises(RemoteMissingError, match="nothing: there is no such object; check the URL"):
        (place(s3.url) / "nothing").read_bytes()
    with pytest.raises(
        DataError, match=r"s3://no-bucket/x: there is no such bucket .* check its name"
    ):
        list(place("s3://no-bucket/x").iterdir())
    s3.put("x", b"x")
    s3.wire.faults.append(stores.Fault(inside="/x", status=404))  # of a proxy: it says no more
    with pytest.raises(RemoteMissingError, match="/x: there is no such object"):
        (place(s3.url) / "x").read_bytes()
    s3.wire.faults.append(stores.Fault(method="HEAD", inside="/x", status=403, times=9))
    with pytest.raises(DataError, match=r"/x: access is refused .* check AWS_ACCESS_KEY_ID"):
        (place(s3.url) / "x").read_bytes()
    assert len([1 for seen in s3.wire.seen if seen[:1] == ("HEAD",)]) < 9  # asked once or twice
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"no connection to its host .* AWS_ENDPOINT_URL"):
        (place(s3.url) / "x").read_bytes()


def test_credentials_in_a_url_open_it_and_are_not_said(s3):
    s3.put("x", b"data")
    path = place(s3.url.replace("s3://", "s3://AKID:PASSWORT@") + "/x")
    assert path.read_bytes() == b"data"
    with pytest.raises(DataError) as raised:
        path.with_name("y").read_bytes()
    assert "PASSWORT" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_objects_are_written_and_removed(s3):
    path = place(s3.url) / "a" / "b.txt"
    assert path.write_text("grün") == 5
    assert path.read_text() == "grün"
    with (place(s3.url) / "c").open("wb") as file:
        file.write(DATA)
    assert (place(s3.url) / "c").read_bytes() == DATA
    path.unlink()
    assert not path.exists()
    path.unlink(missing_ok=True)
    once = place(s3.url) / "once"
    assert [once.write_new(b"one"), once.write_new(b"two")] == [True, False]
    assert once.read_bytes() == b"one"
    packed = place(s3.url) / "d.gz"  # written as it is, whatever its name
    packed.write_bytes(b"plain")
    assert packed.read_bytes() == b"plain"


def test_objects_are_copied_by_the_store_but_for_those_too_large(s3, stores, monkeypatch):
    path = place(s3.put("a/x.bin", DATA))
    path.copy_to(place(f"{s3.url}/b/x.bin"))
    assert not s3.wire.ranges("x.bin")
    monkeypatch.setattr("didact.core.paths.remote_path._MOST_COPIED", len(DATA) - 1)
    s3.wire.faults.append(stores.Fault("PUT", "c/x.bin", status=500, times=3))
    s3.wire.faults.append(stores.Fault("GET", "a/x.bin", cut=1000, after=1))
    path.copy_to(place(f"{s3.url}/c/x.bin"))
    assert sum(_lengths(s3.wire.ranges("a/x.bin"))) >= len(DATA)
    for name in "bc":
        assert place(f"{s3.url}/{name}/x.bin").read_bytes() == DATA
    assert not [fault for fault in s3.wire.faults if fault.times]


def test_memory_and_what_is_written_but_once():
    pytest.importorskip("fsspec")
    path = place("memory://test-once/x.txt")
    assert path.write_new(b"one") is True
    assert path.write_new(b"two") is False
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    assert path.stat().tag == ""
    path.unlink()
    with pytest.raises(RemoteMissingError):
        path.stat()


@pytest.mark.parametrize(
    "server",
    [
        {},
        {"etag": False},
        {"ranges": False},
        {"ranges": False, "sized": False, "etag": False, "times": False},
    ],
)
def test_web_servers_of_all_kinds(stores, tmp_path, server):
    pytest.importorskip("aiohttp")
    (tmp_path / "x.bin").write_bytes(DATA)
    with stores.web_folder(tmp_path, **server) as address:
        path = place(f"{address}/x.bin?token=abc")
        assert path.is_file()
        assert path.read_bytes() == DATA
        found = path.stat()
        assert found.st_size == (len(DATA) if server.get("sized", True) else 0)
        assert bool(found.tag) == server.get("etag", True)
        assert bool(found.st_mtime_ns) == server.get("times", True)
        with path.open() as file:
            file.seek(9_000_000)
            assert file.read(100) == DATA[9_000_000:9_000_100]
            file.seek(5)
            assert file.read(5) == DATA[5:10]
        assert not place(f"{address}/y.bin").exists()
        with pytest.raises(DataError, match="web servers list no folders"):
            list(place(address).iterdir())


def test_a_web_server_with_faults(stores, tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "x.bin").write_bytes(DATA)
    with (
        stores.web_folder(tmp_path) as upstream,
        stores.proxied(upstream) as (address, wire),
    ):
        path = place(f"{address}/x.bin?sig=abcd")
        wire.faults += [
            stores.Fault(method="HEAD", status=500),
            stores.Fault(status=500),
            stores.Fault(cut=1000, after=2),
            stores.Fault(cut=0, after=1),
        ]
        assert path.read_bytes() == DATA
        assert not any(f.times for f in wire.faults)
        wire.faults.append(stores.Fault(method="HEAD", status=403, times=9))
        wire.faults.append(stores.Fault(status=403, times=9))
        with pytest.raises(
            DataError, match=r"x\.bin\?sig=\*\*\*: access is refused \(HTTP status 403\)"
        ):
            path.stat()


def test_the_hub_by_its_own_client(stores, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    pytest.importorskip("fsspec")
    files = {"data/train.jsonl": DATA[:300_000], "data/more/x.jsonl": b"x", "README.md": b"about"}
    with stores.hub(files, "hf_token_of_the_test") as address:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_token_of_the_test")
        home = place("hf://datasets/org/name@v1")
        path = home / "data" / "train.jsonl"
        assert [f.relative_to(home).as_posix() for f in home.rglob("*.jsonl")] == [
            "data/more/x.jsonl",
            "data/train.jsonl",
        ]
        assert [f.name for f in (home / "data").iterdir()] == ["more", "train.jsonl"]
        assert path.read_bytes() == DATA[:300_000]
        first = path.stat()
        assert (first.st_size, len(first.tag)) == (300_000, 32)
        files["data/train.jsonl"] = DATA[:299_999]
        path._store._asked.clear()  # as if two seconds had passed
        assert path.stat().tag != first.tag
        with pytest.raises(RemoteMissingError, match="check the URL"):
            (home / "nothing.jsonl").read_bytes()
        with pytest.raises(RemoteMissingError, match="check the URL"):
            place("hf://datasets/org/name@none/README.md").read_bytes()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(DataError, match="HF_HUB_OFFLINE; unset it, or download"):
            path._store._asked.clear()
            path.stat()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "wrong")
        with pytest.raises(DataError, match=r"access is refused .* set HF_TOKEN"):
            path.read_bytes()


def test_folders_of_google_that_no_object_stands_for_are_listed(stores, monkeypatch):
    """pyarrow lists objects alone; the answers are those of Google's JSON API."""
    names = ["run/.lock", "run/scores.parquet", "run/stages/score.json"]

    class Google(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = parse_qs(urlsplit(self.path).query)
            prefix, apart = asked.get("prefix", [""])[0], asked.get("delimiter")
            found = [n for n in names if n.startswith(prefix)]
            found = [n for n in found if not apart or "/" not in n[len(prefix) :]]
            about = {"kind": "storage#object", "bucket": "b", "size": "3", "generation": "1"}
            listing = {"kind": "storage#objects", "items": [{**about, "name": n} for n in found]}
            there = urlsplit(self.path).path.endswith("/o")
            self.send_response(200 if there else 404)
            self.end_headers()
            self.wfile.write(orjson.dumps(listing if there else {}))

        def log_message(self, *_):
            """Quiet."""

    with stores.serving(Google) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        folder = place("gs://b/run")
        assert [(p.name, p.is_dir()) for p in folder.iterdir()] == [
            (".lock", False), ("scores.parquet", False), ("stages", True)
        ]  # fmt: skip
        assert [p.name for p in folder.glob("*.parquet")] == ["scores.parquet"]
        assert [str(p) for p in folder.rglob("*.json")] == ["gs://b/run/stages/score.json"]


def test_an_emulator_of_azures_is_asked_alone(stores, monkeypatch):
    asked = []

    class Azure(BaseHTTPRequestHandler):
        def _answer(self):
            asked.append(urlsplit(self.path).path)
            self.send_response(404)
            self.end_headers()

        do_GET = do_HEAD = _answer  # noqa: N815 - as the library calls them

        def log_message(self, *_):
            """Quiet."""

    with stores.serving(Azure) as address:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
        monkeypatch.setenv("AZURE_STORAGE_BLOB_AUTHORITY", address.removeprefix("http://"))
        with pytest.raises(RemoteMissingError):
            place("az://container/pool.jsonl").read_bytes()
    assert asked
