"""A small run of the product, to be reported on in many shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from didact import verbs
from didact.core.budget import Budget
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.reporting import Report, Subject, write_report
from didact.testing import make_pool


@dataclass(frozen=True)
class Case:
    """Everything a report is about."""

    pool: Pool
    scores: Scores | None
    selection: Selection
    order: TrainingOrder
    ctx: Context

    def subject(self, **more: Any) -> Subject:
        return Subject(
            **{
                "pool": self.pool, "scores": self.scores, "selection": self.selection,
                "order": self.order, "ctx": self.ctx, **more,
            },
        )  # fmt: skip

    def write(self, path: Path, **more: Any) -> Report:
        return write_report(path, self.subject(**more))


def text_rows(n: int, *, sources: int = 3) -> list[dict[str, object]]:
    """Texts of growing length, their source by turns; every tenth repeats the one before."""
    words = ["apple", "bread", "cloud", "dune", "ember", "frost", "glade", "harbor", "iron", "jade"]
    rows: list[dict[str, object]] = []
    for i in range(n):
        j = i - 1 if i % 10 == 9 else i
        text = " ".join(words[(j * k + k // 3) % 10] for k in range(1, 4 + j % 50))
        rows.append({"id": f"id-{i}", "text": f"{j}: {text}", "source": f"source-{i % sources}"})
    return rows


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    """Builds a case: rows → pool → random scores → top_k → fold."""

    def build(
        rows: list[dict[str, object]] | int = 200,
        *,
        values: Any = None,
        missing: dict[int, str] | None = None,
        higher_is_better: bool = True,
        budget: Budget | None = None,
        select: str = "top_k",
        order: str = "fold",
        arrange: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        folder: str = "case",
    ) -> Case:
        if isinstance(rows, int):
            rows = text_rows(rows)
        pool = make_pool(rows, tmp_path / folder, **(data or {}))
        ctx = verbs.context(7, 1, tmp_path / "cache")
        if values is None:
            values = np.random.default_rng(1).normal(size=len(pool))
        values = np.array(values, dtype=np.float64)
        missing = missing or {}
        values[list(missing)] = np.nan
        scores = Scores(
            values, higher_is_better, "made_up", pool.fingerprint, {"a": 1}, missing=missing
        )
        chosen = verbs.select(pool, scores, select, budget=budget or Budget(ratio=0.25), ctx=ctx)
        arrange = {"layers": 3} if arrange is None and order == "fold" else arrange or {}
        ordered = verbs.order(pool, chosen, scores, order, ctx=ctx, **arrange)
        return Case(pool, scores, chosen, ordered, ctx)

    return build


@pytest.fixture
def without_scores() -> Callable[[Case], Case]:
    """The same case as a run that used no scores."""

    def strip(case: Case) -> Case:
        unranked = replace(case.selection, rank=None)
        kept = verbs.order(case.pool, unranked, None, "keep", ctx=case.ctx)
        return replace(case, scores=None, selection=unranked, order=kept)

    return strip
