"""Two runs, side by side: what was set differently and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from didact.core.manifest import Manifest
from didact.core.scores import Scores
from didact.data import tables
from didact.run_folder import differences, read_manifest
from didact.selection.combine import scaled_ranks


def compare_runs(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Settings, inputs, environment, counts, overlap of selections, agreement of scores and order.

    Args:
        run_a: A finished run folder.
        run_b: Another.

    Returns:
        JSON values. `same_pool` says whether rows can be compared; if not, `scores`, `selection`
        and `order` are absent. `jaccard` is shared ÷ united rows; `spearman` is over rows scored
        in both, of utilities, so that 1 means the same preference.
    """
    a, b = read_manifest(run_a), read_manifest(run_b)
    changed = differences(a.config, b.config)
    out: dict[str, Any] = {
        "a": str(run_a),
        "b": str(run_b),
        "equal": a.without_measured() == b.without_measured(),
        "config": {k: list(v) for k, v in changed.items()},
        "environment": {k: list(v) for k, v in differences(a.environment, b.environment).items()},
        "inputs_equal": [i["blake2b"] for i in a.inputs] == [i["blake2b"] for i in b.inputs],
        "counts": _counts(a, b),
        "cost": {
            name: [_measured(a, name), _measured(b, name)]
            for name in dict.fromkeys([s.name for s in (*a.stages, *b.stages)])
        },
    }
    chosen_a, chosen_b = (tables.read_selection(run)[0] for run in (run_a, run_b))
    out["same_pool"] = chosen_a.pool_fingerprint == chosen_b.pool_fingerprint
    if not out["same_pool"]:
        return out
    shared = len(np.intersect1d(chosen_a.rows, chosen_b.rows, assume_unique=True))
    united = len(chosen_a) + len(chosen_b) - shared
    out["selection"] = {
        "a": len(chosen_a), "b": len(chosen_b), "shared": shared,
        "jaccard": shared / united if united else 1.0,
    }  # fmt: skip
    scores = [run / "scores.parquet" for run in (run_a, run_b)]
    if all(path.exists() for path in scores):
        out["scores"] = {"spearman": spearman(*(tables.read_scores(path) for path in scores))}
    orders = [tables.read_order(run).rows for run in (run_a, run_b)]
    out["order"] = {
        "equal": bool(np.array_equal(orders[0], orders[1])),
        "rows_at_the_same_position": int((orders[0] == orders[1]).sum())
        if len(orders[0]) == len(orders[1])
        else 0,
    }
    return out


def spearman(a: Scores, b: Scores) -> float | None:
    """Rank correlation of two utilities over the rows scored in both; None below two rows."""
    both = a.present & b.present
    if both.sum() < 2:
        return None
    ranks = [scaled_ranks(s.utility[both]) for s in (a, b)]
    if any(np.ptp(r) == 0 for r in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _counts(a: Manifest, b: Manifest) -> dict[str, Any]:
    out = {}
    for stage in ("data", "select", "export"):
        in_a, in_b = a.stage(stage), b.stage(stage)
        if in_a is not None and in_b is not None:
            for name, pair in differences(dict(in_a.counts), dict(in_b.counts)).items():
                if not name.startswith("sources"):
                    out[f"{stage}.{name}"] = list(pair)
    return out


def _measured(manifest: Manifest, name: str) -> float | None:
    record = manifest.stage(name)
    return None if record is None else record.measured.cost.cpu_seconds
