"""DSIR beside its released package, and what its settings find: speed, length, sources, languages.

    python benchmarks/dsir.py DATA --package PYTHON [--rounds 3] [-o RESULT]

DATA is a folder with `instruct_pool`, targets and `multilingual_paragraphs`; PYTHON an interpreter
that has `data-selection`; without it the tables are made. Every round times, one after another and
each in a process of its own with two workers: the package, didact with the package's features,
didact with its own. Both read one JSONL file of texts and end with a weight of every sample, on
disk. Processor seconds are of a process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import didact
from didact.core.pool import Pool
from didact.core.statistics import spearman
from didact.text.importance import NGrams, WordKind, count, log_ratio, weigh
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "dsir.json"
BY_PACKAGE = """
import sys
import numpy as np
from data_selection import HashedNgramDSIR
pool, target, work = sys.argv[1:4]
dsir = HashedNgramDSIR([pool], [target], cache_dir=work, num_proc=2)
dsir.fit_importance_estimator()
dsir.compute_importance_weights()
"""
BY_DIDACT = """
import sys
import numpy as np
import didact
pool, target, work, features = sys.argv[1:5]
ctx = didact.context(cache_dir=work, workers=2)
pool, target = (didact.read(path, cache_dir=work) for path in (pool, target))
scores = didact.score(pool, "dsir", target=target, ctx=ctx, features=features, per="sample",
                      buckets=10_000, smoothing=1e-8)
np.save(work + "/weights.npy", scores.values)
"""
# target file, and the source of the pool that it is of
WANTED = (
    ("target_gsm8k_val", "gsm8k"),
    ("target_clinc150_val", "clinc150"),
    ("target_csqa_val", "t0/commonsense_qa"),
    ("target_csqa_val", "flan_cot/ecqa"),
    ("target_mbpp_train", "gpteacher/codegen"),
    ("target_humaneval", "gpteacher/codegen"),
)
PACKAGE: dict[str, Any] = {"buckets": 10_000, "smoothing": 1e-8}
WAYS: dict[str, dict[str, Any]] = {
    "sample": {**PACKAGE, "per": "sample"},
    "ngram": PACKAGE,
    "sample, 100 words": {**PACKAGE, "per": "sample", "min_words": 100},
    "ngram, 100,000 buckets, smoothing 1e-6": {},
}
BUDGET = didact.Budget(ratio=0.05)
LANGUAGES = ("en", "ar", "ru", "tr", "th", "zh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--package", help="an interpreter that has data-selection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    pool = didact.read(str(options.data / "instruct_pool.jsonl.zst"))
    result: dict[str, Any] = (
        json.loads(options.output.read_text()) if options.output.exists() else {}
    )
    result["machine"] = machine()
    if options.package:
        result["speed"] = speed(pool, options)
    else:
        result["sources"] = sources(pool, options.data)
        result["R-precision by language"] = languages(options.data)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


# -- speed -----------------------------------------------------------------------------------------


def texts_of(pool: Pool) -> pa.LargeStringArray:
    parts = [pool.read(rows, ["text"]).column(0) for rows in pool.batches()]
    return pa.concat_arrays(parts)


def write(texts: Sequence[str], path: Path) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def timed(command: Sequence[str]) -> dict[str, float]:
    """Wall and processor seconds of a process and its children."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - began, "cpu": cpu}


