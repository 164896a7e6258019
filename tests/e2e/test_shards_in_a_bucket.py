"""Workers that share nothing but a bucket put their shards there: with faults, and killed."""

import signal
import subprocess
import sys
import time
from random import Random

import orjson
import pytest
import zstandard

from didact.core import cache
from didact.core.entries import ENTRY, open_entry
from didact.core.errors import DataError
from didact.core.paths import place
from didact.data.reading import gathering
from didact.data.reading.ingest import read_pool
from didact.data.reading.settings import DataSettings
from didact.execution.executors import Workers
from didact.verbs import context

pytestmark = pytest.mark.s3
DAY = 86_400


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Workers that see no folder of this machine: threads, to try what they and the bucket do."""
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(gathering, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr("didact.core.paths.faults._WAITS", (0.01,) * 4)
    from pyarrow.fs import AwsStandardS3RetryStrategy

    once = AwsStandardS3RetryStrategy(max_attempts=1)  # between its own tries it waits
    monkeypatch.setattr("pyarrow.fs.AwsStandardS3RetryStrategy", lambda **_: once)
    monkeypatch.setattr(Workers, "sees", lambda *_: False)
    monkeypatch.setattr(Workers, "apart", lambda workers: workers)


def rows(n):
    return [{"id": f"r{i % 95}", "text": Random(i % 90).randbytes(60).hex()} for i in range(n)]


@pytest.fixture
def pool(tmp_path):
    """Two shards."""
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, rows(60))))
    return path


@pytest.fixture
def compressed(tmp_path):
    """Three shards, whose lines are put into the bucket, too; ids repeat over shards."""
    path = tmp_path / "pool.jsonl.zst"
    path.write_bytes(zstandard.compress(b"\n".join(map(orjson.dumps, rows(100)))))
    return path


def read(path, url, told=None):
    ctx = context(workers=2, cache_dir=url, tell=pytest.fail if told is None else told.append)
    return read_pool([path], DataSettings(shard_bytes=6_000, on_bad_row="skip"), ctx).pool


def stored(pool):
    """What a pool consists of, by name."""
    folder = pool.path / open_entry(pool.path).at
    files = [p for p in folder.glob("**/*") if p.is_file() and p.name != ENTRY]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def left(url, folder="tmp"):
    return [p for p in place(f"{url}/{folder}").parent.glob(f"{folder}/**/*") if p.is_file()]


def in_two_days():
    now = time.time()
    return lambda: now + 2 * DAY


def test_faults_that_pass_change_no_byte(s3, stores, tmp_path, compressed):
    url, fault = f"{s3.url}/cache", stores.Fault
    expected = read(compressed, tmp_path / "cache")

    def gone():  # and whoever removed it is not told
        (lines,) = (p for p in left(url) if p.name == "lines-0-0")
        s3.filesystem.delete_file(lines.url.removeprefix("s3://"))

    s3.wire.faults += [
        # what workers put, and the lines that they are given
        fault("PUT", ".tmp/pool-00001", status=500, times=2),
        fault("PUT", ".tmp/records-00001", cut=0),
        fault("POST", ".tmp/records-00002.bin?uploads", status=503),
        fault("POST", ".tmp/pool-00002", cut=10, after=1),  # it is there, and nobody is told
        fault("PUT", ".tmp/parts/index-00000", seconds=0.2),
        fault("PUT", ".tmp/parts/lines-0", status=500, times=2),
        fault("GET", ".tmp/parts/lines-0", cut=1000),
        fault("DELETE", ".tmp/parts/lines-0-0", status=500, then=gone),
        # what the driver fetches, copies into the entry, and removes
        fault("GET", ".tmp/parts/index-00001", cut=100),
        fault("GET", ".tmp/parts/index-00002", status=500, times=2),
        fault("PUT", "/pools/", status=500, times=2),
        fault("PUT", "/pools/", cut=0, after=4),
        fault("PUT", "/pools/", status=503, after=5),
        fault("POST", "?delete", status=500),
    ]
    found = read(compressed, url)
    assert not [f for f in s3.wire.faults if f.times]
    assert found.fingerprint == expected.fingerprint
    assert len(expected.meta["shard_rows"]) == 3
    assert stored(found) == stored(expected)
    assert not left(url)


def test_faults_that_stay_are_said_and_nothing_is_left(s3, stores, tmp_path, pool):
    url = f"{s3.url}/cache"
    for method, inside, status, said in (
        ("PUT", ".tmp/records-00000", 403, "access is refused"),
        ("PUT", ".tmp/pool-00001", 500, "cannot be written after 5 tries"),
        ("PUT", "/pools/", 403, "access is refused"),  # to copy them into the entry
    ):
        s3.wire.faults[:] = [stores.Fault(method, inside, status=status, times=10**6)]
        with pytest.raises(DataError, match=f"^s3://.*{said}") as caught:
            read(pool, url)
        assert "\n" not in str(caught.value)
        assert s3.wire.faults[0].times < 10**6
        assert not list(place(url).glob("**/entry.json"))
        assert not left(url)
        assert not left(url, "pools")
    s3.wire.faults.clear()
    assert stored(read(pool, url)) == stored(read(pool, tmp_path / "cache"))


def test_what_could_not_be_removed_is_said_and_goes_later(s3, stores, tmp_path, monkeypatch, pool):
    url, told = f"{s3.url}/cache", []
    s3.wire.faults.append(stores.Fault("POST", "?delete", status=403))
    found = read(pool, url, told)
    assert stored(found) == stored(read(pool, tmp_path / "cache"))
    (line,) = told
    assert "/cache/tmp/" in line
    assert "cache prune --older 1d" in line
    assert len(left(url)) == 6
    assert cache.prune(place(url), DAY)["removed"] == 0
    tmp = next(kind for kind in cache.listed(place(url))["kinds"] if kind["kind"] == "tmp")
    assert tmp["entries"] == 1
    monkeypatch.setattr(time, "time", in_two_days())
    cache.prune(place(url), DAY)
    assert not left(url)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_killed_while_workers_put_shards(s3, stores, tmp_path, monkeypatch, pool):
    url = f"{s3.url}/cache"
    program = (
        "import sys\n"
        "from didact.data.reading import gathering\n"
        "from didact.execution.executors import Workers\n"
        "gathering._WORTH_PROCESSES, Workers.sees = 0, lambda *_: False\n"
        "import didact.cli\n"
        "didact.cli.main()\n"
    )
    data = ["--data", "shard_bytes=6000", "--data", "on_bad_row=skip"]
    words = ["inspect", str(pool), "--cache-dir", url, *data]
    s3.wire.faults.append(stores.Fault("PUT", ".tmp/pool-00001", seconds=20))
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL
    ) as process:
        stores.kill_while_it_puts(process, ".tmp/pool-00001", s3.wire)
    assert not list(place(url).glob("**/entry.json"))
    assert left(url)
    sweep = gathering.sweep_abandoned

    def later(folder):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", in_two_days())
            sweep(folder)

    sweep(place(url) / "tmp")
    assert left(url)  # of somebody who may still be at work
    monkeypatch.setattr(gathering, "sweep_abandoned", later)
    assert stored(read(pool, url)) == stored(read(pool, tmp_path / "cache"))
    assert not left(url)
