"""`classifier` beside what else tells a target from a pool: processor time, memory, what it finds.

python benchmarks/classifier.py POOL.jsonl TARGET.jsonl=SOURCE ... --work DIR [--fasttext PYTHON]

Arms, each in a process of its own, timed from where the texts are read: `didact` and `bm25` (one
worker, nothing kept), `scikit-learn` (hashed words and pairs of words as unit vectors, logistic
regression on as many rows of the pool, five folds), `fastText` (pairs of words, its own settings,
one thread, on as many rows of the pool and the target repeated until it is as many; one model, that
judges what it saw; in the interpreter given, which has the package), and `floor`, one pass over the
bytes of the texts as the pool has them. R-precision: of the R rows of the pool that are of SOURCE,
the share among the best R. What is in DIR is not done again.

python benchmarks/classifier.py POOL.jsonl TARGET.jsonl=SOURCE ... --work DIR --few

does it for parts of the target, 2 samples to 100, beside `bm25`, over 30,000 rows of the pool.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "classifier.json"
TRAIN_ROWS = 20_000
FEW = RESULTS.with_name("classifier_few.json")
FEW_ROWS, FEW_SAMPLES, DRAWS = 30_000, (2, 5, 10, 20, 50, 100), 3
ARMS = ("floor", "didact", "bm25", "scikit-learn", "fastText")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fasttext", help="an interpreter that has fasttext and numpy")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--few", action="store_true", help="parts of the target")
    parser.add_argument("--arm", help="run one arm alone, in this process")
    options = parser.parse_args()
    if options.arm:
        target, _, source = options.targets[0].partition("=")
        print(json.dumps(measured(options.arm, options.pool, target, source, options.work)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.few:
        few(options)
        return
    with_didact("floor", options.pool, options.targets[0].partition("=")[0], "", options.work)
    found: dict[str, Any] = {}
    for pair in options.targets:
        name = Path(pair.partition("=")[0]).name
        found[name] = {}
        for arm in ARMS:
            if arm == "fastText" and not options.fasttext:
                continue
            tries = [in_a_process(arm, pair, k, options) for k in range(options.tries)]
            best = sorted(tries, key=lambda t: t["cpu seconds"])[len(tries) // 2]
            found[name][arm] = best
            print(name, arm, best, flush=True)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    RESULTS.write_text(json.dumps({"machine": machine, "targets": found}, indent=1) + "\n")


def in_a_process(arm: str, pair: str, k: int, options: argparse.Namespace) -> dict[str, Any]:
    """One try of one arm, unless it was done before."""
    kept: Path = options.work / f"{Path(pair.partition('=')[0]).stem}-{arm}-{k}.json"
    if not kept.exists():
        python = options.fasttext if arm == "fastText" else sys.executable
        words = [python, __file__, options.pool, pair, "--work", str(options.work), "--arm", arm]
        ran = subprocess.run(words, check=True, capture_output=True, text=True)
        kept.write_text(ran.stdout.splitlines()[-1])
    out: dict[str, Any] = json.loads(kept.read_text())
    return out


def measured(arm: str, pool: str, target: str, source: str, work: Path) -> dict[str, Any]:
    """Processor seconds and memory of this process, beside what it found."""
    import resource

    began, prepared = time.process_time(), 0.0
    if arm in {"floor", "didact", "bm25"}:
        found, prepared = with_didact(arm, pool, target, source, work)
    else:
        found, prepared = by_rival(arm, pool, target, source, work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.process_time() - began - prepared
    return {"cpu seconds": round(seconds, 2), "peak MiB": round(peak), **found}


def with_didact(
    arm: str, pool: str, target: str, source: str, work: Path
) -> tuple[dict[str, Any], float]:
    """Our own, and the seconds until the pool was open."""
    import tempfile

    import numpy as np

    import didact
    from didact.text.buffers import utf8

    began = time.process_time()
    samples = didact.read(pool, cache_dir=work / "cache")
    aims = didact.read(target, cache_dir=work / "cache")
    opened = time.process_time() - began
    if arm == "floor":
        total = 0
        for rows in samples.batches():
            data, _ = utf8(samples.read(rows, ["text"]).column(0))
            total += int(data.sum(dtype=np.int64))
        return {"bytes of text": int(samples.n_bytes.sum()), "sum": total}, opened
    method = "classifier" if arm == "didact" else arm
    with tempfile.TemporaryDirectory() as fresh:
        scores = didact.score(
            samples, method, target=aims, ctx=didact.context(cache_dir=Path(fresh), workers=1)
        )
    truth = samples.source_codes == samples.source_names.index(source)
    found = {"R-precision": precision(scores.utility, truth)}
    if "auc" in scores.facts:
        found["held-out AUC"] = round(scores.facts["auc"], 3)
    return found, opened


def by_rival(
    arm: str, pool: str, target: str, source: str, work: Path
) -> tuple[dict[str, Any], float]:
    """What a user would write with another library, and the seconds until texts were read."""
    import numpy as np

    began = time.process_time()
    texts, sources = read(pool)
    aims, _ = read(target)
    opened = time.process_time() - began
    drawn = np.random.default_rng(0).permutation(len(texts))[:TRAIN_ROWS]
    if arm == "scikit-learn":
        utility = scikit(texts, aims, drawn)
    else:
        utility = fast_text(texts, aims, drawn, work)
    truth = np.array([found == source for found in sources])
    return {"R-precision": precision(utility, truth)}, opened


def read(file: str) -> tuple[list[str], list[str]]:
    """Texts and sources of a file of chats."""
    with Path(file).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = ["\n".join(turn["content"] for turn in row["messages"]) for row in rows]
    return texts, [row["source"] for row in rows]


def scikit(texts: list[str], aims: list[str], drawn: Any) -> Any:
    """Hashed words and pairs of words, and logistic regression, cross-fitted."""
    import numpy as np
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = HashingVectorizer(
        ngram_range=(1, 2), n_features=1 << 18, binary=True, alternate_sign=False
    )
    ours, theirs = vectorizer.transform(texts), vectorizer.transform(aims)
    fold = np.random.default_rng(1).integers(0, 5, len(texts))
    out = np.zeros(len(texts))
    for k in range(5):
        inside = drawn[fold[drawn] != k]
        both = sparse.vstack([ours[inside], theirs])
        labels = np.arange(both.shape[0]) >= len(inside)
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(both, labels)
        out[fold == k] = model.decision_function(ours[fold == k])
    return out


def fast_text(texts: list[str], aims: list[str], drawn: Any, work: Path) -> Any:
    """Pairs of words, else its own settings; the target repeated to the number of the others."""
    import fasttext
    import numpy as np

    file = work / "fasttext.txt"
    flat = [text.lower().replace("\n", " ") for text in texts]
    with file.open("w", encoding="utf-8") as out:
        for k, i in enumerate(drawn):
            out.write("__label__pool " + flat[i] + "\n")
            aim = aims[k % len(aims)].lower().replace("\n", " ")
            out.write("__label__target " + aim + "\n")
    model = fasttext.train_supervised(str(file), wordNgrams=2, thread=1, verbose=0)
    labels, chances = model.predict(flat)
    signs = np.array([1 if label[0] == "__label__target" else -1 for label in labels])
    return signs * np.array([chance[0] for chance in chances])


def few(options: argparse.Namespace) -> None:
    """R-precision by the number of target samples, means of several draws."""
    import numpy as np

    import didact

    lines = lines_of(options.pool)
    rows = np.sort(np.random.default_rng(5).permutation(len(lines))[:FEW_ROWS])
    (options.work / "few.jsonl").write_text("".join(lines[i] for i in rows), encoding="utf-8")
    pool = didact.read(options.work / "few.jsonl", cache_dir=options.work / "cache")
    found: dict[str, Any] = {}
    for pair in options.targets:
        file, _, source = pair.partition("=")
        aims = lines_of(file)
        truth = pool.source_codes == pool.source_names.index(source)
        table = found[Path(file).name] = {"wanted": int(truth.sum())}
        for n in FEW_SAMPLES:
            values: dict[str, list[float]] = {"bm25": [], "classifier": []}
            for draw in range(DRAWS):
                drawn = np.random.default_rng([draw, n]).permutation(len(aims))[:n]
                part = options.work / "part.jsonl"
                part.write_text("".join(aims[i] for i in drawn), encoding="utf-8")
                target = didact.read(part, cache_dir=options.work / "cache")
                for method, kept in values.items():  # scores are kept in the cache
                    scores = didact.score(pool, method, target=target)
                    kept.append(precision(scores.utility, truth))
            table[str(n)] = {method: round(float(np.mean(v)), 3) for method, v in values.items()}
            print(file, n, table[str(n)], flush=True)
    FEW.write_text(json.dumps({"rows": FEW_ROWS, "draws": DRAWS, **found}, indent=1) + "\n")


def lines_of(file: str) -> list[str]:
    with Path(file).open(encoding="utf-8") as lines:
        return list(lines)


def precision(utility: Any, truth: Any) -> float:
    """Share of the wanted rows among as many of the best."""
    import numpy as np

    best = np.argsort(-utility, kind="stable")[: int(truth.sum())]
    return round(float(truth[best].mean()), 3)


if __name__ == "__main__":
    main()
