"""Reading: what a row costs in each step, in one process and on workers, and the driver's memory.

    python benchmarks/reading.py [POOL.jsonl.zst] [--copies 5] [--repeats 3]

Each repetition reads in one process and on two workers in turn, from nothing; ratios are of
neighbors. CPU seconds count all processes, starting them too. The driver's memory is its peak, and
what it grows by for every row more. Results go to benchmarks/results/reading.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from didact.demo import write_demo_data
from didact.execution.measure import tree_memory
from main_job import copied, machine

RESULTS = Path(__file__).resolve().parent / "results" / "reading.json"

READ = """
import json, resource, sys, time
import didact
from didact.data.reading.settings import DataSettings
from didact.verbs import context, read_with_inputs
began = time.perf_counter()
ctx = context(workers=int(sys.argv[3]), cache_dir=sys.argv[2])
pool = read_with_inputs(sys.argv[1], DataSettings(), ctx).pool
wall = time.perf_counter() - began
own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({
    "rows": len(pool), "fingerprint": pool.fingerprint, "wall_seconds": wall,
    "cpu_seconds": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
    "driver_cpu_seconds": own.ru_utime + own.ru_stime, "driver_peak_bytes": own.ru_maxrss * 1024,
}))
"""

STEPS = """
import json, sys, time
from collections import Counter
import didact
from didact.core.checksums import Checksums
from didact.data.reading import json_rows, reader
from didact.data.store import lessons, record_writers
from didact.data.store import shard_writer as shard
from didact.data.reading.settings import DataSettings
from didact.verbs import context, read_with_inputs
seconds = Counter()
def timed(holder, name, step):
    inner = getattr(holder, name)
    def call(*arguments, **more):
        began = time.thread_time()
        try:
            return inner(*arguments, **more)
        finally:
            seconds[step] += time.thread_time() - began
    setattr(holder, name, call)
timed(shard, "content_hashes", "hash contents and ids")
timed(shard, "text_hashes", "hash contents and ids")
timed(shard, "turns_array", "turns into columns")
timed(record_writers.JsonRecords, "write", "write")
timed(record_writers.ArrowWriter, "write", "write")
timed(lessons, "kinds_of", "what rows show")
timed(shard.ShardWriter, "add", "add")
timed(reader.Reader, "read", "read")
pool = read_with_inputs(sys.argv[1], DataSettings(), context(workers=1, cache_dir=sys.argv[2])).pool
parse = time.thread_time()
loads, n = json_rows.orjson.loads, 0
for record in pool.records(range(len(pool))):
    n += len(record)
walked = time.thread_time()
for record in pool.records(range(len(pool))):
    loads(record)
seconds["parse"] = (time.thread_time() - walked) - (walked - parse)
print(json.dumps(seconds))
"""


def child(script: str, *arguments: str | Path) -> tuple[dict[str, Any], int]:
    """What a script prints, and the peak memory of it and its workers."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.02)
        assert process.stdout is not None
        return json.loads(process.stdout.read()), peak


def reading(pool: Path, folder: Path, workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        found, peak = child(READ, pool, cache, str(workers))
    return {**found, "peak_bytes": peak}


def shares(pool: Path, folder: Path) -> dict[str, float]:
    """Share of each step in the processor time of one process."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        seconds, _ = child(STEPS, pool, cache)
    inside = ("hash contents and ids", "turns into columns", "write", "what rows show")
    seconds["rest of a batch"] = seconds.pop("add") - sum(seconds[step] for step in inside)
    read = seconds.pop("read")
    batches = sum(seconds[step] for step in (*inside, "rest of a batch"))
    seconds["lines, and rows into turns"] = read - batches - seconds["parse"]
    return {step: round(value / read, 3) for step, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", nargs="?", type=Path)
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="didact-bench-") as name:
        folder = Path(name)
        pool = arguments.pool or write_demo_data(folder)[0]
        pairs = [tuple(reading(pool, folder, w) for w in (1, 2)) for _ in range(arguments.repeats)]
        assert len({found["fingerprint"] for pair in pairs for found in pair}) == 1
        large = reading(copied(pool, arguments.copies, folder), folder, 2)
        small = pairs[0][1]
        more = large["rows"] - small["rows"]
        result = {
            "machine": machine(),
            "pool": pool.name,
            "rows": small["rows"],
            "shares_of_one_process": shares(pool, folder),
            "two_workers_to_one_process": {
                what: round(statistics.median(two[what] / one[what] for one, two in pairs), 2)
                for what in ("wall_seconds", "cpu_seconds")
            },
            "pairs": pairs,
            "large": large,
            "driver_bytes_a_row_more": round(
                (large["driver_peak_bytes"] - small["driver_peak_bytes"]) / more, 1
            ),
            "all_bytes_a_row_more": round((large["peak_bytes"] - small["peak_bytes"]) / more, 1),
        }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    told = ("shares_of_one_process", "two_workers_to_one_process", "driver_bytes_a_row_more")
    print(json.dumps({what: result[what] for what in told}))


if __name__ == "__main__":
    main()
