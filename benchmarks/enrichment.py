"""Does a score find what it is aimed at? Share of one source in the top 5 %, over its base rate.

python benchmarks/enrichment.py POOL TARGET SOURCE                     # BM25 on the whole pool
python benchmarks/enrichment.py POOL TARGET SOURCE --rows 4000 --work DIR [--encoder FOLDER]

With --rows, a random sub-pool of so many rows is scored by every method; the judging model is a
proxy that is made and trained here on other rows. What is in DIR is not computed again, so a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import didact
from didact import Budget
from didact.core.pool import Pool

RESULTS = Path(__file__).parent / "results" / "enrichment.json"
WORDS: dict[str, dict[str, Any]] = {
    "bm25 okapi": {"variant": "okapi"},
    "bm25 lucene": {"variant": "lucene"},
    "bm25 okapi prompt": {"variant": "okapi", "field": "prompt"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("target")
    parser.add_argument("source")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--params", default="1M")
    parser.add_argument("--train-rows", type=int, default=10_000)
    parser.add_argument("--encoder", help="a sentence-transformers folder")
    parser.add_argument("--static", help="a model2vec folder")
    options = parser.parse_args()
    pool, target = didact.read(options.pool), didact.read(options.target)
    if options.rows is None:
        found = {
            name: enrichment(pool, target, options.source, "bm25", way)
            for name, way in WORDS.items()
        }
        print(json.dumps({"base rate": base_rate(pool, options.source), **found}, indent=1))
        return
    small, model, training = prepared(pool, options)
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        "random": ("random", {}),
        **{name: ("bm25", way) for name, way in WORDS.items()},
        "classifier": ("classifier", {}),
    }
    if options.encoder:
        methods["embedding"] = ("embedding", {"model": options.encoder})
    if options.static:
        methods["static_embedding"] = ("static_embedding", {"model": options.static})
        methods["classifier static"] = (
            "classifier", {"features": "static_embedding", "model": options.static},
        )  # fmt: skip
    judge = {"model": str(model), "max_length": 512, "device": "cpu"}
    methods |= {
        "perplexity lowest": ("perplexity", {**judge, "prefer": "lowest"}),
        "perplexity highest": ("perplexity", {**judge, "prefer": "highest"}),
        "ifd": ("ifd", {**judge}),
        "rds": ("rds", {**judge}),
        "less": ("less", {**judge, "rank": 8, "alpha": 32, "epochs": 2, "learning_rate": 1e-3,
                          "batch_size": 32}),
        "less sgd": ("less", {**judge, "rank": 8, "alpha": 32, "epochs": 2, "learning_rate": 1e-3,
                              "batch_size": 32, "gradient": "sgd"}),
        "pds": ("pds", {**judge, "steps": 10, "every": 5, "proxy": 1000}),
        "lqs": ("lqs", {**judge, "steps": 10, "every": 5, "proxy": 1000}),
    }  # fmt: skip
    table = {}
    for name, (method, way) in methods.items():
        kept = options.work / f"{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(enrichment(small, target, options.source, method, way)))
        table[name] = json.loads(kept.read_text())
        print(name, table[name], flush=True)
    result = {
        "pool": f"{options.rows} random rows of {Path(options.pool).name}",
        "target": Path(options.target).name,
        "source": options.source,
        "base rate": base_rate(small, options.source),
        "judge": training,
        "methods": table,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def base_rate(pool: Pool, source: str) -> float:
    return round(float((pool.source_codes == pool.source_names.index(source)).mean()), 4)


def enrichment(
    pool: Pool, target: Pool, source: str, method: str, way: dict[str, Any]
) -> dict[str, Any]:
    """Share of the source in the top 5 % over its share of the pool, and what that cost."""
    ctx = didact.context(cache_dir=pool.path.parent.parent)
    began = time.perf_counter()
    scores = didact.score(pool, method, target=target, ctx=ctx, **way)
    seconds = time.perf_counter() - began
    chosen = didact.select(pool, scores, "top_k", budget=Budget(ratio=0.05))
    wanted = pool.source_codes == pool.source_names.index(source)
    times = float(wanted[chosen.rows].mean() / wanted.mean())
    spent = ctx.meter.bill.value
    return {
        "enrichment": round(times, 2),
        "gigaflops": round(spent.flops / 1e9),
        "tokens": spent.tokens,
        "seconds": round(seconds),
        "missing": len(scores.missing),
        "settings": {k: v for k, v in way.items() if k not in {"model", "device"}},
    }


def prepared(pool: Pool, options: argparse.Namespace) -> tuple[Pool, Path, dict[str, Any]]:
    """The sub-pool, and a proxy trained on rows that are not in it."""
    from didact.models.proxy import new_proxy
    from didact.training.causal import TrainSettings, read_trained, train

    options.work.mkdir(parents=True, exist_ok=True)
    mixed = np.random.default_rng(0).permutation(len(pool))
    file = options.work / "sub-pool.jsonl"
    if not file.exists():
        rows = np.sort(mixed[: options.rows])
        file.write_bytes(b"".join(record + b"\n" for record in pool.records(rows)))
    if not (options.work / "proxy").exists():
        new_proxy(options.work / "proxy", pool, params=options.params, context=512)
    others = mixed[options.rows : options.rows + options.train_rows]
    settings = TrainSettings(learning_rate=3e-3, batch_size=32, loss="all")
    judge = options.work / "judge"
    done = judge.exists()
    trained = (
        read_trained(judge)
        if done
        else train(pool, others, options.work / "proxy", judge, settings)
    )
    losses = [step.loss for step in trained.steps]
    about = {
        "params": options.params,
        "trained on rows": len(others),
        "first and last loss": [round(losses[0], 2), round(float(np.mean(losses[-20:])), 2)],
        "gigaflops": round(trained.cost.flops / 1e9),
    }
    return didact.read(file), trained.path, about


if __name__ == "__main__":
    main()
