"""At most 100 bytes a row stay in memory, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 20_000, 220_000

# Reads a pool of n rows from the cache or into it, uses it, and prints resident bytes: after the
# columns in memory are there, and the peak. glibc's thresholds are fixed, so that what is freed
# goes back to the system at once and is not counted.
SCRIPT = """
import gc, sys
from pathlib import Path
import numpy as np
import didact
from didact.core.scores import Scores
from didact.data import tables

def told(what):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024

def resident():
    gc.collect()
    return told("VmRSS")

path, cache, what = sys.argv[1:]
pool = didact.read(path, cache_dir=cache, shard_bytes=2**20)  # what one shard takes is no matter
if what == "use":
    n = len(pool)
    for name in ("n_bytes", "n_tokens", "id_hash", "content_hash", "source_codes", "task_codes",
                 "copy_number", "in_validation"):
        getattr(pool, name)
    pool.known(np.zeros(1, int))  # and where records lie: all columns come into memory
    loaded = resident()
    values = np.arange(n, dtype=float)
    scores = Scores(values, True, "test", pool.fingerprint)
    scores_path = Path(cache) / "scores.parquet"
    tables.write_scores(scores, pool, scores_path)
    del scores, values
    assert len(tables.read_scores(scores_path)) == n
    assert len(didact.verbs.everything(pool, None)) == n
    assert sum(1 for rows in pool.batches() for _ in pool.records(rows)) == n
else:
    loaded = resident()
print(loaded, told("VmHWM"))  # the peak of getrusage begins with what the parent had
"""


def measured(tmp_path: Path, n: int, what: str) -> tuple[int, int]:
    path = tmp_path / f"{n}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            for i in range(n):
                file.write(
                    f'{{"id": "row-{i}", "text": "text of row {i}", "source": "s{i % 9}"}}\n'
                )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "cache"), what],
        capture_output=True, text=True, check=True,
        env={"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536",
             "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system",
             "PYTHONPATH": ":".join(p for p in sys.path if p)},
    )  # fmt: skip
    loaded, peak = (int(x) for x in done.stdout.split())
    return loaded, peak


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_at_most_100_bytes_a_row_stay_in_memory(tmp_path):
    a_row = {}
    for what in ("read", "use"):
        few, many = (measured(tmp_path, n, what) for n in (FEW, MANY))
        for when, less, more in zip(("now", "peak"), few, many, strict=True):
            a_row[what, when] = (more - less) / (MANY - FEW)
    assert max(a_row.values()) <= 100, a_row
    # The columns in memory take 57 bytes; much less would mean that nothing was measured.
    assert a_row["use", "now"] >= 50, a_row
