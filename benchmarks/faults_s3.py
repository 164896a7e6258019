"""Faults of a store while a run, its outputs and its cache are in a bucket, and what comes of them.

    python benchmarks/faults_s3.py POOL.jsonl.zst

The store is moto's S3 server on this machine, behind a proxy that makes the faults. A run is right
if every data file, and the manifest outside of what was measured, is that of a run on a disk, byte
for byte. Workers that put their shards into the bucket are processes that are told not to see the
folder of the store. Results go to benchmarks/results/faults_s3.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ |= {
    "AWS_ACCESS_KEY_ID": "AKIDOFTHETEST", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip

from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSelector, FileType, S3FileSystem

from didact import pipeline
from didact.core.errors import DidactError
from main_job import machine

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "faults_s3.json"
SECRETS = (b"AKIDOFTHETEST", b"secret-of-the-test")
FOR_EVER = 10**6
SHARD_BYTES = 300_000
APART = (
    "from didact.data.reading import gathering; from didact.execution.executors import Workers; "
    "gathering._WORTH_PROCESSES = 0; Workers.sees = lambda *_: False; "
)
_spec = importlib.util.spec_from_file_location("stores", REPOSITORY / "tests" / "stores.py")
stores: Any = importlib.util.module_from_spec(_spec)
sys.modules["stores"] = stores
_spec.loader.exec_module(stores)
Fault = stores.Fault


class Ground:
    """A bucket, the proxy before it, and the run on a disk.

    Args:
        pool: The file that is read.
        home: A folder for what is on a disk.
        host: The store, past the proxy.
        wire: The proxy.
        bucket: The bucket's name.
        prelude: Python that is run first where the run is a process of its own.
        data: Further settings of reading.
    """

    def __init__(
        self, pool: Path, home: Path, host: str, wire: Any, bucket: str, prelude: str = "",
        **data: Any,
    ) -> None:  # fmt: skip
        self.home, self.wire, self.bucket, self.prelude = home, wire, bucket, prelude
        home.mkdir()
        self.filesystem = S3FileSystem(
            endpoint_override=host, scheme="http", allow_bucket_creation=True, region="us-east-1",
            request_timeout=20,
        )  # fmt: skip
        self.filesystem.create_dir(bucket)
        self.number = 0
        self.config = {
            "data": {"path": str(pool), **data},
            "score": {"method": "compression"},
            "select": {"method": "top_k", "budget": {"ratio": 0.2}},
            "order": {"method": "fold"},
            "export": {"for": "trl", "shards": 4},
        }
        (home / "run.yaml").write_text(json.dumps(self.config))
        pipeline.run(self.config, home / "run", cache_dir=home / "cache")
        self.expected = {
            p.relative_to(home / "run").as_posix(): p.read_bytes()
            for p in (home / "run").rglob("*")
            if p.is_file()
        }

    def begin(self) -> str:
        """A folder of the bucket and an empty scratch; its URL."""
        self.number += 1
        self.elsewhere()
        self.wire.faults.clear()
        self.wire.seen.clear()
        return f"s3://{self.bucket}/{self.number}"

    def elsewhere(self) -> None:
        """Another machine, as far as what lies on a disk goes."""
        os.environ["DIDACT_SCRATCH"] = tempfile.mkdtemp(dir=self.home)

    def run(self, url: str) -> Any:
        """The run, its folder and its cache behind a URL."""
        return pipeline.run(self.config, f"{url}/run", cache_dir=f"{url}/cache")

    def started(self, url: str) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        words = ["run", str(self.home / "run.yaml"), "-o", f"{url}/run"]
        program = f"{self.prelude}from didact.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *words, "--cache-dir", f"{url}/cache"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def objects(self, url: str) -> dict[str, bytes]:
        """What lies behind a URL, asked past the proxy."""
        base = url.removeprefix("s3://")
        selector = FileSelector(base, recursive=True, allow_not_found=True)
        return {
            info.path[len(base) + 1 :]: self.filesystem.open_input_file(info.path).read()
            for info in self.filesystem.get_file_info(selector)
            if info.type == FileType.File
        }

    def until(self, part: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a request that writes this is under way."""
        while not any(part in path for method, path, _ in self.wire.seen if method == "PUT"):
            if process.poll() is not None:
                raise RuntimeError(f"the run ended before {part}")
            time.sleep(0.01)

    def right(self, url: str) -> bool:
        """Whether the run in the bucket is the one on the disk, and shows no credentials."""
        found = self.objects(f"{url}/run")
        everything = self.objects(url)
        if any(secret in data for data in everything.values() for secret in SECRETS):
            return False
        ours = set(self.expected) - {".lock"}
        if ours != set(found) - {"stages/.begun"}:
            return False
        plain = {n for n in ours if not n.startswith("stages/")} - {"manifest.json", "report.html"}
        return all(found[n] == self.expected[n] for n in plain) and _told(
            found["manifest.json"]
        ) == _told(self.expected["manifest.json"])

    def unfinished(self, url: str, last: str = "run/manifest.json") -> bool:
        """Whether nothing that is half written looks finished: what is put last is not there."""
        return not any(name.endswith(last) for name in self.objects(url))


