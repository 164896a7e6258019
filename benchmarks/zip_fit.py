"""ZIP-FIT beside its released package, and what codecs, levels and target samples find.

    python benchmarks/zip_fit.py DATA --package PYTHON [--rows 2000] [--rounds 3] [-o RESULT]

DATA is a folder with `instruct_pool`, `instruct_small` and targets; PYTHON an interpreter that has
`zip-fit`; without it the tables are made. Every round times, one after another and each in a
process of its own with two workers, random rows of the pool against 64 samples of GSM8K: the
package and didact with gzip at level 9, at level 0 (the package's default) and with lz4. Processor
seconds are of a process and its children, start and reading included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import didact
from didact.core.pool import Pool
from didact.core.statistics import spearman
from didact.text.pair_sizes import PairCodec, distances, pair_sizes
from dsir import WANTED, texts_of, timed, write
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "zip_fit.json"
TARGETS = 64
BY_PACKAGE = """
import json, sys
from zip_fit import ZIPFIT
pool, target, work, codec, level = sys.argv[1:6]
fit = ZIPFIT(pool, target, k=10**9, compression_algorithm=codec, compress_level=int(level))
ranked = fit.rank_sequences_by_alignment(fit.load_jsonl(pool), fit.load_jsonl(target))
with open(work + "/scores.json", "w") as file:
    json.dump([[text, float(score)] for text, score in ranked], file)
"""
BY_DIDACT = """
import json, sys
import didact
pool, target, work, codec, level = sys.argv[1:6]
ctx = didact.context(cache_dir=work, workers=2)
pool, target = (didact.read(path, cache_dir=work) for path in (pool, target))
scores = didact.score(
    pool, "zip_fit", target=target, ctx=ctx, codec=codec, level=int(level), max_targets=None
)
texts = [t for rows in pool.batches() for t in pool.read(rows, ["text"]).column(0).to_pylist()]
with open(work + "/scores.json", "w") as file:
    json.dump(list(zip(texts, scores.values.tolist())), file)
