"""A scoring method of your own, in one file: how varied the words of a sample are.

As a script it scores a file and prints what it likes best and least. As a plug-in it is a module of
your package with one line in that package's pyproject.toml,

    [project.entry-points."didact.scorers"]
    mattr = "your_package.your_own_score:MATTR"

after which `didact score --method mattr`, the config, `didact methods` and the report know it.
Check it in your tests with `didact.testing.check_scorer("mattr", tmp_path)`: docs/extending.md.

Usage: python your_own_score.py [FILE]    (made-up samples by default)
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

import didact
from didact.core.cost import Cost
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.scoring.around.score_pool import score_pool

_SECONDS_PER_BYTE = 1.5e-7  # on one core; only `estimate` uses it
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class MATTR:
    """Distinct words ÷ words, averaged over every window of a sample; higher is more varied.

    The plain ratio falls with length; a window of fixed size does not. A sample shorter than the
    window is one window, so very short samples score near 1. A sample without a word is missing.

    Args:
        window: Words in a window.

    **Source:** Covington and McFall 2010, "Cutting the Gordian Knot: The Moving-Average Type-Token
    Ratio".
    **Cost:** about 150 ns a byte on one core; no model.
    """

    window: Annotated[int, Field(ge=2)] = 50
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes times the rate."""
        del target
        return Cost(cpu_seconds=_SECONDS_PER_BYTE * pool.n_bytes)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Nothing to learn from the pool: only the setting is kept."""
        del pool, target, ctx
        return one_pass(partial(variety, window=self.window), ("text",), higher_is_better=True)


def variety(batch: pa.RecordBatch, *, window: int) -> BatchScores:
    """The score of each text in the batch's only column, `(b, 1)`."""
    values = np.zeros((batch.num_rows, 1))
    missing = {}
    for i, text in enumerate(batch.column(0).to_pylist()):
        words = _WORD.findall(text.lower())
        if words:
            values[i, 0] = mattr(words, window)
        else:
            missing[i] = "no word in the text"
    return BatchScores(values, missing=missing)


def mattr(words: list[str], window: int) -> float:
    """Mean share of distinct words over every window of `window` words, or over all of fewer."""
    size = min(window, len(words))
    inside = Counter(words[:size])
    distinct = [len(inside)]
    for gone, come in zip(words, words[size:], strict=False):
        inside[gone] -= 1
        if not inside[gone]:
            del inside[gone]
        inside[come] += 1
        distinct.append(len(inside))
    return sum(distinct) / (len(distinct) * size)


def made_up(folder: Path) -> Path:
    """Four samples: three that say less and less, one that says nothing."""
    path = folder / "pool.jsonl"
    texts = [
        "the quick brown fox jumps over a lazy dog",
        "so it goes and so it goes",
        "no no no",
        "-",
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def main(folder: Path, file: str | None = None, shown: int = 5) -> None:
    """Score, rank, print both ends."""
    ctx = didact.context(cache_dir=folder / "cache")
    pool = didact.read(file or made_up(folder), cache_dir=folder / "cache")
    scores = score_pool(pool, "mattr", MATTR(), {"window": 50}, None, ctx)
    for row, reason in list(scores.missing.items())[:shown]:
        print(f"row {row} has no score: {reason}")
    everything = didact.Budget(ratio=1)
    ranked = didact.select(pool, scores, "top_k", budget=everything).best_first()
    ends = np.unique(np.r_[: min(shown, len(ranked)), max(len(ranked) - shown, 0) : len(ranked)])
    texts = pool.read(ranked[ends], ["text"]).column(0).to_pylist()
    for place, text in zip(ends, texts, strict=True):
        print(f"{place:>7}  {scores.values[ranked[place]]:.3f}  {text[:70]!r}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), *sys.argv[1:2])