def speed(pool: Pool, options: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        texts = texts_of(pool)
        file = write(texts.to_pylist(), work / "pool.jsonl")
        target = didact.read(str(options.data / "target_gsm8k_val.jsonl.zst"))
        wanted = write(texts_of(target).to_pylist(), work / "target.jsonl")
        for turn in range(options.rounds):
            for name in ("package", "released", "words"):
                at = work / f"{name}{turn}"
                at.mkdir()
                arguments = [file, wanted, str(at)]
                command = (
                    [options.package, "-c", BY_PACKAGE, *arguments]
                    if name == "package"
                    else [sys.executable, "-c", BY_DIDACT, *arguments, name]
                )
                took = timed(command)
                print(turn, name, took, flush=True)
                runs.setdefault(name, []).append(took)
        agreement = agree(work)
    medians = {
        name: {unit: round(statistics.median(run[unit] for run in of), 2) for unit in of[0]}
        for name, of in runs.items()
    }
    n_bytes = int(np.diff(np.frombuffer(texts.buffers()[1], np.int64)[[0, len(texts)]])[0])
    over = {
        name: {
            unit: round(
                statistics.median(
                    a[unit] / b[unit] for a, b in zip(runs["package"], runs[name], strict=True)
                ),
                1,
            )
            for unit in ("wall", "cpu")
        }
        for name in ("released", "words")
    }
    return {
        "rows": len(pool),
        "bytes": n_bytes,
        "load average": [round(x, 1) for x in os.getloadavg()],
        "rounds": runs,
        "medians": medians,
        "times as fast as the package": over,
        "released against the package": agreement,
        "kernel": kernel(texts, n_bytes),
    }


def agree(work: Path) -> dict[str, Any]:
    """The package's weights of the first round beside ours with its features."""
    parts = [np.load(work / f"package0/log_importance_weights/{i}.npy") for i in range(2)]
    theirs = np.empty(sum(map(len, parts)))
    theirs[::2], theirs[1::2] = parts  # its two processes took every other row
    ours = np.load(work / "released0/weights.npy")
    scored = ~np.isnan(ours)
    gap = np.abs(ours - theirs)[scored] / np.maximum(np.abs(theirs[scored]), 1)
    return {
        "rows": int(scored.sum()),
        "equal to 1e-9": int((gap < 1e-9).sum()),
        "largest relative difference": float(gap.max()),
        "spearman": round(spearman(ours[scored], theirs[scored]), 6),
    }


def kernel(texts: pa.LargeStringArray, n_bytes: int) -> dict[str, float]:
    """Nanoseconds a byte, one thread: a pass over the bytes, both passes of the kernel."""
    ngrams = NGrams(2, 10_000)
    table = np.zeros((1, 10_000))
    data = np.frombuffer(texts.buffers()[2], np.uint8, n_bytes)

    def seconds(work: Any) -> float:
        times = []
        for _ in range(5):
            began = time.thread_time()
            work()
            times.append(time.thread_time() - began)
        return round(statistics.median(times) / n_bytes * 1e9, 3)

    return {
        "sum of the bytes": seconds(lambda: np.add.reduce(data, dtype=np.uint64)),
        "count": seconds(lambda: count(texts, ngrams)),
        "weigh": seconds(lambda: weigh(texts, ngrams, table)),
    }


# -- what it finds ---------------------------------------------------------------------------------


def sources(pool: Pool, data: Path) -> list[dict[str, Any]]:
    """A source's share of the top 5 % over that of the pool, and how scores go with length."""
    out = []
    for name, source in WANTED:
        target = didact.read(str(data / f"{name}.jsonl.zst"))
        of = pool.source_codes == pool.source_names.index(source)
        row: dict[str, Any] = {"target": name, "source": source, "share": round(of.mean(), 4)}
        for way, settings in WAYS.items():
            scores = didact.score(pool, "dsir", target=target, **settings)
            chosen = didact.select(pool, scores, "top_k", budget=BUDGET)
            there = scores.present
            row[way] = {
                "enrichment": round(float(of[chosen.rows].mean() / of.mean()), 2),
                "spearman with bytes": round(
                    spearman(scores.values[there], pool.n_bytes[there]), 2
                ),
                "median bytes chosen": float(np.median(pool.n_bytes[chosen.rows])),
            }
        scores = didact.score(pool, "dsir", target=target, per="sample", **PACKAGE)
        drawn = didact.select(
            pool, scores, "gumbel_top_k", budget=BUDGET, unit="score", temperature=1.0
        )
        row["sample, drawn"] = {"enrichment": round(float(of[drawn.rows].mean() / of.mean()), 2)}
        out.append(row)
    return out


def languages(data: Path) -> dict[str, dict[str, float]]:
    """Every paragraph asks for the others of its article, R of them: their share of the best R."""
    rows = didact.read(str(data / "multilingual_paragraphs.jsonl.zst"))
    articles = np.array(
        [json.loads(r)["meta"]["article"] for r in rows.records(np.arange(len(rows)))]
    )
    texts = texts_of(rows)
    out: dict[str, dict[str, float]] = {}
    for features in ("words", "released"):
        for per in ("sample", "ngram"):
            out[f"{features}, {per}"] = {
                language: _r_precision(
                    texts.filter(pa.array(chosen)), articles[chosen], features, per
                )
                for language in LANGUAGES
                for chosen in [rows.source_codes == rows.source_names.index(language)]
            }
    return out


def _r_precision(
    texts: pa.LargeStringArray, articles: np.ndarray, features: WordKind, per: str
) -> float:
    ngrams = NGrams(2, 10_000, features)
    of_pool = count(texts, ngrams)
    ratios = [log_ratio(count(texts.slice(i, 1), ngrams), of_pool, 1e-8) for i in range(len(texts))]
    values, _, grams = weigh(texts, ngrams, np.stack(ratios))
    if per == "ngram":
        values /= grams[:, np.newaxis]
    np.fill_diagonal(values, -np.inf)
    same = articles[:, np.newaxis] == articles
    np.fill_diagonal(same, val=False)
    found = []
    for query, wanted in enumerate(same):
        if r := wanted.sum():
            found.append(wanted[np.argsort(-values[:, query], kind="stable")[:r]].mean())
    return round(float(np.mean(found)), 3)


if __name__ == "__main__":
    main()
