"""What a budget of FLOPs is charged before the training: a score that several stages use, once."""

from __future__ import annotations

import pytest

from didact.config import parse
from didact.core.cost import Bill, Cost
from didact.core.manifest import Measured, StageRecord
from didact.stages.spending import foreseen_before, paid_before


def record(name: str, own: float = 0.0, **uses: float) -> StageRecord:
    bill = Bill(own=Cost(flops=own), uses={k: Cost(flops=v) for k, v in uses.items()})
    return StageRecord(name=name, fingerprint="", depends_on={}, measured=Measured(bill))


def test_one_score_that_chooses_and_orders_is_paid_once() -> None:
    records = [record("data", 100), record("score", a=5), record("order_score", a=5),
               record("select", 1, b=2), record("order", 50), record("train", 1000)]  # fmt: skip
    assert paid_before(records).value.flops == 5 + 1 + 2


@pytest.mark.parametrize(("order", "flops"), [("perplexity", 5 + 1), ("ifd", 5 + 5 + 1)])
def test_it_is_foreseen_once(order: str, flops: float) -> None:
    config = parse({
        "data": {"path": "p.jsonl"}, "score": {"method": "perplexity", "model": "m"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "order": {"method": "sort", "score": {"method": order, "model": "m"}},
    })  # fmt: skip
    costs = {"score": Cost(flops=5), "order_score": Cost(flops=5), "select": Cost(flops=1),
             "train": Cost(flops=100)}  # fmt: skip
    assert foreseen_before(config, costs).flops == flops
