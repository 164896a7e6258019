"""Does a score find what it is aimed at? Share of one source in the top 5 %, over its base rate.

python benchmarks/enrichment.py POOL TARGET SOURCE
"""

from __future__ import annotations

import json
import sys

import didact
from didact import Budget

WAYS = [{"variant": "okapi"}, {"variant": "lucene"}, {"variant": "okapi", "field": "prompt"}]


def main() -> None:
    pool_path, target_path, source = sys.argv[1:4]
    pool, target = didact.read(pool_path), didact.read(target_path)
    wanted = pool.source_codes == pool.source_names.index(source)
    found = {"base rate": round(float(wanted.mean()), 4)}
    for way in WAYS:
        scores = didact.score(pool, "bm25", target=target, **way)
        chosen = didact.select(pool, scores, "top_k", budget=Budget(ratio=0.05))
        name = "bm25 " + " ".join(way.values())
        found[name] = round(float(wanted[chosen.rows].mean() / wanted.mean()), 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
