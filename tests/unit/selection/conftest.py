"""Pools in memory: the real class, its columns put in by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.execution.executors import serial

FINGERPRINT = "f" * 32


def pool_of(sources, *, tokens=None, group=None, held=(), dedup=True):
    """A pool with one row per entry of `sources`, ten tokens each unless told."""
    n, names = len(sources), list(dict.fromkeys(sources))
    place = {name: i for i, name in enumerate(names)}
    group = list(range(n)) if group is None else group
    seen = Counter()
    copy = []
    for g in group:
        seen[g] += 1
        copy.append(seen[g])
    pool = Pool(Path("no store"), FINGERPRINT)
    pool.__dict__["meta"] = {
        "n": n,
        "dedup": "exact" if dedup else "none",
        "source_names": names,
    }
    pool.__dict__["_index"] = {
        "n_tokens": np.array([10] * n if tokens is None else tokens, np.int64),
        "group": np.array(group, np.uint64),
        "copy": np.array(copy, np.int32),
        "source": np.array([place[s] for s in sources], np.int32),
        "held": np.isin(np.arange(n), list(held)),
    }
    return pool


def scores_of(values, *, higher_is_better=True, missing=(), method="bm25", **more):
    values = np.array(values, float)
    values[list(missing)] = np.nan
    return Scores(
        values=values,
        higher_is_better=higher_is_better,
        method=method,
        pool_fingerprint=more.pop("pool_fingerprint", FINGERPRINT),
        missing=dict.fromkeys(missing, "empty"),
        **more,
    )


@pytest.fixture(name="pool_of")
def _pool_of():
    return pool_of


@pytest.fixture(name="scores_of")
def _scores_of():
    return scores_of


@pytest.fixture(name="ctx")
def _ctx():
    return Context(executor=serial(), seed=17, cache_dir=Path())
