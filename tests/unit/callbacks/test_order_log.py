"""didact verify-order: logs of many kinds, and what is wrong with some."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import didact
from didact.callbacks.order_log import verify_order
from didact.core.errors import DataError
from didact.core.scores import TrainingOrder
from didact.data import tables
from didact.testing import make_pool
from didact.testing.pools import chat
from didact.training.telemetry import Step, rows_digest, step_lines

N, BATCH = 22, 4


@pytest.fixture
def out(tmp_path):
    """A run folder's order and rows: 22 rows in steps of 4."""
    rows = [
        chat(
            f"id{i}", f"what is the number that comes after {i}?", f"it is {i + 1} and no other one"
        )
        for i in range(N)
    ]
    pool = make_pool(rows, tmp_path)
    order = TrainingOrder(
        np.random.default_rng(0).permutation(N), pool.fingerprint, "test", batch_size=BATCH
    )
    didact.export(pool, order, tmp_path / "out")
    tables.write_order(
        order, pool.read(order.rows, ["id"]).column("id"), tmp_path / "out" / "order.parquet"
    )
    return tmp_path / "out"


def steps_of(out, what):
    order = tables.read_order(out).rows.tolist()
    values = {"rows": order, "ids": [f"id{i}" for i in order], "positions": list(range(N))}
    values["texts"] = [
        f"<|user|>what is the number that comes after {i}?<|assistant|>it is {i + 1} and no other one<|end|>"
        for i in order
    ]
    return [values[what][i : i + BATCH] for i in range(0, N, BATCH)]


def written(path, what, steps, first=1):
    lines = [json.dumps({"step": i, what: s}) for i, s in enumerate(steps, first)]
    path.write_text("\n".join(lines) + "\n")
    return path


KINDS = ["rows", "ids", "positions", "texts"]


@pytest.mark.parametrize("what", KINDS)
def test_a_log_in_order(out, tmp_path, what):
    steps = [s[::-1] for s in steps_of(out, what)]  # inside a step the order is free
    found = verify_order(written(tmp_path / "log", what, steps), out)
    assert (found.verdict, found.steps, found.in_order) == ("in order", 6, 6)


@pytest.mark.parametrize("what", KINDS)
def test_a_swap_across_steps_is_named(out, tmp_path, what):
    steps = steps_of(out, what)
    steps[2][3], steps[3][0] = steps[3][0], steps[2][3]
    found = verify_order(written(tmp_path / "log", what, steps), out)
    ids = steps_of(out, "ids")
    assert (found.verdict, found.first_wrong_step, found.in_order) == ("broken", 3, 2)
    assert (found.expected, found.seen) == ((ids[2][3],), (ids[3][0],))


def test_a_bare_sequence_of_ids(out, tmp_path):
    ids = [i for s in steps_of(out, "ids") for i in s]
    log = tmp_path / "log"
    log.write_text("\n".join(ids))
    assert verify_order(log, out).verdict == "in order"
    log.write_text("\n".join(f'"{i}"' for i in [ids[5], *ids[1:5], ids[0], *ids[6:]]))
    assert verify_order(log, out).first_wrong_step == 1


def test_parts_of_a_step_are_one_step(out, tmp_path):
    lines = [
        json.dumps({"step": i, "ids": part})
        for i, s in enumerate(steps_of(out, "ids"), 1)
        for part in (s[:2], s[2:])
    ]
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    assert verify_order(log, out).verdict == "in order"


def test_a_run_that_went_on_counts_once(out, tmp_path):
    lines = written(tmp_path / "log", "ids", steps_of(out, "ids")).read_text().splitlines()
    log = tmp_path / "log"
    log.write_text("\n".join([*lines[:4], *lines[2:]]))
    found = verify_order(log, out)
    assert found.verdict == "in order"
    assert found.notes == ("the log goes back from step 4 to 3: training went on there",)


def test_a_log_that_ends_early_cannot_tell(out, tmp_path):
    found = verify_order(written(tmp_path / "log", "ids", steps_of(out, "ids")[:4]), out)
    assert found.verdict == "cannot tell"
    assert "steps 5–6 (2 of 6) are not in the log" in found.said


def test_rows_missing_at_the_end_break_it(out, tmp_path):
    steps = steps_of(out, "ids")
    found = verify_order(written(tmp_path / "log", "ids", [*steps[:5], steps[5][:1]]), out)
    assert (found.verdict, found.first_wrong_step) == ("broken", 6)


def test_another_data_set_cannot_tell(out, tmp_path):
    steps = [[f"other{i}" for i in range(4)]] * 6
    found = verify_order(written(tmp_path / "log", "ids", steps), out)
    assert found.verdict == "cannot tell"
    assert "0 of 4 ids are in it" in found.said


def test_steps_of_didact_by_their_digests(out, tmp_path):
    digests = [rows_digest(s) for s in steps_of(out, "rows")]
    log = tmp_path / "steps.jsonl"
    log.write_text(step_lines(Step(step=i, loss=1.0, rows=d) for i, d in enumerate(digests, 1)))
    assert verify_order(log, out / "order.parquet").verdict == "in order"
    digests[3] = digests[2]
    log.write_text(step_lines(Step(step=i, loss=1.0, rows=d) for i, d in enumerate(digests, 1)))
    assert verify_order(log, out).first_wrong_step == 4


