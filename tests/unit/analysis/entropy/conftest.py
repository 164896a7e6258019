"""Runs whose law is planted."""

from __future__ import annotations

import numpy as np
import pytest

from didact.analysis.entropy.runs import LawRun

FAMILIES = [*["random"] * 4, "zip", "feature_based", "bm25", *["compression"] * 2, "longest", "rds",
            *["less"] * 2, "ifd", "perplexity", "embedding"]  # fmt: skip


@pytest.fixture(scope="session")
def planted():
    """Builds 16 natural sets of 11 families; performance is what a function of them says."""

    def build(performance, *, seed=0, noise=0.01, seeds=2, families=FAMILIES, group=("", "")):
        rng = np.random.default_rng(seed)
        runs = []
        for i, family in enumerate(families):
            ratio, own = rng.uniform(1.5, 3), rng.normal()
            loss, length = 3 - 0.3 * ratio + 0.2 * own, float(np.exp(rng.uniform(4, 6)))
            similarity = rng.uniform(0.2, 0.6)
            expected = performance(ratio, loss, length, similarity)
            runs.extend(
                LawRun(
                        run=f"{group[0]}{i}-{j}", set=f"set {i}", family=family, ratio=ratio,
                        deflate_ratio=0.8 * ratio, first_epoch_loss=loss, early={0.1: loss + 0.2},
                        performance=expected + noise * rng.normal(), mean_length=length,
                        similarity=similarity, seed=str(j), backbone=group[0], stage=group[1],
                )
                for j in range(seeds)
            )  # fmt: skip
        return runs

    return build
