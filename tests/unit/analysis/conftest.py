"""Runs to tell apart: given numbers, or drawn."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from didact.analysis.runs import Measure, Run, Samples, What

BITS = What("held_out.jsonl", "", "bits_per_byte")


@pytest.fixture
def runs_of():
    """{set: values of its runs} → runs without samples."""

    def make(values, what=BITS, *, higher=False, size=None, **facts):
        return [
            Run(
                name=f"{label}{i}{size or ''}",
                set=label,
                measures={what: Measure(value, higher)},
                size=size,
                **facts,
            )
            for label, of_set in values.items()
            for i, value in enumerate(of_set)
        ]

    return make


@pytest.fixture
def sampled():
    """A run of given bits of each sample, of equal bytes."""

    def make(name, label, bits, keys=None, n_bytes=None, **facts):
        n = len(bits)
        keys = np.arange(n, dtype=np.uint64) if keys is None else np.asarray(keys, np.uint64)
        samples = Samples(keys, bits, np.ones(n) if n_bytes is None else n_bytes)
        measures = {BITS: Measure(samples.value, False, samples)}
        return Run(name=name, set=label, measures=measures, **facts)

    return make


@pytest.fixture
def write_evaluation(tmp_path):
    """An evaluation table as `didact evaluate` writes it."""

    def make(name, nats, *, ids=None, task=None, training=None, file="held_out.jsonl", **more):
        n = len(nats)
        columns = {
            "file": pa.array([file] * n, pa.string()),
            "row": pa.array(range(n), pa.int64()),
            "id": pa.array(ids or [f"id{i}" for i in range(n)], pa.string()),
            "source": pa.array([""] * n, pa.string()),
            "task": pa.array(task or [""] * n, pa.string()),
            "answer_nats": pa.array(nats, pa.float64()),
            "answer_bytes": pa.array(more.get("answer_bytes", [10] * n), pa.int64()),
            "answer_tokens": pa.array([3] * n, pa.int64()),
            "all_nats": pa.array([2 * x for x in nats], pa.float64()),
            "all_bytes": pa.array([30] * n, pa.int64()),
            "all_tokens": pa.array([9] * n, pa.int64()),
            "choice_nats": pa.array(more.get("choices", [None] * n), pa.list_(pa.float64())),
            "choice_bytes": pa.array(more.get("chars", [None] * n), pa.list_(pa.int64())),
            "choice_chars": pa.array(more.get("chars", [None] * n), pa.list_(pa.int64())),
            "right": pa.array(more.get("right", [None] * n), pa.int32()),
        }
        meta = {
            "table": more.get("table", "evaluation"), "model": name, "model_digest": name,
            "training": training, "settings": more.get("settings", {}), "notes": [],
            "files": [{"file": file, "path": file, "blake2b": more.get("blake2b", "0" * 32)}],
        }  # fmt: skip
        table = pa.table(columns).replace_schema_metadata({b"didact": json.dumps(meta)})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return path

    return make