def _told(manifest: bytes) -> Any:
    values = json.loads(manifest)
    values.pop("cost")
    for stage in values["stages"]:
        stage.pop("measured")
    return values


def passing(ground: Ground, faults: list[Any]) -> dict[str, Any]:
    """Faults that pass: the run does not end in between."""
    url = ground.begin()
    asked = sum(fault.times for fault in faults)
    ground.wire.faults += faults
    ground.run(url)
    made = asked - sum(fault.times for fault in faults)
    outcome = "same bytes, no second start" if ground.right(url) else "WRONG"
    return {"count": made, "outcome": outcome}


def killed(
    ground: Ground, part: str, *, moves: bool, last: str = "run/manifest.json"
) -> dict[str, Any]:
    """SIGKILL while an object is being put; started again, perhaps on another machine."""
    url = ground.begin()
    ground.wire.faults.append(Fault("PUT", part, seconds=30))
    process = ground.started(url)
    ground.until(part, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ground.wire.faults.clear()
    honest = ground.unfinished(url, last)
    if moves:
        ground.elsewhere()
    began = time.perf_counter()
    ground.run(url)
    outcome = "nothing looked finished; started again: same bytes"
    right = ground.right(url) and honest
    return {"count": 1, "outcome": outcome if right else "WRONG",
            "seconds_until_done": round(time.perf_counter() - began, 1)}  # fmt: skip


def lasting(ground: Ground, faults: list[Any]) -> dict[str, Any]:
    """Faults that do not pass: one sentence, and the same bytes once they are over."""
    url = ground.begin()
    ground.wire.faults += faults
    began, said = time.perf_counter(), ""
    try:
        ground.run(url)
    except DidactError as error:
        said = str(error)
    seconds = round(time.perf_counter() - began, 1)
    honest = ground.unfinished(url) and said.startswith("s3://") and "\n" not in said
    made = FOR_EVER * len(faults) - sum(fault.times for fault in faults)
    ground.wire.faults.clear()
    ground.run(url)
    right = ground.right(url) and honest
    outcome = "one sentence; started again: same bytes" if right else "WRONG"
    return {"count": made, "outcome": outcome, "said": said, "seconds_until_said": seconds}


def two_at_once(ground: Ground) -> dict[str, Any]:
    """Two runs into one folder: the second is refused while the first works."""
    url = ground.begin()
    ground.wire.faults.append(Fault("PUT", "scores.parquet", seconds=3))
    process = ground.started(url)
    ground.until("scores.parquet", process)
    said = ""
    try:
        ground.run(url)
    except DidactError as error:
        said = str(error)
    process.wait()
    right = "in use by another run" in said and ground.right(url)
    return {"count": 1, "outcome": "the second refused by name; same bytes" if right else "WRONG"}


def two_makers(ground: Ground, prelude: str = "", faults: Sequence[Any] = ()) -> tuple[bool, int]:
    """Two machines with one cache, at once: whether both are right, and how many made the pool.

    Args:
        ground: The bucket.
        prelude: Python that is run first.
        faults: What happens to the requests of both.
    """
    url = ground.begin()
    ground.wire.faults += faults
    program = f"import sys; {prelude}from didact.cli import main; main()"
    processes = []
    for name in ("a", "b"):
        ground.elsewhere()
        words = ["run", str(ground.home / "run.yaml"), "-o", f"{url}/{name}/run"]
        command = [sys.executable, "-c", program, *words, "--cache-dir", f"{url}/cache"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    codes = [process.wait() for process in processes]
    put = {p for m, p, _ in ground.wire.seen if m == "PUT" and "/cache/pools/" in p}
    makers = {path.split("/pools/")[1].split("/")[1] for path in put if "records-00000.bin" in path}
    return codes == [0, 0] and all(ground.right(f"{url}/{n}") for n in ("a", "b")), len(makers)


def shared_by_two(ground: Ground) -> dict[str, Any]:
    """Each value is made once."""
    right, makers = two_makers(ground)
    outcome = "made once, same bytes in both" if right and makers == 1 else "WRONG"
    return {"count": 1, "outcome": outcome}


def without_claims(ground: Ground) -> dict[str, Any]:
    """Where the store has no conditional puts both may work, and one entry stays.

    Claims without a condition would keep these two apart, so that there are none.
    """
    prelude = (
        "sys.modules['botocore.exceptions'] = None; import contextlib, didact.core.keep as keep; "
        "keep.claimed = lambda *_: contextlib.nullcontext(); "
    )
    slow = Fault("PUT", "records-00000.bin", seconds=10)  # so that the other has begun before
    right, makers = two_makers(ground, prelude, [slow])
    outcome = f"made by {makers}, same bytes in both" if right else "WRONG"
    return {"count": 1, "outcome": outcome}


def shared_by_workers(ground: Ground) -> Iterator[tuple[str, dict[str, Any]]]:
    """Faults while workers put shards into the bucket, and while they are copied into the entry."""
    parts = [".tmp/pool-00001", ".tmp/records-00002", ".tmp/parts/index-00003"]
    given = ".tmp/parts/lines-0"
    for kind, faults in {
        "answer 500 to a worker that puts a shard": [
            Fault("PUT", p, 500, times=2) for p in [*parts, given]
        ],
        "answer 503 where such an upload begins or ends": [
            Fault("POST", p, 503, times=2) for p in parts
        ],
        "connection cut before the answer, likewise": [Fault("PUT", p, cut=0) for p in parts],
        "the answer that such an upload is done is lost": [
            Fault("POST", p, cut=10, after=1) for p in parts
        ],
        "connection cut while what workers put, or are given, is read": [
            Fault("GET", p, cut=1000, times=2) for p in (given, ".tmp/parts/index")
        ],
        "answer 500 or 503, or a cut, where the store copies a shard": [  # it was put before
            Fault("PUT", "pool-00001.arrow", 500, times=3, after=1),
            Fault("PUT", "pool-00002.arrow", cut=0, times=2, after=1),
            Fault("PUT", "pool-00003.arrow", 503, times=3, after=1),
        ],
        "answer 500 where what workers put is removed": [Fault("POST", "?delete", 500, times=2)],
    }.items():  # fmt: skip
        found = passing(ground, faults)
        left = [n for n in ground.objects(f"s3://{ground.bucket}/{ground.number}") if ".tmp/" in n]
        yield kind, {**found, "outcome": "WRONG"} if left else found
    for kind, part in {
        "SIGKILL while workers put shards": ".tmp/pool-00002",
        "SIGKILL while the entry is made of them": "/pools/",
    }.items():
        yield kind, killed(ground, part, moves=True, last="entry.json")
    every = [Fault(m, ".tmp/pool-00002", 503, times=FOR_EVER) for m in ("PUT", "POST")]
    yield "the store stays down for a worker", lasting(ground, every)
    every = [Fault("PUT", "/pools/", 403, times=FOR_EVER)]
    yield "no right to put into the entry", lasting(ground, every)


def damaged(ground: Ground, change: Callable[[bytes], bytes | None]) -> dict[str, Any]:
    """Objects of the cache that are not what was put there."""
    url, count = ground.begin(), 0
    ground.run(url)
    for folder in ("pools", "scores"):
        for name, data in ground.objects(f"{url}/cache/{folder}").items():
            if name.endswith(("pool-00000.arrow", "records-00000.bin", "arrays.npz")):
                at, new = f"{url}/cache/{folder}/{name}".removeprefix("s3://"), change(data)
                ground.filesystem.delete_file(at)
                if new is not None:
                    with ground.filesystem.open_output_stream(at, compression=None) as out:
                        out.write(new)
                count += 1
    ground.filesystem.delete_dir(f"{url}/run".removeprefix("s3://"))
    ground.elsewhere()
    done = ground.run(url)
    told = any("is damaged" in change for change in done.changes)
    right = ground.right(url) and told
    return {"count": count, "outcome": "said, made again, same bytes" if right else "WRONG"}


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pool", type=Path)
    pool = arguments.parse_args().pool
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    table: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as home,
        stores.proxied(f"http://{host}:{port}") as (address, wire),
    ):
        os.environ["AWS_ENDPOINT_URL"] = address
        ground = Ground(pool, Path(home, "plain"), f"{host}:{port}", wire, "faults")

        def row(kind: str, found: dict[str, Any]) -> None:
            table.append({"kind": kind, **found})
            print(json.dumps(table[-1]), flush=True)

        data = (
            "scores.parquet",
            "train-00001",
            "records-00000.bin",
            "index.arrow",
            "manifest.json",
        )
        cached = ("pool-00000.arrow", "records-00000.bin", "meta.json", "entry.json")
        looked_at = [Fault("HEAD", d, 500, times=2) for d in ("order.parquet", "train-00002")]
        for kind, faults in {
            "answer 500 to a put": [Fault("PUT", d, 500, times=2) for d in data],
            "answer 503 where an upload begins or ends": [
                Fault("POST", d, 503, times=2) for d in data
            ],
            "slow answers, 1 s": [Fault("PUT", d, seconds=1) for d in data],
            "connection cut before the answer": [Fault("PUT", d, cut=0) for d in data],
            "the answer that an upload is done is lost": [
                Fault("POST", d, cut=10, after=1) for d in data
            ],
            "connection cut while the cache is read": [
                Fault("GET", d, cut=5000, times=2) for d in cached
            ],
            "answer 500 while the cache is read, and to a look": [
                *(Fault("GET", d, 500, times=2) for d in cached), *looked_at,
            ],
        }.items():  # fmt: skip
            row(kind, passing(ground, faults))
        for part in ("train-00002", "scores.parquet", "report.html"):
            row(f"SIGKILL while {part} is put", killed(ground, part, moves=False))
        for part in ("records-00000.bin", "train-00002"):
            row(f"SIGKILL while {part} is put; another machine goes on",
                killed(ground, part, moves=True))  # fmt: skip
        every = [Fault(m, "order.parquet", 503, times=FOR_EVER) for m in ("PUT", "POST")]
        row("the store stays down", lasting(ground, every))
        every = [Fault(m, "/run/", 403, times=FOR_EVER) for m in ("PUT", "POST")]
        row("no right to write", lasting(ground, every))
        every = [Fault(m, "/cache/", 403, times=FOR_EVER) for m in ("PUT", "POST")]
        row("no right to write the cache", lasting(ground, every))
        row("two runs at once into one folder", two_at_once(ground))
        row("two machines with one cache at once", shared_by_two(ground))
        row("two makers, no conditional puts", without_claims(ground))
        row("a flipped bit in the cache", damaged(ground, flipped))
        row(
            "an object of the cache cut short", damaged(ground, lambda data: data[: len(data) // 2])
        )
        row("an object of the cache gone", damaged(ground, lambda _: None))
        shards = Ground(
            pool, Path(home, "apart"), f"{host}:{port}", wire, "shards", APART,
            shard_bytes=SHARD_BYTES,
        )  # fmt: skip
        exec(APART)  # noqa: S102 - our own
        for kind, found in shared_by_workers(shards):
            row(kind, found)
    with suppress(Exception):
        server.stop()
    RESULTS.write_text(json.dumps({"machine": machine(), "faults": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
