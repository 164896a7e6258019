"""A grid as a user writes it, and runs as evaluations leave them: values on 40 held-out samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from didact.analysis.runs import Measure, Run, Samples, What
from didact.comparing.points import Point
from didact.comparing.settings import Setting

N = 40
C = 1e9


@pytest.fixture
def grid() -> Callable[..., dict[str, Any]]:
    """Plain values of a grid: `grid(key=value, …)`."""

    def make(**change: Any) -> dict[str, Any]:
        return {
            "data": "pool.jsonl", "base": "models/base", "target": "target.jsonl",
            "tell_on": ["test.jsonl"], "budgets": [0.25, 0.5], "seeds": [3, 5],
            "arms": [{"name": "words", "score": {"method": "bm25"}}],
        } | change  # fmt: skip

    return make


def samples(level: float, draw: int) -> Samples:
    """Bits of a byte each, about a level; the same samples are as hard in every run."""
    hard = np.random.default_rng(0).normal(0, 0.5, N)
    own = np.random.default_rng(draw).normal(0, 0.01, N)
    return Samples(np.arange(N), level + hard + own, np.ones(N))


@pytest.fixture
def point() -> Callable[..., Point]:
    """A point whose runs have these levels of bits per byte on files: `point("random", 0.5, …)`."""
    counter = iter(range(10_000))

    def make(
        arm: str, beta: float, levels: dict[str, list[float]], *, axes: Any = None, **change: Any
    ) -> Point:
        sections = {"score": None, "select": None, "order": {"method": "shuffle"}, "train": {}}
        setting = Setting(
            arm=arm, method=arm, axes=axes or {}, base="base", sections=sections,
            draws=arm == "random",
        )  # fmt: skip
        blank = Point(
            setting=setting, beta=beta, k_flops=beta * C, selection_flops=0.0,
            selection_cpu_seconds=0.0, training_flops=beta * C, tokens=1000, n_params=1_000_000,
        )  # fmt: skip
        blank = Point(**{f: getattr(blank, f) for f in blank.__dataclass_fields__} | change)
        runs = []
        for seed in range(max((len(some) for some in levels.values()), default=0)):
            measures = {}
            for file, some in levels.items():
                found = samples(some[seed], next(counter))
                measures[What(file, "", "bits_per_byte")] = Measure(found.value, False, found)
            runs.append(
                Run(
                    name=f"{blank.label} {seed}", set=blank.label, measures=measures,
                    seeds={"order": seed}, draw=f"{seed}" if arm == "random" else "",
                    size=blank.n_params,
                )
            )  # fmt: skip
        return Point(**{f: getattr(blank, f) for f in blank.__dataclass_fields__}
                     | {"runs": tuple(runs)})  # fmt: skip

    return make
