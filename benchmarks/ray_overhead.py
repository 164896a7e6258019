"""What a Ray cluster costs beside threads, and what more nodes and workers gain: the main job.

    python benchmarks/ray_overhead.py POOL.jsonl.zst [--copies 10] [--repeats 3]

All nodes are on this machine, a core each. Processor seconds are those of all processes, Ray's own
too; what starting workers takes is told apart. Neighbours are compared, and medians told. Results
go to benchmarks/results/ray_overhead.json, from which `scale_model.py` foretells larger clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
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


def cpu_seconds(place: str) -> dict[int, float]:
    """Processor seconds of this process with its ended children, and of all clusters at a place."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {0: time.process_time() + ended.ru_utime + ended.ru_stime}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) == os.getpid():
                continue
            if place.encode() in (process / "environ").read_bytes():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                found[int(process.name)] = sum(map(int, fields[11:13])) / TICKS
    return found


@dataclass(frozen=True)
class Spent:
    """What some work took: seconds of all processors, of this process's, of a clock; by stage."""

    cpu: float
    driver: float
    wall: float
    stages: dict[str, Any]


def spent(place: str, work: Callable[..., Any], *given: Any, **named: Any) -> Spent:
    """What some work takes; of the main job, its stages too."""
    cpu, driver, wall = cpu_seconds(place), time.process_time(), time.perf_counter()
    stages = work(*given, **named) or {}
    wall = time.perf_counter() - wall
    taken = sum(after - cpu.get(process, 0.0) for process, after in cpu_seconds(place).items())
    return Spent(taken, time.process_time() - driver, wall, stages)


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


def told(runs: list[Spent]) -> dict[str, Any]:
    """Medians, and the stages of the fastest."""

    def median(of: Callable[[Spent], float]) -> float:
        return round(statistics.median(map(of, runs)), 2)

    out = {
        "cpu_seconds": median(lambda run: run.cpu),
        "driver_cpu_seconds": median(lambda run: run.driver),
        "wall_seconds": median(lambda run: run.wall),
        "stages": min(runs, key=lambda run: run.wall).stages,
    }
    return {name: value for name, value in out.items() if value != {}}


def ratios(first: list[Spent], second: list[Spent]) -> dict[str, float]:
    """Of neighbours: processor seconds and wall seconds, medians; wall seconds of the best."""
    pairs = list(zip(first, second, strict=True))
    return {
        "cpu": round(statistics.median(b.cpu / a.cpu for a, b in pairs), 3),
        "wall": round(statistics.median(b.wall / a.wall for a, b in pairs), 3),
        "best_wall": round(min(b.wall / a.wall for a, b in pairs), 3),
    }


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

    def main_job(self, **how: Any) -> dict[str, Any]:
        """The main job, from nothing; seconds of its stages."""
        config = {
            "data": {"path": str(self.path)}, "score": {"method": "compression"},
            "select": {"method": "top_k", "budget": {"ratio": 0.2}},
            "order": {"method": "fold", "layers": 3},
        }  # fmt: skip
        out, cache = self.fresh(), self.fresh()
        run = pipeline.run(config, out, cache_dir=cache, **how)
        for folder in (out, cache):
            shutil.rmtree(folder)
        return {
            stage.name: {
                "cpu_seconds": round(stage.measured.bill.charged.cpu_seconds, 2),
                "wall_seconds": round(stage.measured.wall_seconds, 2),
            }
            for stage in run.manifest.stages
        }

    def timed(self, work: Callable[..., Any], *given: Any, **named: Any) -> Spent:
        """What some work takes."""
        return spent(self.place, work, *given, **named)


def started(ground: Ground, workers: int, address: str, into: list[Clustered]) -> None:
    into.append(clustered(workers, address=address, cache_dir=ground.home))
    ready(into[-1])


def on_nodes(ground: Ground) -> dict[str, Any]:
    """The main job on 1, 2, 3 nodes of a core each, each beside threads or one node."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    runs: dict[int, list[Spent]] = {}
    found, executors = [], list[Clustered]()
    for n in (1, 2, 3):
        nodes.add_node(num_cpus=1, **SMALL)
        start_up = ground.timed(started, ground, n, nodes.address, executors)
        found.append({"nodes": n, "start_up": told([start_up])})
    by_threads = []
    for _ in range(ground.repeats):
        by_threads.append(ground.timed(ground.main_job, workers=2))
        for n in (2, 1, 3):
            on = {"workers": n, "executor": "ray", "address": nodes.address}
            runs.setdefault(n, []).append(ground.timed(ground.main_job, **on))
            print(n, told(runs[n]), flush=True)
    for n, line in enumerate(found, 1):
        line |= {"main_job": told(runs[n]), "to_one_node": ratios(runs[1], runs[n])}
    executors[-1].cluster.close()
    ray.shutdown()
    nodes.shutdown()
    beside = {"threads": told(by_threads), "two_nodes_to_threads": ratios(by_threads, runs[2])}
    return {"nodes": found, **beside}


def on_workers(ground: Ground) -> dict[str, Any]:
    """Scoring by 1, 2, 4 workers of one node, beside as many threads."""
    node = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, **SMALL})
    found, executors = [], list[Clustered]()
    for n in (1, 2, 4):
        started(ground, n, node.address, executors)
        by_ray, by_threads = [], []
        for _ in range(ground.repeats):
            by_threads.append(ground.timed(ground.score, threads(n)))
            by_ray.append(ground.timed(ground.score, executors[-1]))
        found.append(
            {"workers": n, "threads": told(by_threads), "ray": told(by_ray),
             "ray_to_threads": ratios(by_threads, by_ray)}
        )  # fmt: skip
        print(found[-1], flush=True)
    executors[-1].cluster.close()
    ray.shutdown()
    node.shutdown()
    return {"workers": found}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("pool", type=Path)
    ask.add_argument("--copies", type=int, default=10)
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
