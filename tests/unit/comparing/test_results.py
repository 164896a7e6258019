"""Arms for somebody else's trainer, and what comes back from there."""

from __future__ import annotations

import csv
import json

import orjson
import pytest

from didact.comparing.exporting import Exported, export_arms, results_template
from didact.comparing.results import compared_results
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
        return folder, export_arms(VALUES, folder / "OUT", "trl", ctx=ctx)


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
    found = compared_results(VALUES, place / "OUT", filled(place))
    read = Comparison.from_json(json.loads((place / "OUT" / "comparison.json").read_text()))
    assert read.verdict == found.verdict
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
        (lambda rows: [rows[1] | {"higher_is_better": "?"}], "higher_is_better of 'mt_bench' is"),
        (lambda rows: [rows[1] | {"task": ""}], "has no task; expected what the value is of"),
        (lambda rows: [rows[1] | {"training_flops": "-5"}], "training_flops is -5; expected 0 or"),
        (lambda rows: [rows[0] | {"seed": "0"}], "seed '0' of 'base'; expected no seed: it is one"),
        (lambda rows: [rows[1] | {"arm": "random at 1"}], "is the same training as 'all'"),
        (lambda rows: [rows[1] | {"metric": "a"}, rows[2] | {"metric": "b"}], "has a, b, and the"),
        (lambda rows: [r | {"value": ""} for r in rows], "has no row with a value"),
        (lambda rows: [{k: v for k, v in r.items() if k != "task"} for r in rows],
         "no column 'task'; expected arm, seed"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(place, change, said):
    with pytest.raises(DataError, match=said):
        compared_results(VALUES, place / "OUT", filled(place, change))


def test_seeds_that_a_table_of_floats_gives_back_are_seeds(place):
    def floats(rows):
        return [r | {"seed": r["seed"] and f"{r['seed']}.0", "value": f" {r['value']} "}
                for r in rows]  # fmt: skip

    found = [compared_results(VALUES, place / "OUT", filled(place, change))
             for change in (None, floats)]  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", ["²", "0.5", "x", "-1", ""])
def test_what_is_no_seed_of_a_run_is_refused(place, seed):
    with pytest.raises(DataError, match=r"back\.csv:2: seed .* of 'all'; expected one of \[0, 1\]"):
        compared_results(VALUES, place / "OUT", filled(
            place, lambda rows: [r | {"seed": seed} for r in rows if r["arm"] == "all"]
        ))  # fmt: skip


def test_a_table_that_is_broken_is_refused_in_its_place(place):
    text = filled(place).read_text().splitlines()
    (place / "back.csv").write_text("\n".join([*text, 'all,"0" x,test,a,1,true,']))
    with pytest.raises(DataError, match=r"back\.csv:\d+: no CSV \("):
        compared_results(VALUES, place / "OUT", place / "back.csv")


def test_runs_that_did_not_come_back_are_counted(place):
    one = filled(place, lambda rows: [r for r in rows if (r["arm"], r["seed"]) != (
        "words at 0.25", "1")])  # fmt: skip
    found = compared_results(VALUES, place / "OUT", one)
    (arm,) = (a for a in found.arms if (a.name, a.beta) == ("words", 0.25))
    assert (arm.seeds, arm.reason) == (1, "1 of 2 runs not in the table of results")


def test_without_the_files_that_choose_no_setting_is_chosen(place):
    axes = {"axes": {"train.learning_rate": [1e-3, 1e-4]}, "choose_on": ["val.jsonl"]}
    lines = [orjson.dumps(chat(i)) + b"\n" for i in range(70, 76)]
    (place / "val.jsonl").write_bytes(b"".join(lines))
    ctx = context(cache_dir=place / "cache")
    export_arms(VALUES | axes, place / "AXES", "none", ctx=ctx)
    rows = (place / "AXES" / "results.csv").read_text().replace(",,,", ",1,true,").splitlines()
    (place / "back.csv").write_text("\n".join(r for r in rows if ",val," not in r))
    with pytest.raises(DataError, match="has no mt_bench on 'val', by which settings of axes are"):
        compared_results(VALUES | axes, place / "AXES", place / "back.csv")


def test_the_template_is_a_csv_whatever_arms_are_called():
    arm = Exported(arm='say "hi", twice', setting="x", beta=0.5, k_flops=1e9, seed=0,
                   training_flops=1e9)  # fmt: skip
    for metric, up in (("bits_per_byte", "false"), ("mt_bench", "")):
        text = results_template([arm], ["a,b"], metric)
        (row,) = csv.DictReader(text.splitlines(), strict=True)
        assert (row["arm"], row["task"], row["higher_is_better"]) == (arm.arm, "a,b", up)


def test_without_an_export_there_is_nothing_to_be_told(place, tmp_path):
    with pytest.raises(DataError, match="write them first: didact compare GRID .* --export-only"):
        compared_results(VALUES, tmp_path, filled(place))
