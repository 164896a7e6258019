"""Which way to choose is worth it at equal total compute? One `didact compare` on real chats.

    python benchmarks/equal_compute.py DATA --work DIR [--dry-run] [--max-hours H] [--static MODEL]
    python benchmarks/equal_compute.py DATA --work DIR --beyond     # LQS, at one and a half passes

Fixed before the first run:

- **Pool**: the first 4,000 distinct chats of `instruct_pool`; the bases read the next 4,000 once.
- **Target**: half of `target_gsm8k_val`; the other half, and 250 chats of the pool's kind, choose.
  **Told** on 250 answers of `target_gsm8k_test` and on 250 other chats (bits per byte of answers).
- **Trained**: a Llama of a million parameters from its base, learning rate 1e-3, cosine, batches of
  8, samples cut at 256 tokens, for scoring too. Budgets of 0.1, 0.25, 0.5 and 1 full pass, three
  seeds.
- **Arms**: random, length, BM25, compression, static embeddings where a model is given, perplexity
  (middle and lowest) and LESS with one checkpoint by the base itself and by a base of 64 thousand
  parameters; LESS with four checkpoints and LQS by both, which at equal size exceed every budget.

Started again it goes on where it was. `DIR/OUT/comparison.html` is its page.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any, Final

import zstandard

import didact
from didact import pipeline
from didact.core.atomic import write_text
from main_job import machine
from trainings import RESULTS

ROWS: Final = 4_000
HELD_OUT: Final = 250
CONTEXT: Final = 256
SIZES: Final = {"1M": {"params": "1M", "vocab": 2048}, "64k": {"params": "64k", "vocab": 1024}}
RATE, BASE_RATE, BATCH = 1e-3, 3e-3, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with instruct_pool and the targets")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs; goes on there")
    parser.add_argument("--static", help="a folder of model2vec, for static embeddings")
    parser.add_argument("--dry-run", action="store_true", help="print the bill and stop")
    parser.add_argument("--max-hours", type=float, help="drop arms to keep to it")
    parser.add_argument("--beyond", action="store_true", help="LQS by the small model, β = 1.5")
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    name = "equal_compute_beyond" if options.beyond else "equal_compute"
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    write_files(options.data, work)
    ctx = didact.context(cache_dir=work / "cache", tell=lambda said: print(said, flush=True))
    for size in SIZES:
        pipeline.run(base(work, size), work / f"base-{size}", cache_dir=work / "cache")
    asked = grid(work, options.static)
    if options.beyond:
        dear = [arm for arm in asked["arms"] if arm["name"] == "lqs 64k"]
        asked |= {"budgets": [1.5], "arms": dear}
    done = didact.compare(
        asked, work / ("BEYOND" if options.beyond else "OUT"), dry_run=options.dry_run,
        max_hours=options.max_hours, ctx=ctx,
    )  # fmt: skip
    if done.comparison is None:
        print(json.dumps(done.bill.to_json(), indent=1))
        return
    found = {"machine": machine(), **done.comparison.to_json()}
    for each in found["about"]["bases"]:  # their paths are of this machine
        each["model"] = Path(each["model"]).parent.name
    output = Path(options.output or RESULTS / f"{name}.json")
    write_text(output, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(done.comparison.verdict["text"] if done.comparison.verdict else "")


def write_files(data: Path, work: Path) -> None:
    """Pool, rows of the bases, target, what chooses and what tells; no two chats are alike."""
    chats = lines(data / "instruct_pool.jsonl.zst", 2 * ROWS + 2 * HELD_OUT)
    val = lines(data / "target_gsm8k_val.jsonl.zst", 10_000)
    parts = {
        "pool": chats[:ROWS],
        "base": chats[ROWS : 2 * ROWS],
        "chats_val": chats[2 * ROWS : -HELD_OUT],
        "chats": chats[-HELD_OUT:],
        "target": val[::2],
        "gsm8k_val": val[1::2],
        "gsm8k": lines(data / "target_gsm8k_test.jsonl.zst", HELD_OUT),
    }
    for name, rows in parts.items():
        if not (file := work / f"{name}.jsonl").exists():
            write_text(file, "".join(rows))


def lines(path: Path, most: int) -> list[str]:
    """The first lines of a file whose messages differ."""
    seen: dict[str, str] = {}
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        rows = ((json.dumps(json.loads(line)["messages"]), line) for line in file)
        distinct = (line for key, line in rows if seen.setdefault(key, line) is line)
        return list(islice(distinct, most))


def base(work: Path, size: str) -> dict[str, Any]:
    """The run that makes a base: from scratch, one pass over its rows."""
    return {
        "data": {"path": str(work / "base.jsonl")},
        "order": {"method": "shuffle", "batch_size": BATCH},
        "export": {"for": "none"},
        "train": {"model": "scratch", **SIZES[size], "context": CONTEXT,
                  "learning_rate": BASE_RATE, "device": "cpu"},
    }  # fmt: skip


def grid(work: Path, static: str | None) -> dict[str, Any]:
    """What is compared."""
    arms: list[dict[str, Any]] = [
        {"name": "length", "score": {"method": "length"}},
        {"name": "bm25", "score": {"method": "bm25"}},
        {"name": "compression", "score": {"method": "compression"}},
    ]
    if static is not None:
        arms.append({"name": "static", "score": {"method": "static_embedding", "model": static}})
    for size in SIZES:
        judge = {"model": str(work / f"base-{size}" / "model"), "max_length": CONTEXT,
                 "device": "cpu"}  # fmt: skip
        perplexity = {"method": "perplexity", **judge}
        less = {"method": "less", "rank": 8, "alpha": 32, "batch_size": 32, "learning_rate": 1e-3,
                **judge}  # fmt: skip
        arms += [
            {"name": f"perplexity middle {size}", "score": perplexity,
             "select": {"method": "middle"}},
            {"name": f"perplexity lowest {size}", "score": perplexity},
            {"name": f"less 1 {size}", "score": {**less, "epochs": 1}},
            {"name": f"less 4 {size}", "score": less},
            {"name": f"lqs {size}", "score": {"method": "lqs", **judge}},
        ]  # fmt: skip
    files = {name: str(work / f"{name}.jsonl") for name in
             ("pool", "target", "gsm8k", "gsm8k_val", "chats", "chats_val")}  # fmt: skip
    return {
        "data": files["pool"],
        "base": str(work / "base-1M" / "model"),
        "target": files["target"],
        "choose_on": [files["gsm8k_val"], files["chats_val"]],
        "tell_on": [files["gsm8k"], files["chats"]],
        "budgets": [0.1, 0.25, 0.5, 1],
        "seeds": [0, 1, 2],
        "tasks": 20,
        "train": {"learning_rate": RATE, "batch_size": BATCH, "device": "cpu"},
        "evaluate": {"max_length": CONTEXT, "device": "cpu"},
        "arms": arms,
    }


if __name__ == "__main__":
    main()
