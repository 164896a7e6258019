"""By what factor a selection changes the share of the tokens that scripts and sources have.

    python benchmarks/shares.py DATA [--budget 0.2] [--label after] [-o RESULT]

DATA is a folder with `multilingual_paragraphs`, `text_pool` and `instruct_pool`.
Pools: the same paragraphs in six languages and five scripts; books beside code; chats of many
sources. Judged by the largest factor, up or down, of any script or source with 2 % of the tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

import didact
from didact import Budget
from didact.core.pool import Pool

RESULTS = Path(__file__).resolve().parent / "results" / "shares.json"
METHODS = ("feature_based", "shingle_novelty", "zip")
ROWS = 2_000  # of each part of a pool, at most
LEAST = 0.02
SCRIPT = {"ar": "Arabic", "en": "Latin", "ru": "Cyrillic", "th": "Thai", "tr": "Latin", "zh": "Han"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--label", default="after")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    table: dict[str, Any] = {}
    for name, rows in pools(options.data):
        with tempfile.TemporaryDirectory() as folder:
            pool = written(rows, Path(folder))
            sources = np.array(pool.source_names)[pool.source_codes]
            groups = {"source": sources}
            if name == "paragraphs":
                groups["script"] = np.array([SCRIPT[source] for source in sources])
            for method in options.methods:
                budget = Budget(tokens=round(options.budget * pool.stats.n_tokens))
                ctx = didact.context(cache_dir=Path(folder) / "cache")
                chosen = didact.select(pool, None, method, budget=budget, ctx=ctx)
                found = {
                    group: moved(pool, chosen.rows, of, listed=name != "chats")
                    for group, of in groups.items()
                }
                table[f"{name}, {method}"] = found
                print(name, method, json.dumps(found), flush=True)
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    kept[options.label] = {"budget": options.budget, **table}
    options.output.write_text(json.dumps(kept, indent=1) + "\n")


def moved(pool: Pool, rows: np.ndarray, of: np.ndarray, *, listed: bool) -> dict[str, Any]:
    """The largest factor of any group, and of each its share before and after."""
    names, codes = np.unique(of, return_inverse=True)
    tokens = pool.n_tokens.astype(float)
    before = np.bincount(codes, tokens) / tokens.sum()
    after = np.bincount(codes[rows], tokens[rows], len(names)) / tokens[rows].sum()
    large = before >= LEAST
    factor = after[large] / before[large]
    out: dict[str, Any] = {
        "largest rise": round(float(factor.max()), 2),
        "largest fall": round(float(1 / max(factor.min(), 1e-9)), 2),
    }
    if listed:
        out["shares"] = {
            str(names[i]): [round(float(before[i]), 3), round(float(after[i]), 3)]
            for i in np.flatnonzero(large)
        }
    return out


def pools(data: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "paragraphs", read(data / "multilingual_paragraphs.jsonl.zst", ROWS)
    books = [row for row in read(data / "text_pool.jsonl.zst", 20_000) if row["source"] == "books"]
    chats = read(data / "instruct_pool.jsonl.zst", 40_000)
    code = [
        {"text": row["messages"][-1]["content"], "source": "code"}
        for row in chats
        if row["source"] == "gpteacher/codegen" and "def " in row["messages"][-1]["content"]
    ]
    yield "books and code", [*books[:150], *code[:ROWS]]
    yield "chats", chats[: 5 * ROWS]


def read(file: Path, most: int) -> list[dict[str, Any]]:
    """Rows without what differs by source."""
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        rows = [orjson.loads(line) for line, _ in zip(lines, range(most), strict=False)]
    return [{k: v for k, v in row.items() if k in {"text", "messages", "source"}} for row in rows]


def written(rows: list[dict[str, Any]], folder: Path) -> Pool:
    file = folder / "pool.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return didact.read(file, cache_dir=folder / "cache")


if __name__ == "__main__":
    main()
