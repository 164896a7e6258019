"""Faults on a real Ray cluster: what is killed in the middle, how often, and what comes of it.

    python benchmarks/faults_ray.py [--count 5]

A head that works not and two nodes of a core each, on this machine; 160 rows are scored one at
a time. A run is right if its scores are those of one machine. Results go to
benchmarks/results/faults_ray.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

# Ray gives workers the least of a busy machine, where threads of one process have their share.
os.environ |= {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
}  # fmt: skip

import numpy as np
import orjson
import ray
from ray.cluster_utils import Cluster

from didact.data import tables
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "faults_ray.json"
ROWS = 160
SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
SLOW = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from didact.core.cost import Cost
from didact.core.one_pass import one_pass

def values(batch, deadly=-1):
    home = Path(__file__).parent
    time.sleep(0.03)
    with (home / "log").open("a") as log:
        log.write(f"{os.getpid()}\\n")
    found = [int(text.as_py().partition(" ")[0]) for text in batch.column("text")]
    if deadly in found:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.asarray(found, float)

@dataclass(frozen=True, kw_only=True)
class Slow:
    '''Sleeps. **Source:** none. **Cost:** none.'''

    deadly: int = -1
    needs_target = False
    def estimate(self, pool, target):
        return Cost()
    def fit(self, pool, target, ctx):
        from functools import partial
        return one_pass(partial(values, deadly=self.deadly), ("text",))
"""


