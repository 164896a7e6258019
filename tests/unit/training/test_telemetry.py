from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from didact.core.errors import DataError
from didact.training.telemetry import Step, cost_so_far, read_steps, rows_digest, step_lines


def step(n, **more):
    told = {"loss": 2.0 / n, "epoch": 1, "learnt": 30.0, "total_tokens": 40 * n,
            "total_flops": 1e6 * n, "seconds": 0.5 * n,
            "loss_by_source": {"книги": (1.5, 20.0), "b": (2.5, 10.0)}}  # fmt: skip
    return Step(step=n, **{**told, **more})


def written(tmp_path, text):
    (tmp_path / "steps.jsonl").write_text(text, "utf-8")
    return tmp_path / "steps.jsonl"


def test_what_is_written_is_read(tmp_path):
    steps = tuple(step(n) for n in range(1, 5))
    path = written(tmp_path, step_lines(steps))
    assert read_steps(path) == read_steps(tmp_path) == steps
    assert [s.seconds for s in read_steps(path)] == [0.5, 1.0, 1.5, 2.0]
    assert (cost_so_far(steps).flops, cost_so_far(steps).tokens) == (4e6, 160)
    assert cost_so_far(()).flops == 0
    least = written(tmp_path, '{"step": 7, "loss": 1}\n{"step": 8, "loss": 2, "new": 3}\n')
    assert [(s.step, s.loss, s.learnt) for s in read_steps(least)] == [(7, 1, None), (8, 2, None)]


def test_seconds_are_measured_and_no_part_of_a_step():
    assert step(1) == step(1, seconds=9.0)
    assert step(1) != step(1, total_flops=9.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (step_lines([step(1)]) + '{"step": 2, "lo', r"steps.jsonl:2: not JSON .*the line was cut"),
        (step_lines([step(1), step(2, loss=float("nan"))]), r":2: the loss of step 2 is nan"),
        (step_lines([step(1), step(2), step(2)]), r":3: step 2 where 3 .*repeated"),
        (step_lines([step(1), step(3)]), r":2: step 3 where 2 .*missing"),
        (step_lines([step(1)]) + "[]\n", r":2: not a step"),
        ('{"step": 1}\n', r":1: not a step .*loss"),
        ('{"step": "1", "loss": 2}\n', r":1: step '1'.*expected numbers"),
        ("", "holds no step"),
    ],
)
def test_a_log_that_is_not_whole_is_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_steps(written(tmp_path, text))


def test_lines_are_json_and_say_everything():
    told = json.loads(step_lines([step(3)]))
    assert set(told) == {f.name for f in dataclasses.fields(Step)}


def test_the_digest_is_of_a_sequence():
    rows = np.arange(8)
    assert rows_digest(rows) == rows_digest(rows.tolist()) != rows_digest(rows[::-1])
    assert len(rows_digest(rows)) == 16
