"""What one exact size costs: the counting kernel beside copies of zlib's compressor.

    python benchmarks/deflate.py POOL.jsonl[.zst] [--candidates 2000] [--repeats 7]

Prefix and candidates are random rows as Python prints them. Every repetition times, in turn and in
one process, both backends on the same candidates for a short and a long prefix, and what zlib 9
takes for the candidates alone and as one stream, which is the floor of whatever asks zlib. All by
processor time of one thread, except for threads: their clock is the one on the wall, best of all
repetitions. Compilation is timed in processes of their own. Results, medians, go to
benchmarks/results/deflate.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import zstandard

from didact._version import __version__
from didact.text.deflate.sizes import DeflateSizes, Texts

RESULTS = Path(__file__).resolve().parent / "results" / "deflate.json"
PREFIXES = (34_000, 3_000_000)
FIRST_CALL = """
import time
began = time.process_time()
import numpy as np
from didact.text.deflate.sizes import DeflateSizes, Texts
sizes = DeflateSizes(Texts(np.zeros(9, np.uint8), np.array([0, 9])), backend="numba")
sizes.feed(np.zeros(9, np.uint8))
sizes.sizes(np.array([0]))
print(time.process_time() - began)
"""


def rows_of(path: Path, n_bytes: int, candidates: int) -> tuple[list[bytes], bytes]:
    """Random rows: the candidates, and a prefix."""
    file = zstandard.open(path, "rb") if path.suffix == ".zst" else path.open("rb")
    with file:
        lines = file.read().splitlines()
    rows = []
    for i in np.random.default_rng(0).permutation(len(lines)):
        rows.append(str(json.loads(lines[i])).encode())
        n_bytes -= len(rows[-1]) if len(rows) > candidates else 0
        if n_bytes < 0:
            return rows[:candidates], b", ".join(rows[candidates:])
    raise SystemExit(f"{path} is too small")


def timed(function: Callable[[], Any], clock: Callable[[], float] = time.thread_time) -> float:
    began = clock()
    function()
    return clock() - began


def measure(rows: list[bytes], prefix: bytes, repeats: int) -> dict[str, Any]:
    """Microseconds a candidate after one prefix."""
    texts = Texts(np.frombuffer(b"".join(rows), np.uint8), np.cumsum([0, *map(len, rows)]))
    data, every = np.frombuffer(prefix, np.uint8), np.arange(len(rows))
    one_byte = Texts(np.zeros(1, np.uint8), np.array([0, 1]))
    joined = b"".join(rows)
    with (
        DeflateSizes(texts, backend="numba") as ours,
        DeflateSizes(texts, backend="numba", workers=2) as both,
        DeflateSizes(texts, backend="zlib") as copies,
        DeflateSizes(one_byte, backend="numba") as smallest,
    ):
        for sizes in (both, copies, smallest):
            sizes.feed(data)
            sizes.sizes(np.zeros(4, np.int64))
        ours.sizes(every[:1])
        ours.feed(data)
        feeding = timed(lambda: ours.sizes(every[:1]))
        assert (ours.sizes(every) == copies.sizes(every)).all()
        assert (both.sizes(every) == copies.sizes(every)).all()
        found: dict[str, list[float]] = {}
        for _ in range(repeats):
            for name, function in {
                "kernel": lambda: ours.sizes(every),
                "zlib_copy": lambda: copies.sizes(every),
                "kernel_of_one_byte": lambda: smallest.sizes(np.zeros(len(rows), np.int64)),
                "floor_zlib_alone": lambda: [zlib.compress(row, 9) for row in rows],
                "floor_zlib_stream": lambda: zlib.compress(joined, 9),
            }.items():
                found.setdefault(name, []).append(timed(function) / len(rows) * 1e6)
            for name, sizes in (("one_thread", ours), ("two_threads", both)):
                seconds = timed(lambda sizes=sizes: sizes.sizes(every), time.perf_counter)  # type: ignore[misc]
                found.setdefault(name, []).append(seconds / len(rows) * 1e6)
            process = [
                timed(lambda sizes=sizes: sizes.sizes(every), time.process_time)  # type: ignore[misc]
                for sizes in (both, ours)
            ]
            found.setdefault("processor_ratio", []).append(process[0] / process[1])
    extra = statistics.median(found.pop("processor_ratio"))
    threads = {name: min(found.pop(name)) for name in ("one_thread", "two_threads")}
    medians = {name: statistics.median(values) for name, values in found.items()}
    pairs = zip(found["kernel"], found["zlib_copy"], strict=True)
    return {
        "prefix_bytes": len(prefix),
        "candidates": len(rows),
        "mean_bytes": len(joined) / len(rows),
        "microseconds": {name: round(value, 2) for name, value in medians.items()},
        "kernel_over_zlib_copy": round(statistics.median(a / b for a, b in pairs), 3),
        "best_wall_microseconds": {name: round(value, 2) for name, value in threads.items()},
        "two_threads_times_as_fast": round(threads["one_thread"] / threads["two_threads"], 2),
        "two_threads_processor_time_over_one": round(extra, 3),
        "feed_megabytes_per_second": round(len(prefix) / feeding / 1e6, 1),
    }


def first_calls() -> dict[str, float]:
    """Processor seconds of the first size in a new process, imports included."""
    with tempfile.TemporaryDirectory(prefix="didact-bench-") as cache:
        seconds = [
            float(
                subprocess.check_output(
                    [sys.executable, "-c", FIRST_CALL],
                    env={**os.environ, "NUMBA_CACHE_DIR": cache},
                )
            )
            for _ in range(2)
        ]
    return {"compiling": round(seconds[0], 2), "from_cache": round(seconds[1], 2)}


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "numba": numba.__version__,
        "didact": __version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows, prefix = rows_of(arguments.pool, max(PREFIXES), arguments.candidates)
    calls = first_calls()
    runs = [measure(rows, prefix[:n], arguments.repeats) for n in PREFIXES]
    result = {
        "machine": machine(), "pool": arguments.pool.name, "repeats": arguments.repeats,
        "first_call_seconds": calls, "runs": runs,
    }  # fmt: skip
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