def test_steps_of_didact_go_on_over_the_end_of_an_epoch(tmp_path):
    pool = make_pool([chat(f"id{i}", f"what comes after {i}?", "it") for i in range(6)], tmp_path)
    rows = np.concatenate([np.arange(6), np.arange(6)[::-1]])
    order = TrainingOrder(rows, pool.fingerprint, "test", epochs=2, batch_size=BATCH)
    place, log = tmp_path / "order.parquet", tmp_path / "steps.jsonl"
    tables.write_order(order, pool.read(rows, ["id"]).column("id"), place)
    digests = [rows_digest(rows[i : i + BATCH]) for i in range(0, 12, BATCH)]
    log.write_text(step_lines(Step(step=i, loss=1.0, rows=d) for i, d in enumerate(digests, 1)))
    assert verify_order(log, place).verdict == "in order"


def test_a_log_that_does_not_say_what_was_read(out, tmp_path):
    log = tmp_path / "steps.jsonl"
    log.write_text(step_lines([Step(step=1, loss=1.0)]))  # as Telemetry writes it
    with pytest.raises(DataError, match="does not tell its rows"):
        verify_order(log, out)


def test_a_cut_line(out, tmp_path):
    log = written(tmp_path / "log", "ids", steps_of(out, "ids"))
    whole = log.read_text()
    log.write_text(whole[:-20])
    found = verify_order(log, out)
    assert found.verdict == "cannot tell"
    assert "the last line was cut" in found.notes[0]
    lines = whole.splitlines()
    log.write_text("\n".join([lines[0], lines[1][:10], *lines[2:]]))
    with pytest.raises(DataError, match=r"log:2: not JSON .* the line was cut"):
        verify_order(log, out)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"step": 1, "loss": 2}', "expected step, and one of positions, ids, texts, rows"),
        ('{"step": "x", "ids": []}', "step is 'x'; expected a whole number from 1"),
        ('{"step": 1, "ids": "a"}', "ids is 'a'; expected a list"),
        ('{"step": 1, "rows": ["x"]}', "expected numbers"),
        ('{"step": ' * 100_000 + "\n{}", "log:1: not JSON .nested too deep."),
        ("", "holds no step"),
    ],
)
def test_what_is_no_log(out, tmp_path, line, message):
    log = tmp_path / "log"
    log.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        verify_order(log, out)


def test_no_order(tmp_path):
    (tmp_path / "log").write_text('{"step": 1, "ids": ["a"]}\n')
    with pytest.raises(DataError, match=r"order\.parquet: no such file"):
        verify_order(tmp_path / "log", tmp_path)


@pytest.mark.parametrize(("kept", "code"), [(6, 0), (4, 5), (0, 4)])
def test_exit_codes_are_verdicts(out, tmp_path, kept, code):
    steps = steps_of(out, "ids")
    steps = steps[:kept] if kept else [steps[1], *steps[1:]]
    log = written(tmp_path / "log", "ids", steps)
    done = subprocess.run(
        [sys.executable, "-m", "didact.cli", "verify-order", log, out, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    verdicts = {0: "in order", 4: "broken", 5: "cannot tell"}
    assert json.loads(done.stdout)["verdict"] == verdicts[code]


@pytest.mark.parametrize("batch_size", [4, None])
def test_steps_of_didact_run_on_over_the_ends_of_epochs(out, tmp_path, batch_size):
    pool_rows = tables.read_order(out).rows
    rows = np.concatenate([pool_rows, pool_rows[::-1]])  # 22 a pass: the sixth step has two passes
    order = TrainingOrder(rows, "0" * 32, "test", batch_size=batch_size, epochs=2)
    ids = [f"id{i}" for i in rows.tolist()]
    tables.write_order(order, pa.chunked_array([ids]), out / "order.parquet")
    size = batch_size or 5
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    log = tmp_path / "steps.jsonl"

    def write(parts):
        steps = [
            Step(step=i, loss=1.0, rows=rows_digest(p), samples=len(p) - 1, skipped=1)
            for i, p in enumerate(parts, 1)
        ]
        log.write_text(step_lines(steps))

    write(parts)
    found = verify_order(log, out)
    assert (found.verdict, found.in_order) == ("in order", len(parts))
    write([*parts, parts[0]])
    assert verify_order(log, out).first_wrong_step == len(parts) + 1
    write(parts[:-1])
    assert verify_order(log, out).verdict == "cannot tell"


def test_steps_of_telemetry_do_not_tell_their_rows(out, tmp_path):
    log = tmp_path / "steps.jsonl"
    log.write_text(step_lines([Step(step=1, loss=1.0)]))
    with pytest.raises(DataError, match=r"steps.jsonl:1: does not tell its rows.*order_log.jsonl"):
        verify_order(log, out)
