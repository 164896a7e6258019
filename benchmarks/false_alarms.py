"""How often `didact monitor` flags a clean version before training.

    python benchmarks/false_alarms.py [--pairs 200] [--rows 1000]

Every pair is two random parts of the demo's pool that share no row, the second judged beside the
first. It prints the pairs, those that were flagged, and by what.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import didact
from didact.analysis.risk.before import judge_data
from didact.analysis.risk.texts import Version
from didact.demo import write_demo_data
from didact.verbs import context


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000, help="of a version")
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    flagged = 0
    with tempfile.TemporaryDirectory() as folder:
        file, _ = write_demo_data(Path(folder) / "demo")
        pool = didact.read(file, cache_dir=Path(folder) / "cache")
        for seed in range(options.pairs):
            drawn = np.random.default_rng(seed).permutation(len(pool))
            parts = drawn[: 2 * options.rows].reshape(2, -1)
            pair = [
                Version(str(i), pool, np.sort(part), context(seed)) for i, part in enumerate(parts)
            ]
            found = {one.kind for one, _ in judge_data(pair)[1][0] if one.flagged}
            flagged += bool(found)
            kinds.update(found)
    print(f"{flagged} of {options.pairs} flagged: {dict(kinds)}")


if __name__ == "__main__":
    main()
