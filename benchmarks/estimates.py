"""Processor seconds as estimated and as measured, both over those of `compression` in the same run.

    python benchmarks/estimates.py POOL TARGET [--rows 40000] [--budget 0.2] [--repeats 3]

Absolute seconds are a machine's; what an estimate must get right is how methods compare. The pool
is drawn from POOL; nothing is found in a cache. Methods take turns, repeat by repeat, and the
median of the repeats is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import didact
from didact import Budget
from didact.core import registry
from didact.core.pool import Pool
from didact.verbs import estimate_selection
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "estimates.json"
SCORERS: dict[str, dict[str, Any]] = {
    "compression": {}, "length": {"unit": "words"}, "bm25": {}, "dsir": {},
    "dsir, released": {"features": "released"}, "ngram_perplexity": {},
    "ngram_perplexity, characters": {"unit": "characters"},
    "zip_fit, 16 a task": {"max_targets": 16},
    "zip_fit, 16 a task, lz4": {"max_targets": 16, "codec": "lz4"}, "classifier": {},
    "learned_grade": {"grade": "grade"},
}  # fmt: skip
UNAIMED = {"compression", "length", "learned_grade"}  # scorers that take no target
GRADED = 2000  # rows with a grade, the logarithm of their bytes
SELECTORS: dict[str, dict[str, Any]] = {
    "feature_based": {},
    "feature_based, no filter": {"noise": 0.0},
    "feature_based, near-duplicates refused": {"near_duplicates": {}},
    "shingle_novelty": {},
    "shingle_novelty, no filter": {"noise": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("target")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    pool, target = drawn(options.pool, options.rows), didact.read(options.target, on_bad_row="skip")
    arms: dict[str, Callable[[], float]] = {}
    foreseen: dict[str, float] = {}
    for name, settings in SCORERS.items():
        method = name.split(",")[0]
        aim = None if method in UNAIMED else target
        arms[name] = scoring(pool, aim, method, settings)
        scorer = registry.find("scorers", method)(**settings)
        foreseen[name] = scorer.estimate(pool.stats, aim.stats if aim else None).cpu_seconds
    budget = Budget(tokens=round(options.budget * pool.stats.n_tokens))
    for name, settings in SELECTORS.items():
        method = name.split(",")[0]
        arms[name] = selecting(pool, method, budget, settings)
        foreseen[name] = estimate_selection(pool, method, budget=budget, **settings).cpu_seconds
    for arm in arms.values():  # compiled before it is measured
        arm()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.repeats):
        for name, arm in arms.items():
            found[name].append(arm())
    table = {}
    for name, seconds in found.items():
        ratio = statistics.median(s / c for s, c in zip(seconds, found["compression"], strict=True))
        estimated = foreseen[name] / foreseen["compression"]
        table[name] = {
            "estimated": round(estimated, 2),
            "measured": round(ratio, 2),
            "off": round(estimated / ratio - 1, 2),
        }
    result = {
        "pool": f"{len(pool)} rows of {Path(options.pool).name}, {pool.stats.n_bytes} bytes",
        "budget": f"{options.budget:g} of the tokens",
        "over compression": table,
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    kept[Path(options.pool).name.split(".")[0]] = result
    options.output.write_text(json.dumps(kept, indent=1) + "\n")


def drawn(path: str, rows: int) -> Pool:
    """So many random rows of a pool, in their order, some of them with a grade."""
    whole = didact.read(path)
    mixed = np.random.default_rng(0).permutation(len(whole))[:rows]
    graded = set(mixed[:GRADED].tolist())
    some = np.sort(mixed)
    file = Path(tempfile.mkdtemp()) / "pool.jsonl"
    with file.open("wb") as lines:
        for row, line in zip(some.tolist(), whole.records(some), strict=True):
            more = {"grade": float(np.log(whole.n_bytes[row]))} if row in graded else {}
            lines.write((json.dumps(json.loads(line) | more) if more else line.decode()).encode())
            lines.write(b"\n")
    return didact.read(file)


def scoring(
    pool: Pool, target: Pool | None, name: str, settings: dict[str, Any]
) -> Callable[[], float]:
    return measured(lambda ctx: didact.score(pool, name, target=target, ctx=ctx, **settings))


def selecting(
    pool: Pool, name: str, budget: Budget, settings: dict[str, Any]
) -> Callable[[], float]:
    return measured(lambda ctx: didact.select(pool, None, name, budget=budget, ctx=ctx, **settings))


def measured(work: Callable[[Any], Any]) -> Callable[[], float]:
    """Processor seconds of some work on one worker that finds nothing in the cache."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as cache:
            began = time.process_time()
            work(didact.context(workers=1, cache_dir=Path(cache)))
            return time.process_time() - began

    return run


if __name__ == "__main__":
    main()
