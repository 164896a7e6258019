"""The main job against its floor: a plain loop that reads the same rows and compresses each one.

    python benchmarks/main_job.py [POOL.jsonl.zst] [--copies 10] [--repeats 3]

Each repetition times the floor and the whole command in turn, so that a slow moment of the machine
slows both; ratios are of neighbours. Without a pool it makes one from the standard library's docs.
Results go to benchmarks/results/main_job.json, with a description of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import zstandard

from didact._version import __version__
from didact.demo import write_demo_data
from didact.execution.measure import tree_memory

RESULTS = Path(__file__).resolve().parent / "results" / "main_job.json"
CONFIG = """\
data: {{path: "{pool}"}}
score: {{method: compression}}
select: {{method: top_k, budget: {{ratio: 0.2}}}}
order: {{method: fold, layers: 3}}
"""


def rows(path: Path) -> Any:
    """The lines of a JSONL file, plain or .zst."""
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
        rest = b""
        while chunk := stream.read(2**20):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
        if rest:
            yield rest


def text_of(row: dict[str, Any]) -> str:
    if "messages" in row:
        return "\n".join(m["content"] for m in row["messages"])
    return str(row["text"])


def floor(path: Path) -> float:
    """Seconds of one core: read, parse, compress each row's text with zlib 9."""
    began = time.perf_counter()
    size = 0
    for line in rows(path):
        size += len(zlib.compress(text_of(orjson.loads(line)).encode(), 9))
    assert size
    return time.perf_counter() - began


def whole(config: Path, folder: Path) -> tuple[float, int]:
    """Seconds and peak bytes, over all processes, of `didact run` from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "didact.cli", "run", str(config), "-o", str(folder / "out"),
               "--cache-dir", str(folder / "cache"), "--workers", "2"]  # fmt: skip
    began = time.perf_counter()
    peak = peak_of(command)
    return time.perf_counter() - began, peak


def peak_of(command: Sequence[str]) -> int:
    """Run a command; most bytes that its processes had together."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while child.poll() is None:
        peak = max(peak, tree_memory(child.pid))
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {child.returncode}")
    return peak


def copied(path: Path, copies: int, folder: Path) -> Path:
    """The pool several times over, with other ids and a word more in each copy: no duplicates."""
    out = folder / f"pool-{copies}.jsonl"
    with out.open("wb") as file:
        for copy in range(copies):
            for line in rows(path):
                row = orjson.loads(line)
                row["id"] = f"{row['id']}-{copy}"
                if "messages" in row:
                    row["messages"][0]["content"] += f" {copy}"
                else:
                    row["text"] += f" {copy}"
                file.write(orjson.dumps(row) + b"\n")
    return out


def machine() -> dict[str, Any]:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "didact": __version__,
    }


VERIFYING = """
import json, sys, time
import didact
from didact.core.checksums import CheckedFile
seconds = 0.0
verify = CheckedFile._verify
def timed(*arguments):
    global seconds
    began = time.thread_time()
    verify(*arguments)
    seconds += time.thread_time() - began
CheckedFile._verify = timed
didact.run(sys.argv[1], sys.argv[2] + "/out", cache_dir=sys.argv[2] + "/cache", workers=2)
print(json.dumps({"verifying": seconds, "all": time.process_time()}))
"""


def verifying(config: Path, folder: Path) -> dict[str, float]:
    """Processor seconds of verifying what is kept, of the same run's, measured inside of it."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-c", VERIFYING, str(config), str(folder)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {
        "cpu_seconds": round(found["verifying"], 3),
        "share": round(found["verifying"] / found["all"], 4),
    }


def stages(folder: Path) -> dict[str, dict[str, float]]:
    """What the run's own manifest says of each stage."""
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    return {
        s["name"]: {
            "cpu_seconds": round(s["measured"]["value"]["cpu_seconds"], 2),
            "wall_seconds": round(s["measured"]["wall_seconds"], 2),
            "peak_memory_mib": s["measured"]["peak_memory_bytes"] // 2**20,
        }
        for s in manifest["stages"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", nargs="?", type=Path)
    parser.add_argument("--copies", type=int, default=10, help="growth: this many times the rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="didact-bench-") as name:
        folder = Path(name)
        pool = arguments.pool or write_demo_data(folder)[0]
        large = copied(pool, arguments.copies, folder)
        result: dict[str, Any] = {"machine": machine(), "pool": pool.name, "runs": []}
        for path, key in ((pool, "pool"), (large, f"{arguments.copies} times the rows")):
            config = folder / "run.yaml"
            config.write_text(CONFIG.format(pool=path))
            n = sum(1 for _ in rows(path))
            pairs = []
            for _ in range(arguments.repeats):
                least = floor(path)
                seconds, peak = whole(config, folder / "work")
                pairs.append((least, seconds, peak))
                times = f"floor {least:.2f} s, run {seconds:.2f} s, {seconds / least:.2f} x"
                print(f"{key}: {times}, peak {peak / 2**20:.0f} MiB", flush=True)
            result["runs"].append(
                {
                    "what": key,
                    "rows": n,
                    "floor_seconds": round(statistics.median(p[0] for p in pairs), 2),
                    "run_seconds": round(statistics.median(p[1] for p in pairs), 2),
                    "ratio_to_floor": round(statistics.median(p[1] / p[0] for p in pairs), 2),
                    "peak_memory_mib": max(p[2] for p in pairs) // 2**20,
                    "stages": stages(folder / "work"),
                    "verifying": verifying(config, folder / "work"),
                }
            )
        small, big = result["runs"]
        growth = big["run_seconds"] / small["run_seconds"]
        result["growth"] = {"rows": round(big["rows"] / small["rows"], 2), "time": round(growth, 2)}
        extra = big["peak_memory_mib"] - small["peak_memory_mib"]
        result["growth"]["bytes_of_memory_per_extra_row"] = round(
            extra * 2**20 / (big["rows"] - small["rows"]), 1
        )
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["growth"]))
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
