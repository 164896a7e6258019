"""What is dropped to keep to the hours, in which order."""

from __future__ import annotations

from didact.comparing.bill import Bill, Line, next_to_go
from didact.comparing.grid import parse_grid
from didact.comparing.settings import settings_of


def test_further_values_of_axes_go_first_then_the_last_arms(grid):
    arms = [{"name": name, "score": {"method": "bm25"}} for name in ("a", "b")]
    axes = {"train.learning_rate": [1, 2, 3]}
    left = settings_of(parse_grid(grid(arms=arms, axes=axes, choose_on=["val.jsonl"])), "x")
    gone = []
    while (going := next_to_go(left)) is not None:
        left.remove(going)
        gone.append(going.label)
    rates = [f"[learning_rate={rate}]" for rate in (3, 2, 1)]
    assert gone == [
        f"b {rates[0]}", f"b {rates[1]}", f"a {rates[0]}", f"a {rates[1]}", f"b {rates[2]}",
        f"a {rates[2]}",
    ]  # fmt: skip
    assert {s.arm for s in left} == {"base", "all", "random"}  # these stay


def test_runs_at_a_time_share_the_hours():
    line = Line(
        label="a", runs=2, infeasible=0, scoring_flops=1.0, scoring_cpu_seconds=0.0,
        training_flops=2.0, evaluation_flops=3.0, seconds=7200.0,
    )  # fmt: skip
    bill = Bill((line, line), ("b",), "CPU", 2)
    assert bill.flops == 12.0
    assert bill.seconds == 7200.0
    assert bill.to_json()["hours"] == 2.0
    assert bill.to_json()["dropped"] == ["b"]
