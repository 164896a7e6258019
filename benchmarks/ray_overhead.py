"""What a Ray cluster costs beside threads: the main job, and scoring on more workers and nodes.

    python benchmarks/ray_overhead.py POOL.jsonl.zst [--copies 1] [--repeats 3]

All nodes are on this machine. Processor seconds are those of all processes, Ray's own too; what
starting workers takes is told apart. Pairs of neighbours are compared, and medians told. Results go
to benchmarks/results/ray_overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

# Ray gives workers the least of a busy machine, where threads of one process have their share.
os.environ |= {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
}  # fmt: skip

import ray
from ray.cluster_utils import Cluster

import didact
from didact import pipeline
from didact.core.cost import Metered
from didact.execution.cluster.executor import Clustered, clustered
from didact.execution.executors import threads
from main_job import copied, machine

RESULTS = Path(__file__).resolve().parent / "results" / "ray_overhead.json"
TICKS = os.sysconf("SC_CLK_TCK")
SMALL = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def cpu_seconds(place: str) -> float:
    """Processor seconds of this process, and of those of the clusters that live at a place."""
    total = time.process_time()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) == os.getpid():
                continue
            if place.encode() in (process / "environ").read_bytes():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:13])) / TICKS
    return total


def spent(place: str, work: Callable[..., Any], *given: Any, **named: Any) -> tuple[float, float]:
    """Processor and wall seconds of some work."""
    cpu, wall = cpu_seconds(place), time.perf_counter()
    work(*given, **named)
    return cpu_seconds(place) - cpu, time.perf_counter() - wall


def _process(_: Any, item: int) -> Metered[tuple[int, int]]:
    import didact.scoring.compression  # noqa: F401 - what scoring will need

    time.sleep(0.05)
    return Metered((os.getpid(), item))


def ready(executor: Clustered) -> None:
    """Every worker has started and imported what it needs."""
    seen: set[int] = set()
    while len(seen) < executor.workers:
        found = executor.map(_process, range(4 * executor.workers), shared=None)
        seen = {pid for pid, _ in found}


def medians(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Of processor and of wall seconds."""
    return {
        "cpu_seconds": round(statistics.median(cpu for cpu, _ in pairs), 2),
        "wall_seconds": round(statistics.median(wall for _, wall in pairs), 2),
    }


def ratio(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    """The median of the neighbours' ratios of processor seconds."""
    return round(statistics.median(b[0] / a[0] for a, b in zip(first, second, strict=True)), 3)


class Ground:
    """A pool, and caches that are used once."""

    def __init__(self, place: str, path: Path, repeats: int) -> None:
        self.place, self.path, self.repeats = place, path, repeats
        self.home = Path(place) / "didact"
        self.names = iter(range(1000))
        self.pool = didact.read(path, cache_dir=self.home / "pool")

    def fresh(self) -> Path:
        """A folder that is not there yet."""
        return self.home / f"fresh-{next(self.names)}"

    def score(self, executor: Any) -> None:
        """Score all rows by `compression`, from nothing."""
        ctx = didact.context(0, cache_dir=self.fresh())
        didact.score(self.pool, "compression", ctx=replace(ctx, executor=executor))

    def main_job(self, **how: Any) -> None:
        """The main job, from nothing."""
        config = {
            "data": {"path": str(self.path)}, "score": {"method": "compression"},
            "select": {"method": "top_k", "budget": {"ratio": 0.2}},
            "order": {"method": "fold", "layers": 3},
        }  # fmt: skip
        pipeline.run(config, self.fresh(), cache_dir=self.fresh(), **how)

    def timed(self, work: Callable[..., Any], *given: Any, **named: Any) -> tuple[float, float]:
        """Processor and wall seconds of some work."""
        return spent(self.place, work, *given, **named)


def started(ground: Ground, workers: int, address: str, into: list[Clustered]) -> None:
    into.append(clustered(workers, address=address, cache_dir=ground.home))
    ready(into[-1])


def on_nodes(ground: Ground) -> dict[str, Any]:
    """Scoring on 1, 2, 3 nodes of a core each; and on all of them the main job beside threads."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    found, executors = [], []
    for n in (1, 2, 3):
        nodes.add_node(num_cpus=1, **SMALL)
        start_up = ground.timed(started, ground, n, nodes.address, executors)
        runs = [ground.timed(ground.score, executors[-1]) for _ in range(ground.repeats)]
        found.append({"nodes": n, "score": medians(runs), "start_up": medians([start_up])})
        print(found[-1], flush=True)
    by_threads, by_ray = [], []
    for _ in range(ground.repeats):
        by_threads.append(ground.timed(ground.main_job, workers=2))
        by_ray.append(
            ground.timed(ground.main_job, workers=2, executor="ray", address=nodes.address)
        )
    job = {
        "threads": medians(by_threads), "ray": medians(by_ray),
        "cpu_ratio": ratio(by_threads, by_ray),
    }  # fmt: skip
    print(job, flush=True)
    executors[-1].cluster.close()
    ray.shutdown()
    nodes.shutdown()
    return {"nodes": found, "main_job": job}


def on_workers(ground: Ground) -> dict[str, Any]:
    """Scoring by 1, 2, 4 workers of one node, beside as many threads."""
    node = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, **SMALL})
    found, executors = [], []
    for n in (1, 2, 4):
        started(ground, n, node.address, executors)
        by_ray, by_threads = [], []
        for _ in range(ground.repeats):
            by_threads.append(ground.timed(ground.score, threads(n)))
            by_ray.append(ground.timed(ground.score, executors[-1]))
        found.append(
            {"workers": n, "threads": medians(by_threads), "ray": medians(by_ray),
             "cpu_ratio": ratio(by_threads, by_ray)}
        )  # fmt: skip
        print(found[-1], flush=True)
    executors[-1].cluster.close()
    ray.shutdown()
    node.shutdown()
    return {"workers": found}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("pool", type=Path)
    ask.add_argument("--copies", type=int, default=1)
    ask.add_argument("--repeats", type=int, default=3)
    given = ask.parse_args()
    out: dict[str, Any] = {"machine": {**machine(), "ray": ray.__version__}}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        os.environ["RAY_TMPDIR"] = place
        home = Path(place) / "didact"
        home.mkdir()
        path = given.pool if given.copies == 1 else copied(given.pool, given.copies, home)
        ground = Ground(place, path, given.repeats)
        out |= {"pool": given.pool.name, "rows": len(ground.pool), "repeats": given.repeats}
        for measured in (on_nodes, on_workers):
            out |= measured(ground)
            RESULTS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
