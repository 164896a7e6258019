"""What a Ray cluster costs beside threads: the main job, and scoring on more workers and nodes.

    python benchmarks/ray_overhead.py POOL.jsonl.zst [--copies 1] [--repeats 3]

All nodes are on this machine. Processor seconds are of all processes, Ray's own among them; starting
a cluster and its workers is told apart. Pairs of neighbours are compared, and medians told. Results
go to benchmarks/results/ray_overhead.json.
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
from didact.core.cost import Cost, Metered
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


def spent(place: str, work: Callable[[], Any]) -> tuple[float, float]:
    """Processor and wall seconds of some work."""
    cpu, wall = cpu_seconds(place), time.perf_counter()
    work()
    return cpu_seconds(place) - cpu, time.perf_counter() - wall


def _nothing(_: Any, item: int) -> Metered[int]:
    time.sleep(0.05)
    import didact.scoring.compression

    return Metered(os.getpid() + 0 * len(didact.scoring.compression.__name__), Cost())


def ready(executor: Clustered) -> None:
    """Every worker has started and imported what it needs."""
    while (
        len(set(executor.map(_nothing, range(4 * executor.workers), shared=None)))
        < executor.workers
    ):
        pass


def scoring(pool: Any, cache: Path, executor: Any) -> None:
    ctx = didact.context(0, cache_dir=cache)
    object.__setattr__(ctx, "executor", executor.charging(ctx.meter))
    didact.score(pool, "compression", ctx=ctx)


def medians(pairs: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "cpu_seconds": round(statistics.median(cpu for cpu, _ in pairs), 2),
        "wall_seconds": round(statistics.median(wall for _, wall in pairs), 2),
    }


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
        pool = didact.read(path, cache_dir=home / "pool")
        out |= {"pool": given.pool.name, "rows": len(pool), "repeats": given.repeats}
        names = iter(range(1000))

        def fresh() -> Path:
            return home / f"cache-{next(names)}"

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        out["nodes"], measured = [], {}
        for n in (1, 2, 3):
            nodes.add_node(num_cpus=1, **SMALL)
            executor = None

            def start() -> None:
                nonlocal executor
                executor = clustered(n, address=nodes.address, cache_dir=home)
                ready(executor)

            start_up = spent(place, start)
            runs = [
                spent(place, lambda: scoring(pool, fresh(), executor)) for _ in range(given.repeats)
            ]
            out["nodes"].append(
                {"nodes": n, "score": medians(runs), "start_up": medians([start_up])}
            )
            print(out["nodes"][-1])
        config = {
            "data": {"path": str(path)}, "score": {"method": "compression"},
            "select": {"method": "top_k", "budget": {"ratio": 0.2}},
            "order": {"method": "fold", "layers": 3},
        }  # fmt: skip
        kinds = {
            "threads": {"workers": 2},
            "ray": {"workers": 2, "executor": "ray", "address": nodes.address},
        }
        measured = {kind: [] for kind in kinds}
        for _ in range(given.repeats):
            for kind, how in kinds.items():
                cache, folder = fresh(), fresh()
                run = spent(place, lambda: pipeline.run(config, folder, cache_dir=cache, **how))
                measured[kind].append(run)
        ratios = [b[0] / a[0] for a, b in zip(measured["threads"], measured["ray"], strict=True)]
        out["main_job"] = {kind: medians(runs) for kind, runs in measured.items()}
        out["main_job"]["cpu_ratio"] = round(statistics.median(ratios), 3)
        print(out["main_job"])
        executor.cluster.close()
        ray.shutdown()
        nodes.shutdown()

        one = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, **SMALL})
        out["workers"] = []
        for n in (1, 2, 4):
            executor = clustered(n, address=one.address, cache_dir=home)
            ready(executor)
            by_ray, by_threads = [], []
            for _ in range(given.repeats):
                by_threads.append(spent(place, lambda: scoring(pool, fresh(), threads(n))))
                by_ray.append(spent(place, lambda: scoring(pool, fresh(), executor)))
            ratios = [b[0] / a[0] for a, b in zip(by_threads, by_ray, strict=True)]
            out["workers"].append(
                {"workers": n, "threads": medians(by_threads), "ray": medians(by_ray),
                 "cpu_ratio": round(statistics.median(ratios), 3)}
            )  # fmt: skip
            print(out["workers"][-1])
        executor.cluster.close()
        ray.shutdown()
        one.shutdown()
    RESULTS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
