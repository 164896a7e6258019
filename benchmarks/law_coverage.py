"""How often the law's intervals hold the truth, and how often its rule is taken in by noise.

    python benchmarks/law_coverage.py

Tables of sets are drawn in which performance goes with one column given two others; half of the
variance of each column is of the family, or none of it. Then tables in which nothing goes with
anything, and the verdicts on them. About two minutes of one core.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from didact.analysis.entropy.correlation import correlation, partial_ranks
from didact.analysis.entropy.law import entropy_law
from didact.analysis.entropy.runs import LawRun

DRAWS = 400
TABLES = 300
FAMILIES = {
    10: np.array([0, 0, 0, 0, 1, 2, 3, 4, 4, 5]),
    16: np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 7]),
    32: np.repeat(np.arange(8), 4),
}
MANY = 20_000  # sets, whose correlation is taken for the true one


def columns(families, shared, slope, rng):
    """Performance, the column it goes with, and two others that both go with."""

    def column():
        of_family = rng.normal(size=families.max() + 1)[families]
        alone = rng.normal(size=len(families))
        return np.sqrt(shared) * of_family + np.sqrt(1 - shared) * alone

    given = np.column_stack([column(), column()])
    common = given.sum(axis=1) / 2
    x = column() + common
    return slope * x + common + column(), x, given


def coverage(rng):
    for n, families in FAMILIES.items():
        for shared in (0.0, 0.5):
            for slope in (0.0, -1.0):
                everyone, one = np.arange(MANY), np.zeros(n, np.int64)
                true = partial_ranks(
                    *columns(everyone, shared, slope, rng), np.zeros(MANY, np.int64)
                )
                held = fisher = width = 0.0
                for _ in range(DRAWS):
                    drawn = columns(families, shared, slope, rng)
                    found = correlation(*drawn, one, families)
                    alone = correlation(*drawn, one, one)  # one family: nothing to leave out
                    held += found.low <= true <= found.high
                    fisher += alone.low <= true <= alone.high
                    width += found.high - found.low
                print(
                    f"{n:3} sets, shared {shared:.1f}, true {true:+.2f}: held {held / DRAWS:.1%}, "
                    f"Fisher's alone {fisher / DRAWS:.1%}, width {width / DRAWS:.2f}"
                )


def noise(rng):
    """A table in which nothing goes with anything, without seeds."""
    names = [*["random"] * 4, "zip", "feature_based", "bm25", *["compression"] * 2, "longest",
             "rds", *["less"] * 2, "ifd", "perplexity", "embedding"]  # fmt: skip
    out = []
    for i, family in enumerate(names):
        ratio = rng.uniform(1.5, 3)
        out.append(
            LawRun(
                run=str(i), family=family, ratio=ratio,
                first_epoch_loss=3 - 0.3 * ratio + 0.2 * rng.normal(),
                performance=rng.normal(), mean_length=float(np.exp(rng.uniform(4, 6))),
                similarity=rng.uniform(0.2, 0.6),
            )
        )  # fmt: skip
    return out


def main():
    rng = np.random.default_rng(0)
    coverage(rng)
    verdicts = Counter()
    for _ in range(TABLES):
        law = entropy_law(noise(rng))
        verdicts["R", law.verdict] += 1
        verdicts["L", law.verdict_loss] += 1
    for (what, verdict), count in sorted(verdicts.items()):
        print(f"noise, {what}: {verdict} in {count} of {TABLES}")


if __name__ == "__main__":
    main()