"""
HOW = (("gzip", 9), ("gzip", 0), ("lz4", 0))
WAYS: dict[str, dict[str, Any]] = {
    "gzip 9, 64 samples": {},
    "gzip 9, 16 samples": {"max_targets": 16},
    "gzip 9, 150 samples": {"max_targets": 150},
    "gzip 6": {"level": 6},
    "gzip 1": {"level": 1},
    "gzip 0": {"level": 0},
    "lz4": {"codec": "lz4"},
    "zstd 3": {"codec": "zstd"},
    "isal 2": {"codec": "isal"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--package", help="an interpreter that has zip-fit")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    output: Path = options.output
    result: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    result["machine"] = machine()
    if options.package:
        result["speed"] = speed(options)
    else:
        small = didact.read(str(options.data / "instruct_small.jsonl.zst"))
        target = didact.read(str(options.data / "target_gsm8k_val.jsonl.zst"))
        result["a pair"] = pairs(small, target)
        result["the two the other way round"] = orders(small, target)
        result["sources"] = sources(small, options.data)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def speed(options: argparse.Namespace) -> dict[str, Any]:
    pool = didact.read(str(options.data / "instruct_pool.jsonl.zst"))
    target = didact.read(str(options.data / "target_gsm8k_val.jsonl.zst"))
    distinct = np.flatnonzero(pool.copy_number == 1)
    rows = np.sort(np.random.default_rng(0).permutation(distinct)[: options.rows])
    texts = pool.read(rows, ["text"]).column(0).to_pylist()
    wanted = target.read(np.arange(TARGETS), ["text"]).column(0).to_pylist()
    runs: dict[str, list[dict[str, float]]] = {}
    agreement = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = [write(texts, work / "pool.jsonl"), write(wanted, work / "target.jsonl")]
        for turn in range(options.rounds):
            for codec, level in HOW:
                for who, python, code in (
                    ("package", options.package, BY_PACKAGE),
                    ("didact", sys.executable, BY_DIDACT),
                ):
                    at = work / f"{who} {codec} {level} {turn}"
                    at.mkdir()
                    took = timed([python, "-c", code, *files, str(at), codec, str(level)])
                    print(turn, who, codec, level, took, flush=True)
                    runs.setdefault(f"{who} {codec} {level}", []).append(took)
        for codec, level in HOW:
            theirs, ours = (
                dict(json.loads((work / f"{who} {codec} {level} 0/scores.json").read_text()))
                for who in ("package", "didact")
            )
            gaps = [abs(theirs[text] - ours[text]) for text in theirs]
            agreement[f"{codec} {level}"] = {"rows": len(gaps), "largest gap": max(gaps)}
    return {
        "rows": len(texts),
        "mean bytes": round(float(pool.n_bytes[rows].mean()), 1),
        "target samples": TARGETS,
        "load average": [round(x, 1) for x in os.getloadavg()],
        "medians": {
            name: {unit: round(statistics.median(run[unit] for run in of), 2) for unit in of[0]}
            for name, of in runs.items()
        },
        "processor seconds of the package over ours": {
            f"{codec} {level}": round(
                statistics.median(
                    a["cpu"] / b["cpu"]
                    for a, b in zip(
                        runs[f"package {codec} {level}"],
                        runs[f"didact {codec} {level}"],
                        strict=True,
                    )
                ),
                2,
            )
            for codec, level in HOW
        },
        "agreement": agreement,
    }


def encoded(pool: Pool, rows: int) -> list[bytes]:
    return [t.encode() for t in texts_of(pool).to_pylist()[:rows]]


def pairs(pool: Pool, target: Pool) -> dict[str, dict[str, float]]:
    """Microseconds a pair in one thread, of 400 samples by the number of target samples."""
    samples, others = encoded(pool, 400), encoded(target, 256)
    out: dict[str, dict[str, float]] = {}
    how: tuple[tuple[PairCodec, int], ...] = (
        ("gzip", 9), ("gzip", 6), ("gzip", 1), ("gzip", 0), ("isal", 2), ("zstd", 3), ("lz4", 0),
    )  # fmt: skip
    for codec, level in how:
        for n in (1, 16, 64, 256):
            sizes = pair_sizes(codec, level, others[:n])
            sizes(samples[0])
            times = []
            for _ in range(3):
                began = time.thread_time()
                for sample in samples:
                    sizes(sample)
                times.append(time.thread_time() - began)
            micros = statistics.median(times) / len(samples) / n * 1e6
            out.setdefault(f"{codec} {level}", {})[f"{n} target samples"] = round(micros, 2)
    return out


def orders(pool: Pool, target: Pool) -> dict[str, float]:
    """Scores with the sample first, as published, and with the target's sample first."""
    samples, others = encoded(pool, 1000), encoded(target, TARGETS)
    sizes, alone = pair_sizes("gzip", 9, others), pair_sizes("gzip", 9, others)(b"")[:-1]
    first = np.array([sizes(sample) for sample in samples])
    starts = range(0, len(samples) + 1, 500)
    second = np.empty_like(first)
    second[:, -1] = first[:, -1]
    for j, other in enumerate(others):
        for a, b in pairwise(starts):
            second[a:b, j] = pair_sizes("gzip", 9, samples[a:b])(other)[:-1]
    one, two = (1 - np.array([distances(row, alone).mean() for row in s]) for s in (first, second))
    gap = np.abs(first - second)[:, :-1]
    return {
        "mean bytes apart": round(float(gap.mean()), 2),
        "most bytes apart": int(gap.max()),
        "spearman of the scores": round(spearman(one, two), 5),
    }


def sources(pool: Pool, data: Path) -> list[dict[str, Any]]:
    """A source's share of the top 5 % over that of the pool, and how scores go with length."""
    out = []
    for name, source in WANTED:
        target = didact.read(str(data / f"{name}.jsonl.zst"))
        of = pool.source_codes == pool.source_names.index(source)
        most = min(20, 1 / of.mean())
        row: dict[str, Any] = {"target": name, "source": source, "most": round(most, 1)}
        for way, settings in WAYS.items():
            scores = didact.score(pool, "zip_fit", target=target, **settings)
            chosen = didact.select(pool, scores, "top_k", budget=didact.Budget(ratio=0.05))
            row[way] = {
                "enrichment": round(float(of[chosen.rows].mean() / of.mean()), 2),
                "spearman with bytes": round(spearman(scores.values, pool.n_bytes), 2),
            }
        out.append(row)
    return out


if __name__ == "__main__":
    main()
