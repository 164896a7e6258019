"""Does a selection suit its target? Three methods at equal tokens, judged by what none of them saw.

The pool is the documentation of Python's standard library, the target that of two modules. Half of
the target is what `bm25` selects for; the other half is held out. A selection is judged by a
unigram model of it: the fewer bits it needs for a word of the held-out half, the closer the two are
in words. This is no training run; it is what can be known in seconds, without a model.

Usage: python select_for_a_target.py [FOLDER]    (a temporary folder by default)
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import didact
from didact.demo import write_demo_data

TOKENS = 60_000


def halves(path: Path) -> tuple[Path, Path]:
    """Two files: the odd lines, to select for, and the even ones, held out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    out = path.with_name("select_for.jsonl"), path.with_name("held_out.jsonl")
    for file, part in zip(out, (lines[0::2], lines[1::2]), strict=True):
        file.write_text("".join(part), encoding="utf-8")
    return out


def words(pool: didact.Pool, rows: object = None) -> Counter[str]:
    """How often each word occurs in some rows of a pool, or in all of it."""
    texts = pool.read(range(len(pool)) if rows is None else rows, ["text"]).column("text")
    return Counter(word for text in texts.to_pylist() for word in re.findall(r"\w+", text.lower()))


def bits_per_word(model: Counter[str], text: Counter[str], vocabulary: int) -> float:
    """Cross-entropy of a text under a unigram model with add-one smoothing; lower is closer."""
    total = math.log2(model.total() + vocabulary)
    return sum(n * (total - math.log2(model[w] + 1)) for w, n in text.items()) / text.total()


def main(folder: Path) -> None:
    """Select by each method, print what was chosen and how well it fits the held-out half."""
    pool_file, target_file = write_demo_data(folder)
    select_for, held_out = halves(target_file)
    # exclude: no sample may share 13 words in a row with what judges it
    pool = didact.read(pool_file, exclude=[str(held_out)], cache_dir=folder / "cache")
    target = didact.read(select_for, cache_dir=folder / "cache")
    unseen = words(didact.read(held_out, cache_dir=folder / "cache"))
    vocabulary = len(words(pool) | unseen)
    budget = didact.Budget(tokens=TOKENS)

    print(f"{len(pool):,} samples; {TOKENS:,} tokens chosen ({pool.token_counter}, an estimate)")
    print(f"{'method':<24}{'samples':>8}{'bits/word':>11}   largest sources")
    for name, selector in (
        ("random", "top_k"),
        ("length", "top_k"),
        ("compression", "top_k"),
        ("bm25", "top_k"),
        ("bm25", "round_robin"),
    ):
        scores = didact.score(pool, name, target=target)
        chosen = didact.select(pool, scores, selector, budget=budget)
        fit = bits_per_word(words(pool, chosen.rows), unseen, vocabulary)
        sources = Counter(chosen.describe(pool)["sources"]).most_common(3)
        largest = ", ".join(f"{source} {n}" for source, n in sources)
        print(f"{f'{name}, {selector}':<24}{len(chosen):>8,}{fit:>11.3f}   {largest}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
