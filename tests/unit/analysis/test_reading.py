"""Runs from evaluation tables and from tables of values; what is refused, with its place."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from didact import verbs
from didact.analysis.reading import read_runs
from didact.analysis.runs import What
from didact.core.errors import DataError

CHOICES = {
    "choices": [[1.0, 2.0, 0.5], [0.3, 4.0], None, [1.0, 1.0]],
    "chars": [[4, 10, 1], [3, 8], None, [2, 2]],
    "right": [2, 1, None, 0],
}


def trained(rows="a" * 32, **seeds):
    return {"set": rows, "seeds": seeds, "n_params": 272_000}


def test_an_evaluation_is_a_run_with_its_samples(write_evaluation):
    path = write_evaluation("E.parquet", [7.0, 14.0], training=trained(init=3, draw=None, order=5))
    (run,), notes = read_runs([path])
    assert (run.set, run.draw, run.size) == ("a" * 12, "a" * 32, 272_000)
    assert run.seeds == {"init": 3, "draw": None, "order": 5}
    measure = run.measures[What("held_out.jsonl", "", "bits_per_byte")]
    assert measure.value == pytest.approx(21 / math.log(2) / 20)
    assert len(measure.samples) == 2
    assert run.measures[What("held_out.jsonl", "", "bits_per_byte_all")].value == pytest.approx(
        42 / math.log(2) / 60
    )
    assert notes == ()


def test_choices_by_hand(write_evaluation):
    path = write_evaluation("E.parquet", [1.0] * 4, training=trained(), **CHOICES)
    (run,), _ = read_runs([path])
    found = {what.metric: m.value for what, m in run.measures.items()}
    assert found["accuracy"] == (1 + 0 + 0.5) / 3
    assert found["accuracy_per_char"] == (0 + 0 + 0.5) / 3
    assert found["answer_nats_per_char"] == (0.5 + 4 + 1) / (1 + 8 + 2)
    assert found["margin"] == pytest.approx((0.5 - 3.7 + 0) / 3)
    odds = [
        math.exp(-0.5) / (math.exp(-1) + math.exp(-2) + math.exp(-0.5)),
        math.exp(-4) / (math.exp(-0.3) + math.exp(-4)), 0.5,
    ]  # fmt: skip
    assert found["answer_probability"] == pytest.approx(np.mean(odds))


def test_values_are_those_that_evaluate_sums_up(write_evaluation):
    results = pytest.importorskip("didact.evaluation.results")
    path = write_evaluation(
        "E.parquet", [1.0, 2.0, 0.0, 4.0], training=trained(), task=["x", "y", "", "y"],
        answer_bytes=[10, 3, 0, 8], **CHOICES,
    )  # fmt: skip
    (run,), _ = read_runs([path])
    records = results.read_evaluation(path).summary()
    known = {
        What(r["file"], r["task"], r["metric"]): r["value"]
        for r in records
        if not r["source"] and r["metric"] != "chance"
    }
    assert known == {what: pytest.approx(m.value, rel=1e-12) for what, m in run.measures.items()}
    directions = {r["metric"]: r["higher_is_better"] for r in records}
    assert all(directions[w.metric] == m.higher_is_better for w, m in run.measures.items())


def test_tasks_are_told_apart_and_one_task_alone_is_the_whole(write_evaluation):
    both = write_evaluation("E.parquet", [1.0, 2.0], training=trained(), task=["x", "y"])
    (run,), _ = read_runs([both])
    assert {what.task for what in run.measures} == {"", "x", "y"}
    one = write_evaluation("F.parquet", [1.0, 2.0], training=trained(), task=["x", "x"])
    (run,), _ = read_runs([one])
    assert {what.task for what in run.measures} == {"x"}


def test_a_folder_and_a_name(write_evaluation, tmp_path):
    write_evaluation("out/evaluation.parquet", [1.0, 2.0], training=trained())
    (run,), _ = read_runs([f"best={tmp_path / 'out'}"])
    assert run.set == "best"
    assert run.draw == "a" * 32


def test_an_earlier_models_evaluation_is_not_a_runs(write_evaluation, tmp_path):
    out, about = tmp_path / "out", {**trained(), "fingerprint": "old"}
    table = write_evaluation("out/evaluation.parquet", [1.0], training=about)
    (out / "model").mkdir()
    (out / "model" / "training.json").write_text('{"fingerprint": "new"}')
    with pytest.raises(DataError, match="is of another training than the model"):
        read_runs([f"a={out}"])
    assert read_runs([f"a={table}"])[0][0].set == "a"
    (out / "model" / "training.json").write_text('{"fingerprint": "old"}')
    assert read_runs([f"a={out}"])[0][0].set == "a"
    (out / "stages").mkdir()
    with pytest.raises(DataError, match="the run did not finish"):
        read_runs([f"a={out}"])


def test_end_to_end_over_files(write_evaluation, tmp_path):
    rng = np.random.default_rng(0)
    nats = rng.gamma(4, 5, 200)
    paths = []
    for label, level in (("a", 1.0), ("b", 1.2)):
        for seed in range(3):
            path = write_evaluation(
                f"{label}{seed}.parquet", (nats * (level + 0.01 * seed)).tolist(),
                training=trained(label * 32, init=seed),
            )  # fmt: skip
            paths.append(path)
    result = verbs.tell_apart(paths, wanted={"bits_per_byte": 0.01})
    told = {t["metric"]: t for t in result["tasks"]}
    assert told["bits_per_byte"]["ranking"] == ["a" * 12, "b" * 12]
    assert told["bits_per_byte"]["size"] == 272_000
    keys = {"task", "metric", "snr", "detectable", "seeds_needed", "decision_accuracy", "ties"}
    assert all(keys <= t.keys() for t in result["tasks"])
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "scores"}, "is a scores table; expected an evaluation"),
        ({"training": None}, "does not say which set its model was trained on; name it: SET="),
        ({"ids": ["x", "x"]}, "row 2: the sample 'x' is there twice"),
        ({"nats": [1.0, math.nan]}, "row 2: answer_nats is nan; expected a finite number"),
        (
            {"choices": [[1.0, -2.0], None], "chars": [[1, 1], None], "right": [0, None]},
            r"row 1: choice_nats is \[1.0, -2.0\]; expected nats, 0 or more",
        ),
        (
            {"choices": [[1.0, 2.0], None], "chars": [[1, 1], None], "right": [2, None]},
            "row 1: the right one of 2 choices is 2",
        ),
    ],
)
def test_tables_that_cannot_be_are_refused(write_evaluation, change, message):
    facts = {"nats": [1.0, 2.0], "training": trained(), **change}
    with pytest.raises(DataError, match=message):
        read_runs([write_evaluation("E.parquet", **facts)])


def test_a_file_is_given_once_and_is_there(write_evaluation, tmp_path):
    path = write_evaluation("E.parquet", [1.0, 2.0], training=trained())
    with pytest.raises(DataError, match="is the same file as"):
        read_runs([path, f"b={path}"])
    with pytest.raises(DataError, match="no such file"):
        read_runs([tmp_path / "none.parquet"])
    path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_runs([path])


def test_held_out_files_of_one_name_are_one_file(write_evaluation):
    a = write_evaluation("a.parquet", [1.0, 2.0], training=trained())
    b = write_evaluation("b.parquet", [1.0, 2.0], training=trained("b" * 32), blake2b="f" * 32)
    with pytest.raises(DataError, match="their held-out files held_out.jsonl are not the same"):
        read_runs([a, b])


def test_other_settings_are_said_and_another_device_is_not(write_evaluation):
    paths = [
        write_evaluation(
            f"{i}.parquet", [1.0, 2.0], training=trained(),
            settings={"template": template, "device": device},
        )
        for i, (template, device) in enumerate((("chatml", "cpu"), (None, "cuda")))
    ]  # fmt: skip
    _, notes = read_runs(paths)
    assert len(notes) == 1
    assert notes[0].startswith('the evaluations differ in template: "chatml", null')


ROWS = "run,set,task,metric,value,init\n"


def written(tmp_path, text, name="runs.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_table_of_values(tmp_path):
    lines = [
        f"{s}{i},{s},gsm8k,loss,{v + i},{i}\n" for s, v in (("a", 1), ("b", 5)) for i in (0, 1)
    ]
    csv = written(tmp_path, ROWS + "".join(lines))
    runs, _ = read_runs([csv])
    assert [(r.name, r.set, dict(r.seeds)["init"]) for r in runs] == [
        ("a0", "a", 0), ("a1", "a", 1), ("b0", "b", 0), ("b1", "b", 1),
    ]  # fmt: skip
    rows = [
        dict(zip(ROWS.strip().split(","), line.strip().split(","), strict=True)) for line in lines
    ]
    for row in rows:
        row["value"] = float(row["value"])
    jsonl = written(tmp_path, "\n".join(map(json.dumps, rows)), "runs.jsonl")
    again, _ = read_runs([jsonl])
    assert again == runs


def test_draws_and_sizes_of_a_table(tmp_path):
    head = "run,set,metric,value,draw,size,higher_is_better\n"
    path = written(tmp_path, head + "x,a,f1,0.5,3,1e6,true\ny,a,f1,0.6,,1000000,True\n")
    (x, y), _ = read_runs([path])
    assert (x.draw, y.draw, x.size, y.size) == ("draw 3", "", 10**6, 10**6)
    assert x.measures[What("", "", "f1")].higher_is_better


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,set,metric\nx,a,loss\n", r":2: value is None; expected a finite number"),
        ("run,set,metric,value\nx,a,loss,nan\n", r":2: value is 'nan'; expected a finite number"),
        ("run,set,metric,value\nx,,loss,1\n", r":2: has no 'set'"),
        ("run,set,metric,value\nx,a,f1,1\n", r":2: higher_is_better of 'f1' is None"),
        ("run,set,metric,valu\nx,a,loss,1\n", r":2: unknown column 'valu'; did you mean 'value'"),
        ("run,set,metric,value\nx,a,loss,1\nx,a,loss,2\n", r":3: run 'x' has two values of loss"),
        ("run,set,metric,value\nx,a,loss,1\nx,b,perplexity,2\n", r":3: run 'x' has set 'b' here"),
        ("run,set,metric,value\nx,a,loss\n", r":2: does not have the 4 values"),
        ("run,set,metric,value,init\nx,a,loss,1,0.5\n", r":2: init is '0.5'; expected a whole"),
        ("run,set,metric,value\n", "holds no run"),
    ],
)
def test_tables_of_values_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_runs([written(tmp_path, text)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"run": "x"\n', ":1: not JSON"),
        ("\n[1]\n", r":2: is '\[1\]'; expected an object a line"),
        ('{"run": "x", "set": "a", "metric": "loss", "value": NaN}', ":1: value is nan"),
        ('{"run": "x", "set": "a", "metric": "loss", "value": true}', ":1: value is True"),
    ],
)
def test_lines_are_refused_with_their_number(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_runs([written(tmp_path, text, "runs.jsonl")])


def test_a_table_of_values_has_its_own_sets(tmp_path):
    path = written(tmp_path, ROWS + "x,a,,loss,1,0\n")
    with pytest.raises(DataError, match="a table names the sets of its runs"):
        read_runs([f"a={path}"])
