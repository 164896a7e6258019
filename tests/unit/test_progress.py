"""Progress where stderr is a file: a line a minute."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from didact.cli import printing
from didact.core.protocols import Progress


@pytest.fixture
def log(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with printing.progress_log(Console(file=out, width=200)) as watch:

        def at(second, step):
            now[0] = 1000.0 + second
            watch(step)
            return out.getvalue().splitlines()

        yield at


def step(done, stage="train", note="loss 2.310"):
    return Progress(stage, done, 1000, "steps", note=note)


def test_a_line_a_minute_with_what_is_left(log):
    assert log(0, step(1)) == []
    assert log(59, step(60)) == []
    assert log(60, step(61)) == ["train: 61 of 1,000 steps, loss 2.310, 15 min 39 s left"]
    assert len(log(119, step(121))) == 1
    assert log(120, step(121))[-1] == "train: 121 of 1,000 steps, loss 2.310, 14 min 39 s left"


def test_what_is_done_in_a_minute_is_not_told(log):
    assert log(30, step(1000)) == []
    assert log(40, step(1, stage="evaluate", note="")) == []
    assert log(95, step(30, stage="evaluate", note="")) == []
    assert log(100, step(11, stage="evaluate", note=""))[-1].endswith("1 h 38 min left")


def test_work_that_goes_on_counts_from_where_it_was(log):
    assert log(0, step(500)) == []
    assert log(100, step(600)) == ["train: 600 of 1,000 steps, loss 2.310, 6 min 40 s left"]
