"""Every registered scorer keeps the contract; a new one is covered by its registry line."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from didact.core import registry
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.testing import check_executors, check_scorer, sample_rows

# Settings of the scorers that cannot do without. "{fixture}" is the folder a fixture makes.
JUDGE = {"model": "{tiny_model}", "device": "cpu", "tokens_per_batch": 1024}
INNER = {**JUDGE, "steps": 2, "every": 1, "inner_batch": 4, "learning_rate": 0.02}
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "bits_per_byte": {**JUDGE, "max_length": 1000},
    "column": {"name": "meta.score", "prefer": "higher"},
    "embedding": {"model": "{tiny_encoder}", "device": "cpu", "tokens_per_batch": 512},
    "ifd": {**JUDGE, "above_one": "keep"},
    "learned_grade": {"grade": "meta.grade"},
    "less": {
        **JUDGE, "share": 0.4, "epochs": 1, "rank": 2, "alpha": 4, "batch_size": 8,
        "learning_rate": 1e-2, "dtype": "float64",
    },
    "lqs": INNER,
    "pds": INNER,
    "perplexity": {**JUDGE, "max_length": 1000},
    "rds": JUDGE,
    "static_embedding": {"model": "{tiny_static}", "within": "each"},
}  # fmt: skip
# Models sum in float32 over batches of other shapes; what sums in float64 is nearer. LQS and PDS
# differentiate twice.
RTOL = {
    "bits_per_byte": 1e-5,
    "embedding": 1e-5,
    "ifd": 1e-5,
    "less": 1e-6,
    "less projected": 1e-4,  # a number is kept in bfloat16: its last bit is 2⁻⁸ of one of 64
    "lqs": 1e-4,
    "pds": 1e-4,
    "perplexity": 1e-5,
    "rds": 1e-5,
    "static_embedding": 1e-12,
}
LIBRARIES = {"embedding": "sentence_transformers", "static_embedding": "model2vec", "less": "peft"}
BESIDE = {"learned_grade": sample_rows()}  # which learns nothing of one grade
# Further settings that take another way through the code.
MORE: list[tuple[str, Mapping[str, Any]]] = [
    ("bm25", {"variant": "okapi", "field": "prompt", "target_field": "text", "reduce": "max"}),
    ("classifier", {"features": "static_embedding", "model": "{tiny_static}", "folds": 2}),
    ("column", {"name": "meta.grade", "prefer": "lower"}),
    ("compression", {"codec": "isal", "field": "prompt"}),
    ("compression", {"codec": "zstd", "level": 9}),
    ("dsir", {"features": "released", "per": "ngram", "order": 3, "buckets": 99, "min_words": 2}),
    ("length", {"unit": "bytes", "field": "completion", "prefer": "shortest"}),
    ("length", {"unit": "characters"}),
    ("length", {"unit": "words", "field": "prompt"}),
    ("ngram_perplexity", {"unit": "characters", "order": 3, "sentence": "text", "field": "prompt"}),
    ("less", {**NEEDED["less"], "space": "projected", "dimension": 64}),
]
CASES = [(name, NEEDED.get(name, {})) for name in registry.known("scorers")] + MORE


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_contract(
    name: str, settings: Mapping[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "model" in settings:
        for library in {
            "torch",
            "transformers",
            LIBRARIES.get(settings.get("features", name), "torch"),
        }:
            pytest.importorskip(library)
        fixture = settings["model"].strip("{}")
        settings = {**settings, "model": str(request.getfixturevalue(fixture))}
    kind = f"{name} projected" if settings.get("space") == "projected" else name
    if settings.get("features") == "static_embedding":
        kind = "static_embedding"
    check_scorer(
        name, tmp_path, settings=settings, beside=BESIDE.get(name, ()), rtol=RTOL.get(kind, 0.0)
    )


ON_A_CLUSTER = [case for case in CASES if "model" not in case[1]] + [
    (name, NEEDED[name])
    for name in ("bits_per_byte", "less")  # whose warm-up is a call
]


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize(("name", "settings"), ON_A_CLUSTER, ids=str)
def test_a_cluster_changes_nothing(
    name: str, settings: Mapping[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    executor = request.getfixturevalue("ray_executor")
    if "model" in settings:
        pytest.importorskip("torch")
        settings = {**settings, "model": str(request.getfixturevalue("tiny_model"))}
        executor = replace(executor, workers=1)  # torch takes seconds to import
    check_executors(
        name, tmp_path, {"a cluster": executor}, settings=settings, rtol=RTOL.get(name, 0.0)
    )


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Breaks one promise at a time.

    **Source:** this file. **Cost:** none.
    """

    how: str
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:  # noqa: ARG002
        return Cost(cpu_seconds=-1.0 if self.how == "estimate" else 0.0)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:  # noqa: ARG002
        if self.how == "writes":
            (pool.path / "notes").write_text("was here")
        first = int(pool.id_hash[0]) if self.how == "order" else 0
        return one_pass(partial(broken, how=self.how, first=first), ("id_hash",))


def broken(batch: pa.RecordBatch, *, how: str, first: int) -> np.ndarray:
    n = batch.num_rows
    values = {
        "batches": np.full(n, float(n)),
        "impure": np.full(n, next(COUNTER)),
        "order": batch.column("id_hash").to_numpy() == np.uint64(first),
        "process": np.full(n, float(os.getpid())),
        "shape": np.ones((n, 2)),
        "single": np.ones(n, np.float32),
    }.get(how, np.ones(n))
    return np.asarray(values, np.float32 if how == "single" else np.float64)


COUNTER = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Undescribed(Broken):
    """Says nothing."""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("batches", "batches of 1"),
        ("estimate", "is not a cost"),
        ("impure", "change with pickling"),
        ("order", "the order of the rows"),
        ("process", "two processes"),
        ("single", "is not float64"),
        ("writes", "wrote to the pool's store"),
    ],
)
def test_a_broken_promise_is_found(how: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_scorer(Broken, tmp_path, settings={"how": how})


def test_what_the_types_refuse(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"values of shape \(37, 2\) for a batch, expected \(37, 1\)"
    ):
        check_scorer(Broken, tmp_path, settings={"how": "shape"})


def test_a_docstring_without_source_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Source"):
        check_scorer(Undescribed, tmp_path, settings={"how": "not at all"})


def test_the_broken_one_is_fine_otherwise(tmp_path: Path) -> None:
    check_scorer(Broken, tmp_path, settings={"how": "not at all"})
