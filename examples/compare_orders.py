"""What each order looks like: utility along the training sequence, a line of text per order.

The left end is the first step of training, the right end the last; a taller bar is a better sample.
The numbers beside it: mean utility of the last tenth, the largest step between neighbours (a cliff
is where a loss spikes), and the spread inside a window of 32, the local variety of a batch.

Usage: python compare_orders.py [SCORED_FILE COLUMN]    (made-up samples by default)
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import didact

BARS = "▁▂▃▄▅▆▇█"
WIDTH, WINDOW = 60, 32
ORDERS: list[tuple[str, dict[str, object]]] = [
    ("keep", {}),
    ("shuffle", {}),
    ("sort", {}),
    ("sort", {"jitter": 256}),
    ("fold", {"layers": 3}),
    ("fold", {"layers": 3, "jitter": 256}),
    ("zigzag", {"layers": 3}),
    ("stair", {}),
    ("saw", {}),
    ("segment", {}),
]


def made_up(folder: Path, n: int = 3000) -> Path:
    """Samples that differ in nothing but their text; the `random` scorer grades them."""
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps({"text": f"sample {i}"}) + "\n" for i in range(n)))
    return path


def bar(utility: np.ndarray) -> str:
    """Mean ranks of `WIDTH` equal parts of the sequence, as bars."""
    ranks = np.argsort(np.argsort(utility, kind="stable"), kind="stable") / len(utility)
    means = [part.mean() for part in np.array_split(ranks, WIDTH)]
    return "".join(BARS[min(int(m * len(BARS)), len(BARS) - 1)] for m in means)


def main(folder: Path, file: str | None = None, column: str | None = None) -> None:
    """Print one line per order."""
    pool = didact.read(file or made_up(folder), cache_dir=folder / "cache")
    if column is None:
        scores = didact.score(pool, "random")
    else:
        scores = didact.score(pool, "column", name=column, prefer="higher")
    chosen = didact.select(pool, scores, "top_k", budget=didact.Budget(ratio=1))
    print(f"{'order':<26}{'first → last':<{WIDTH}}  {'end':>5} {'cliff':>6} {'local':>6}")
    for name, settings in ORDERS:
        ordered = didact.order(pool, chosen, scores, name, **settings)
        utility = scores.utility[ordered.rows]
        scaled = (utility - utility.min()) / max(np.ptp(utility), 1e-12)
        smooth = np.convolve(scaled, np.ones(WINDOW) / WINDOW, mode="valid")
        cliff = np.abs(smooth[WINDOW:] - smooth[:-WINDOW]).max(initial=0)
        local = np.mean([w.std() for w in np.array_split(scaled, max(len(scaled) // WINDOW, 1))])
        shown = name + "".join(f" {k}={v}" for k, v in settings.items())
        end = scaled[-(len(scaled) // 10) :].mean()
        print(f"{shown:<26}{bar(utility)}  {end:5.2f} {cliff:6.2f} {local:6.3f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), *sys.argv[1:3])
