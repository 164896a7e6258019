"""Arms for somebody else's trainer, and what comes back from there."""

from __future__ import annotations

import csv
import json

import orjson
import pytest

from didact.comparing.compare import compare
from didact.core.errors import DataError
from didact.planning.compared import compared_prior
from didact.planning.comparison import Comparison
from didact.verbs import context

LEVELS = {"base": 10.0, "all": 50.0, "random": 30.0, "words": 40.0}


def chat(i):
    return {"messages": [{"role": "user", "content": f"say {i} {'again ' * (i % 9)}"},
                         {"role": "assistant", "content": f"here you are: {i}"}]}  # fmt: skip


VALUES = {
    "data": "pool.jsonl", "base": "7B", "target": "target.jsonl", "tell_on": ["test.jsonl"],
    "metric": "mt_bench", "seeds": [0, 1], "budgets": [0.25, 0.5, 1],
    "train": {"batch_size": 4}, "arms": [{"name": "words", "score": {"method": "bm25"}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder into which the arms of a 7B were exported, which is not here; and these."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, (first, last) in {"pool": (0, 40), "target": (50, 56), "test": (60, 66)}.items():
        lines = [orjson.dumps(chat(i)) + b"\n" for i in range(first, last)]
        (folder / f"{name}.jsonl").write_bytes(b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ctx = context(cache_dir=folder / "cache")
        return folder, compare(VALUES, folder / "OUT", export_only="trl", ctx=ctx).exported


@pytest.fixture
def place(exported, monkeypatch):
    monkeypatch.chdir(exported[0])
    return exported[0]


def filled(place, change=None):
    """The CSV as it is given back: a score for every run, better where more was read."""
    with (place / "OUT" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        arm, _, beta = row["arm"].partition(" at ")
        seed = float(row["seed"] or 0)
        row["value"] = LEVELS[arm] + 5 * float(beta or 0) + 0.1 * seed
        row["higher_is_better"] = "true"
    rows = rows if change is None else change(rows)
    with (place / "back.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0].keys())
        out.writeheader()
        out.writerows(rows)
    return place / "back.csv"


def test_there_is_a_data_set_for_each_run(place, exported):
    arms = {(each.arm, each.seed): each for each in exported[1]}
    for seed in (0, 1):
        assert arms["random at 1", seed].shares == arms["words at 1", seed].shares == "all"
        for arm in ("random at 0.25", "words at 0.5", "all"):
            each = arms[arm, seed]
            folder = place / "OUT" / each.folder
            assert len((folder / "train.jsonl").read_text().splitlines()) == each.samples
            assert list((folder / "settings").iterdir())
            assert each.n_params > 6e9
    assert arms["words at 0.25", 0].samples < arms["words at 0.5", 0].samples < 40
    assert arms["all", 0].samples == 40
    text = (place / "OUT" / "results.csv").read_text().splitlines()
    assert text[0] == "arm,seed,task,metric,value,higher_is_better,training_flops"
    assert len(text) == 1 + 1 + 2 * (1 + 2 * 2)  # base, all, two arms at two budgets


def test_what_comes_back_is_a_comparison(place):
    ctx = context(cache_dir=place / "cache")
    done = compare(VALUES, place / "OUT", results=filled(place), ctx=ctx)
    read = Comparison.from_json(json.loads((place / "OUT" / "comparison.json").read_text()))
    assert done.comparison is not None
    assert read.verdict == done.comparison.verdict
    assert read.verdict["code"] == "select"
    assert "words on test at 0.25, 0.5" in read.verdict["text"]
    arms = {(arm.name, arm.beta): arm for arm in read.arms}
    assert arms["random", 1.0].value == arms["all", 1.0].value
    assert arms["words", 0.5].low < arms["words", 0.5].value < arms["words", 0.5].high
    prior = compared_prior(read, 7e9, "x")
    assert prior.rates["bm25"] > prior.rates["random"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [r for r in rows if "random" not in r["arm"]], "no run of random samples"),
        (lambda rows: [*rows, rows[0]], "is given at .*:2, too; a run counts once"),
        (lambda rows: [rows[0] | {"arm": "word at 0.5"}], "'word at 0.5' was not exported; did"),
        (lambda rows: [rows[1] | {"seed": 7}], "seed '7' of .*; expected one of"),
        (lambda rows: [rows[1] | {"value": "good"}], "value is 'good'; expected a finite number"),
        (lambda rows: [rows[1] | {"higher_is_better": "?"}], "higher_is_better is"),
        (lambda rows: [rows[1] | {"arm": "random at 1"}], "is the same training as 'all'"),
        (lambda rows: [rows[1] | {"metric": "a"}, rows[2] | {"metric": "b"}], "has a, b, and the"),
        (lambda rows: [r | {"value": ""} for r in rows], "has no row with a value"),
        (lambda rows: [{k: v for k, v in r.items() if k != "task"} for r in rows],
         "no column 'task'; expected arm, seed"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(place, change, said):
    with pytest.raises(DataError, match=said):
        compare(VALUES, place / "OUT", results=filled(place, change))


def test_without_an_export_there_is_nothing_to_be_told(place, tmp_path):
    with pytest.raises(DataError, match="write them first: didact compare GRID .* --export-only"):
        compare(VALUES, tmp_path, results=filled(place))
