"""Can a few small trainings tell two data sets apart, and how small a difference?

    python benchmarks/told_apart.py DATA --work DIR [-o RESULT]

DATA is a folder with `instruct_pool`, `target_gsm8k_val` and `target_gsm8k_test`. A base model of
272 thousand parameters is trained on 200,000 tokens of random chats; then goes on with 40,000
tokens of each set: four random draws, and BM25 towards GSM8K, three orders each. Judged on 250
held-out chats and 200 answers of GSM8K. Every run is a `didact run` in DIR; started again it goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

import didact
from didact.core.scores import TrainingOrder
from didact.verbs import new_proxy, tell_apart, train

RESULTS: Final = Path(__file__).resolve().parent / "results" / "told_apart.json"
PARAMS, VOCAB, CONTEXT = "272k", 1024, 256
BASE_TOKENS, TOKENS = 200_000, 40_000
POOL_ROWS, HELD_OUT, ANSWERS = 30_000, 250, 200
DRAWS, ORDERS = 4, 3
BASE_RECIPE: Final = {"learning_rate": 5e-3, "device": "cpu", "batch_size": 8}
RECIPE: Final = {"learning_rate": 1e-3, "device": "cpu", "batch_size": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    files = write_files(options.data, work)
    cache = work / "cache"
    proxy, base = work / "proxy", work / "base"
    if not proxy.exists():
        pool = didact.read(files["pool"], cache_dir=cache)
        new_proxy(proxy, pool, params=PARAMS, vocab=VOCAB, context=CONTEXT)
    pool = didact.read(files["pool"], tokenizer=str(proxy / "tokenizer.json"), cache_dir=cache)
    rows = np.random.default_rng(0).permutation(len(pool))
    rows = rows[: int(np.searchsorted(np.cumsum(pool.n_tokens[rows]), BASE_TOKENS))]
    train(
        pool, TrainingOrder(rows, pool.fingerprint, "random"), model=proxy, out=base, **BASE_RECIPE
    )
    runs: list[str] = []
    for name, score, draws in (
        ("random", {"method": "random"}, DRAWS),
        ("bm25", {"method": "bm25", "target": str(files["target"])}, 1),
    ):
        for draw in range(draws):
            for order in range(ORDERS):
                label = f"{name}-{draw}" if draws > 1 else name
                out = work / f"{label}-order-{order}"
                config = {
                    "data": {"path": str(files["pool"]),
                             "tokenizer": str(proxy / "tokenizer.json")},
                    "seeds": {"draw": draw, "order": order},
                    "score": score,
                    "select": {"method": "top_k", "budget": {"tokens": TOKENS}},
                    "order": {"method": "shuffle", "batch_size": RECIPE["batch_size"]},
                    "train": {"model": str(base), **RECIPE},
                    "evaluate": {"files": [str(files["held_out"]), str(files["gsm8k"])],
                                 "device": "cpu"},
                }  # fmt: skip
                didact.run(config, out, cache_dir=cache)
                runs.append(f"{label}={out}")
                print(out.name, flush=True)
    found = {"draws as sets": tell_apart(runs)}
    pooled = [("random" if r.startswith("random") else "bm25") + r[r.index("=") :] for r in runs]
    found["random against bm25"] = tell_apart(pooled)
    record = {"params": PARAMS, "base_tokens": BASE_TOKENS, "tokens": TOKENS, **found}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def write_files(data: Path, work: Path) -> dict[str, Path]:
    """Pool and held-out chats, distinct rows of one file; GSM8K's target and 200 of its answers."""
    names = ("pool", "held_out", "target", "gsm8k")
    files = {name: work / f"{name}.jsonl" for name in names}
    if all(file.exists() for file in files.values()):
        return files
    chats = distinct(data / "instruct_pool.jsonl.zst", POOL_ROWS + HELD_OUT)
    parts: dict[str, list[str]] = {
        "held_out": chats[:HELD_OUT],
        "pool": chats[HELD_OUT:],
        "target": distinct(data / "target_gsm8k_val.jsonl.zst", 10**9),
        "gsm8k": distinct(data / "target_gsm8k_test.jsonl.zst", ANSWERS),
    }
    for name, lines in parts.items():
        files[name].write_text("".join(lines), "utf-8")
    return files


def distinct(path: Path, most: int) -> list[str]:
    """The first lines of a file whose messages differ."""
    seen: dict[str, str] = {}
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            key = json.dumps(json.loads(line)["messages"], ensure_ascii=False)
            seen.setdefault(key, line)
            if len(seen) == most:
                break
    return list(seen.values())


if __name__ == "__main__":
    main()
