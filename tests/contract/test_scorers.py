"""Every registered scorer keeps the contract; a new one is covered by its registry line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from didact.core import registry
from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, FittedScorer
from didact.scoring.one_pass import one_pass
from didact.testing import check_scorer

# Settings of the scorers that cannot do without.
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "column": {"name": "meta.score", "prefer": "higher"},
}
# Further settings that take another way through the code.
MORE: list[tuple[str, Mapping[str, Any]]] = [
    ("bm25", {"variant": "lucene", "field": "prompt", "target_field": "text", "reduce": "max"}),
    ("column", {"name": "meta.grade", "prefer": "lower"}),
    ("compression", {"codec": "isal", "field": "prompt"}),
    ("compression", {"codec": "zstd", "level": 9}),
    ("length", {"unit": "bytes", "field": "completion", "prefer": "shortest"}),
    ("length", {"unit": "characters"}),
    ("length", {"unit": "words", "field": "prompt"}),
]
CASES = [(name, NEEDED.get(name, {})) for name in registry.known("scorers")] + MORE


@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda case: str(case))
def test_contract(name: str, settings: Mapping[str, Any], tmp_path: Path) -> None:
    check_scorer(name, tmp_path, settings=settings)


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Breaks one promise at a time.

    **Source:** this file. **Cost:** none.
    """

    how: str
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        return Cost(cpu_seconds=-1.0 if self.how == "estimate" else 0.0)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> FittedScorer:
        ways = {
            "batches": lambda batch: np.full(batch.num_rows, float(batch.num_rows)),
            "order": lambda batch: np.arange(batch.num_rows, dtype=float),
            "pickling": lambda batch: np.ones(batch.num_rows),
            "estimate": lambda batch: np.ones(batch.num_rows),
            "shape": lambda batch: np.ones((batch.num_rows, 2)),
            "nan": lambda batch: np.full(batch.num_rows, np.nan),
        }
        return one_pass(_pickled if self.how in {"estimate"} else ways[self.how], ("n_tokens",))


def _pickled(batch: Any) -> np.ndarray:
    return np.ones(batch.num_rows)
