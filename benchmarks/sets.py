"""Whole-set selection by two versions of didact in one run: seconds, and whether picks are equal.

    python benchmarks/sets.py POOL --before SRC [--workers 1 2] [--repeats 3] [-o RESULT]

SRC is the folder `src` of another version. Versions take turns, each selection in a process of its
own with an empty cache; medians are reported. A fifth of the tokens is chosen. The floor is a pass
over the texts: every batch of the store read once and nothing done with it. What workers do not
share is the caller's thread; on cores that are idle the wall time is the larger of its seconds and
of all seconds over the number of workers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "sets.json"
METHODS = ("feature_based", "shingle_novelty")
SHARE = 0.2


def measure(path: str, cache: str, method: str, workers: int) -> dict[str, Any]:
    """One selection, or a pass over the texts where the method is `floor`."""
    import numpy as np

    import didact

    pool = didact.read(path, cache_dir=cache)
    rows = np.arange(len(pool))
    with tempfile.TemporaryDirectory(dir=cache) as own:
        ctx = didact.context(workers=workers, cache_dir=own)
        budget = didact.Budget(tokens=int(SHARE * pool.n_tokens.sum()))
        all_of_it, caller = time.process_time(), time.thread_time()
        picks = b""
        if method == "floor":
            for _ in pool.texts(rows):
                pass
        else:
            chosen = didact.select(pool, None, method, budget=budget, ctx=ctx)
            picks = chosen.best_first().tobytes()
        return {
            "rows": len(pool), "bytes": int(pool.n_bytes.sum()),
            "cpu_seconds": time.process_time() - all_of_it,
            "callers_seconds": time.thread_time() - caller,
            "picks": hashlib.blake2b(picks, digest_size=8).hexdigest(),
        }  # fmt: skip


def apart(source: Path, *words: str) -> dict[str, Any]:
    """`measure` in a process that imports one version."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *words], check=True, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(source.resolve())},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def first_rows(path: str, cache: str, n: int) -> Iterator[bytes]:
    """The first rows of a pool as lines of JSON."""
    import didact

    pool = didact.read(path, cache_dir=cache)
    return (row + b"\n" for row in pool.records(range(min(n, len(pool)))))


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        path, cache, method, workers = sys.argv[2:]
        print(json.dumps(measure(path, cache, method, int(workers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where the pool may be kept")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    from main_job import machine

    versions = {"before": options.before, "after": Path(__file__).resolve().parents[1] / "src"}
    cache = str(options.cache or tempfile.mkdtemp())
    arms: dict[str, Any] = {}
    runs: dict[str, list[dict[str, Any]]] = {}
    asked = [(m, w) for m in options.methods for w in options.workers]
    few = Path(cache) / "few.jsonl"
    few.write_bytes(b"".join(first_rows(str(options.pool), cache, 1000)))
    for method, source in ((m, s) for m in options.methods for s in versions.values()):
        apart(source, str(few), cache, method, "1")  # compiles
    for _ in range(options.repeats):
        for method, workers, name in ((*each, name) for each in asked for name in versions):
            found = apart(versions[name], str(options.pool), cache, method, str(workers))
            runs.setdefault(f"{method} {workers} {name}", []).append(found)
            print(method, workers, name, found, flush=True)
        floor = apart(versions["after"], str(options.pool), cache, "floor", "1")
        runs.setdefault("floor", []).append(floor)
    for name, of in runs.items():
        arms[name] = {
            "rows": of[0]["rows"], "bytes": of[0]["bytes"],
            **{key: round(statistics.median(run[key] for run in of), 2)
               for key in ("cpu_seconds", "callers_seconds")},
            "picks": sorted({run["picks"] for run in of}),
        }  # fmt: skip
    for method in options.methods:
        picks = {tuple(arms[name]["picks"]) for name in arms if name.startswith(f"{method} ")}
        arms[f"{method} equal picks"] = len(picks) == 1 and len(next(iter(picks))) == 1
    setup = {"pool": options.pool.name, "share": SHARE, "repeats": options.repeats}
    result = {"machine": machine(), "setup": setup, "arms": arms}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
