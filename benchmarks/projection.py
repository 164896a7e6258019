"""What projecting gradients loses and costs: LESS in 64 to 4,096 numbers beside the exact scores.

python benchmarks/projection.py MODEL POOL TARGET [--rows 400]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import didact

RESULTS = Path(__file__).parent / "results" / "projection.json"
DIMENSIONS = (64, 256, 1024, 4096)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pool")
    parser.add_argument("target")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--rank", type=int, default=8)
    options = parser.parse_args()
    whole, target = didact.read(options.pool), didact.read(options.target)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        rows = np.sort(np.random.default_rng(1).permutation(len(whole))[: options.rows])
        file.write_bytes(b"".join(record + b"\n" for record in whole.records(rows)))
        pool = didact.read(file, cache_dir=Path(folder) / "cache")
        settings = {
            "model": options.model, "rank": options.rank, "alpha": 32, "epochs": 2, "share": 0.5,
            "learning_rate": 1e-3, "batch_size": 32, "max_length": 512, "device": "cpu",
        }  # fmt: skip

        def score(**more):
            ctx = didact.context(cache_dir=Path(folder) / "cache")
            found = didact.score(pool, "less", target=target, ctx=ctx, **settings, **more)
            return found, ctx.meter.bill.value.flops

        exact, flops = score(space="exact")
        kept = exact.present
        table = {}
        for dimension in DIMENSIONS:
            for unit in ("after", "before"):
                found, spent = score(space="projected", dimension=dimension, unit=unit)
                rho = np.corrcoef(ranks(exact.values[kept]), ranks(found.values[kept]))[0, 1]
                top = max(1, len(pool) // 20)
                best = set(np.argsort(-exact.utility, kind="stable")[:top].tolist())
                same = best & set(np.argsort(-found.utility, kind="stable")[:top].tolist())
                table[f"{dimension} {unit}"] = {
                    "spearman": round(float(rho), 4),
                    "same in the top 5 %": round(len(same) / top, 3),
                    "flops / exact": round(spent / flops, 3),
                    "store bytes a sample": dimension * 2 * settings["epochs"],
                }
                print(dimension, unit, table[f"{dimension} {unit}"], flush=True)
    result = {
        "rows": options.rows,
        "target": Path(options.target).name,
        "adapter parameters": exact.facts["adapter_parameters"],
        "checkpoints": settings["epochs"],
        "exact gigaflops": round(flops / 1e9),
        "dimensions": table,
        "at 7B (134,217,728 adapter parameters, 270,679 samples, 4 checkpoints, 8,192 numbers)": {
            "projection FLOPs, dense": 2.0 * 134_217_728 * 8192 * 270_679 * 4,
            "store bytes": 270_679 * 8192 * 2 * 4,
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