class Ground:
    """A pool, a plug-in that scores it slowly, and a cluster."""

    def __init__(self, home: Path) -> None:
        self.home = home
        rows = [{"id": f"r{i}", "text": f"{i} and more"} for i in range(ROWS)]
        (home / "pool.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
        (home / "slow.py").write_text(SLOW)
        about = home / "slow-0.1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 0.1\n")
        (about / "entry_points.txt").write_text("[didact.scorers]\nslow = slow:Slow\n")
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        self.nodes = [self.cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]

    @contextmanager
    def running(
        self, cache: Path, address: str | None = "", *more: str, **environment: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A `didact score` in the middle of its work."""
        (self.home / "log").unlink(missing_ok=True)
        with self.started(cache, address, *more, **environment) as program:
            while not (self.home / "log").exists() or len(self.pids()) < 20:
                if program.poll() is not None:
                    raise SystemExit(program.communicate()[1])
                time.sleep(0.02)
            yield program

    def started(
        self, cache: Path, address: str | None = "", *more: str, **environment: str
    ) -> subprocess.Popen[str]:
        """A `didact score`; an address of None leaves it out."""
        where = [] if address is None else ["--ray-address", address or self.cluster.address]
        command = [
            sys.executable, "-m", "didact.cli", "score", str(self.home / "pool.jsonl"), "--method",
            "slow", "--data", "batch_rows=1", "--executor", "ray", *where, "--cache-dir",
            str(cache), "-o", str(cache / "scores.parquet"), *more,
        ]  # fmt: skip
        path = os.pathsep.join([str(self.home), os.environ.get("PYTHONPATH", "")])
        cache.mkdir(exist_ok=True)
        return subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path, **environment}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Workers, by the rows they scored, in order."""
        with suppress(OSError):
            return [int(line) for line in (self.home / "log").read_text().split()]
        return []

    def right(self, cache: Path) -> bool:
        """Whether the scores are what they should be."""
        scores = tables.read_scores(cache / "scores.parquet")
        return bool(np.array_equal(scores.values, np.arange(ROWS)))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def gone(pids: set[int], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(map(alive, pids))


def those_with(place: str) -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if place.encode() in (process / "environ").read_bytes():
                found.add(int(process.name))
    return found


def worker_killed(ground: Ground, cache: Path) -> str:
    with ground.running(cache) as program:
        os.kill(ground.pids()[-1], signal.SIGKILL)
        said = program.communicate()[1]
    ok = program.returncode == 0 and ground.right(cache) and "tried again elsewhere" in said
    return "same scores" if ok else f"wrong: {said}"


def node_killed(ground: Ground, cache: Path) -> str:
    with ground.running(cache) as program:
        ground.cluster.remove_node(ground.nodes.pop(), allow_graceful=False)
        said = program.communicate()[1]
    ground.nodes.append(ground.cluster.add_node(num_cpus=1, **SMALL))
    ok = program.returncode == 0 and ground.right(cache)
    return "same scores" if ok else f"wrong: {said}"


def deadly_item(ground: Ground, cache: Path) -> str:
    with ground.started(cache, "", "--set", "deadly=77") as program:
        said = program.communicate()[1]
    named = "range(77, 78): its worker died 3 times" in said and program.returncode == 1
    return "the item is named after three deaths" if named else f"wrong: {said}"


def driver_killed(ground: Ground, cache: Path) -> str:
    with ground.running(cache) as program:
        while not list(cache.glob("unfinished/scores-*/pass-0-000000/entry.json")):
            time.sleep(0.02)
        program.kill()
    workers = set(ground.pids())
    left = "" if gone(workers) else "; workers are left"
    (ground.home / "log").unlink()
    with ground.started(cache) as program:
        said = program.communicate()[1]
    ok = program.returncode == 0 and ground.right(cache) and len(ground.pids()) == ROWS - 64
    return f"same scores, kept pieces are not made again{left}" if ok else f"wrong: {said}"


def interrupted(number: int, ground: Ground, cache: Path) -> str:
    with ground.running(cache) as program:
        os.killpg(program.pid, number)
        said = program.communicate()[1]
    ok = gone(set(ground.pids())) and program.returncode == 128 + number
    live = sum(node["Alive"] for node in ray.nodes()) if ray.is_initialized() else 3
    ok = ok and live >= 3 and "run the same command again" in said
    return "no worker is left, the cluster stays" if ok else f"wrong: {program.returncode} {said}"


def own_cluster(number: int, ground: Ground, cache: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        home = cache / "home"
        environment = {"RAY_TMPDIR": place, "RAY_AUTH_MODE": "", "HOME": str(home)}
        with ground.running(cache, None, **environment) as program:
            there = those_with(place)
            os.killpg(program.pid, number)
            said = program.communicate()[1]
        ok = len(there) > 3 and gone(there) and not those_with(place) and not home.exists()
    return "no process is left" if ok else f"wrong: {said}"


def refused(address: str, message: str, ground: Ground, cache: Path) -> str:
    with ground.started(cache, address) as program:
        said = program.communicate()[1]
    return message if program.returncode == 1 and message in said else f"wrong: {said}"


def another_didact(ground: Ground, cache: Path) -> str:
    other = cache / "other" / "didact"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "_version.py").write_text('__version__ = "0.0.7"\n')
    node = ground.cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(other.parent)}, **SMALL)
    found = refused("", "didact 0.0.7, ", ground, cache)
    ground.cluster.remove_node(node, allow_graceful=False)
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--count", type=int, default=5, help="how often each kill is tried")
    ask.add_argument("--only", nargs="*", help="faults to try again; others stay as they are")
    given = ask.parse_args()
    count, only = given.count, given.only
    # A shell lets what it starts in the background ignore Ctrl-C, and so would what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        os.environ["RAY_TMPDIR"] = place
        home = Path(place) / "didact"
        home.mkdir()
        ground = Ground(home)
        with (
            closing(socket.create_server(("127.0.0.1", 0))) as free,
            closing(socket.create_server(("127.0.0.1", 0))) as deaf,
        ):
            nowhere, deaf_one = (f"127.0.0.1:{s.getsockname()[1]}" for s in (free, deaf))
            free.close()
            faults: list[tuple[str, int, Callable[[Ground, Path], str]]] = [
                ("worker killed", count, worker_killed),
                ("node killed", count, node_killed),
                ("an item kills its workers", 2, deadly_item),
                ("driver killed and started again", count, driver_killed),
                ("Ctrl-C, on a cluster of others", count, partial(interrupted, signal.SIGINT)),
                ("SIGTERM, on a cluster of others", count, partial(interrupted, signal.SIGTERM)),
                ("Ctrl-C, on a cluster of its own", count, partial(own_cluster, signal.SIGINT)),
                ("SIGTERM, on a cluster of its own", count, partial(own_cluster, signal.SIGTERM)),
                ("SIGKILL, on a cluster of its own", count, partial(own_cluster, signal.SIGKILL)),
                ("nothing at the address", 1, partial(refused, nowhere, "no cluster answers")),
                ("something else at the address", 1,
                 partial(refused, deaf_one, "the cluster does not take this process")),
                ("another didact on a node", 1, another_didact),
            ]  # fmt: skip
            table: list[dict[str, Any]] = []
            if only is not None:
                table = json.loads(RESULTS.read_text())["faults"]
                faults = [fault for fault in faults if fault[0] in only]
                table = [row for row in table if row["kind"] not in only]
            for kind, times, fault in faults:
                outcomes: dict[str, int] = {}
                seconds = []
                for i in range(times):
                    began = time.monotonic()
                    outcome = fault(ground, home / f"{len(table)}-{i}")
                    seconds.append(round(time.monotonic() - began, 1))
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                table.append(
                    {"kind": kind, "count": times, "outcome": outcomes, "seconds": seconds}
                )
                print(table[-1], flush=True)
                told = {"machine": {**machine(), "ray": ray.__version__}, "rows": ROWS}
                RESULTS.write_text(json.dumps({**told, "faults": table}, indent=1) + "\n")
        ground.cluster.shutdown()


if __name__ == "__main__":
    main()
