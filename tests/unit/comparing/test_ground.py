"""What is refused before anything is trained: folders, held-out files, the disk."""

from __future__ import annotations

import errno
import json
import threading
import time
from dataclasses import replace
from functools import partial

import orjson
import pytest

pytest.importorskip("torch")

from didact.comparing import running
from didact.comparing.bill import billed
from didact.comparing.estimates import Estimates
from didact.comparing.grid import parse_grid
from didact.comparing.ground import _base_path, claim, open_ground
from didact.comparing.records import Record, read_record, write_record
from didact.comparing.running import check_room, run_trials
from didact.comparing.settings import settings_of
from didact.comparing.speed import Speed
from didact.comparing.trials import Trial, trials_of
from didact.core.errors import BudgetError, ConfigError, DataError
from didact.core.locks import lock_file
from didact.verbs import context


def chat(i):
    return {"messages": [{"role": "user", "content": f"say {i}"},
                         {"role": "assistant", "content": f"here you are: {i}"}]}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranges = {"pool": (0, 20), "target": (20, 26), "val": (40, 46), "test": (60, 66)}
    for name, (first, last) in ranges.items():
        lines = [orjson.dumps(chat(i)) + b"\n" for i in range(first, last)]
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(lines))
    return tmp_path


def ground(grid, place):
    checked = parse_grid(grid)
    return open_ground(
        checked, settings_of(checked, "x"), place / "OUT", context(cache_dir=place / "cache"), "g"
    )


@pytest.mark.parametrize(("name", "what"), [("target", "target"), ("val", "choose_on")])
def test_what_tells_must_not_be_chosen_by(grid, place, name, what):
    both = (place / f"{name}.jsonl").read_bytes() + orjson.dumps(chat(61)) + b"\n"
    (place / f"{name}.jsonl").write_bytes(both)
    with pytest.raises(DataError) as error:
        ground(grid(choose_on=["val.jsonl"]), place)
    said = str(error.value)
    assert said.startswith(f"g: {what}, ")
    assert "1 of its 7 samples are in " in said
    assert "the first is row 7" in said
    assert "remove them from one of the two" in said


@pytest.mark.parametrize("where", ["score", "order"])
def test_a_target_of_an_arm_of_its_own_is_looked_at_too(grid, place, where):
    own = {"method": "bm25", "target": "test.jsonl"}
    arm = {"name": "words", "score": {"method": "length"}}
    arm |= {"score": own} if where == "score" else {"order": {"method": "sort", "score": own}}
    with pytest.raises(DataError, match=r"g: target, test\.jsonl: 6 of its 6 samples are in "):
        ground(grid(arms=[arm]), place)


def test_a_pool_that_has_held_out_samples_is_refused(grid, place, tiny_model):
    both = (place / "pool.jsonl").read_bytes() + (place / "test.jsonl").read_bytes()
    (place / "pool.jsonl").write_bytes(both)
    with pytest.raises(DataError) as error:
        ground(grid(), place)
    said = str(error.value)
    assert "data: 6 samples of the pool are in " in said
    assert "the first is row 21" in said
    assert "data: {exclude: [" in said
    data = {"path": "pool.jsonl", "exclude": ["test.jsonl"]}
    assert len(ground(grid(data=data, base=str(tiny_model)), place).pool) == 20


def test_what_several_settings_score_by_is_in_the_bill_once(grid, place, tiny_model):
    judged = {"method": "perplexity", "model": str(tiny_model), "device": "cpu"}
    arms = [
        {"name": "middle", "score": judged, "select": {"method": "middle"}},
        {"name": "lowest", "score": judged},
        {"name": "ordered", "score": {"method": "length"},
         "order": {"method": "sort", "score": judged}},
    ]  # fmt: skip
    values = grid(arms=arms, base=str(tiny_model), budgets=[100], train={"device": "cpu"})
    opened = ground(values, place)
    settings, ahead = settings_of(opened.grid, "x"), Estimates(opened)
    speeds = {base.digest: Speed(1e9, 1e9, 0.0, "CPU") for base in opened.bases.values()}
    bill = billed(ahead, settings, trials_of(ahead, settings), speeds)
    scoring = {line.label: line.scoring_flops for line in bill.lines}
    assert scoring["middle"] > 0
    assert scoring["lowest"] == 0
    assert scoring["ordered"] == 0  # to order by they are the same scores
    # each arm is charged all the same
    assert {s.arm: ahead.scoring(s).flops > 0 for s in settings} == {
        "base": False, "all": False, "random": False, "middle": True, "lowest": True,
        "ordered": True,
    }  # fmt: skip


def test_a_repeated_fraction_has_passes_enough_for_the_cheapest_samples(grid, place, tiny_model):
    long = [{"messages": [{"role": "user", "content": "say"},
                          {"role": "assistant", "content": f"here {'again ' * 60} {i}"}]}
            for i in range(20)]  # fmt: skip
    lines = [orjson.dumps(row) + b"\n" for row in [*long, {"messages": chat(1)["messages"]}]]
    (place / "pool.jsonl").write_bytes(b"".join(lines))
    arms = [{"name": "short", "score": {"method": "length", "prefer": "shortest"}}]
    values = grid(arms=arms, base=str(tiny_model), epochs="fill", fraction=0.05, budgets=[0.5],
                  train={"device": "cpu"})  # fmt: skip
    opened = ground(values, place)
    ahead = Estimates(opened)
    trials = trials_of(ahead, settings_of(opened.grid, "x"))
    (trial, *_) = (t for t in trials if t.fill and t.setting.arm == "short")
    full = ahead.full_pass(trial.setting)
    each = full.cheapest[0]  # what the one shortest sample of 21 takes
    assert trial.plain["order"]["epochs"] * each >= 0.5 * full.flops


def test_a_base_that_is_not_there(grid, place):
    with pytest.raises(DataError, match="no such folder"):
        ground(grid(base="no/such/base"), place)
    with pytest.raises(ConfigError, match="base: the run config has no train section"):
        ground(grid(base={"data": {"path": "pool.jsonl"}}), place)


def test_two_held_out_files_of_one_name(grid, place):
    (place / "more").mkdir()
    (place / "more" / "test.jsonl").write_bytes((place / "val.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"two held-out files are called 'test'"):
        ground(grid(tell_on=["test.jsonl", "more/test.jsonl"]), place)


def test_a_folder_is_a_comparison_of_this_version_or_empty(tmp_path):
    claim(tmp_path / "new")
    claim(tmp_path / "new")
    (tmp_path / "new" / "compare.json").write_text(json.dumps({"comparison": 1, "didact": "0.0.1"}))
    with pytest.raises(ConfigError, match=r"of didact 0\.0\.1, this is .* another folder with -o"):
        claim(tmp_path / "new")
    (tmp_path / "new" / "compare.json").write_text("{")
    with pytest.raises(ConfigError, match="not readable"):
        claim(tmp_path / "new")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there and no comparison"):
        claim(tmp_path / "other")


def test_a_disk_without_room_is_refused(tmp_path):
    check_room(tmp_path, 1000, 5, 1, keep_models=True)
    check_room(tmp_path, 10**18, 0, 1, keep_models=True)  # everything is done
    with pytest.raises(DataError, match="GB for weights; free some space"):
        check_room(tmp_path, 10**18, 5, 1, keep_models=False)
    with pytest.raises(DataError, match="set keep_models: false"):
        check_room(tmp_path, 10**18, 5, 1, keep_models=True)


@pytest.fixture
def trial(grid):
    setting = settings_of(parse_grid(grid()), "x")[1]
    plain = {"data": {"path": "pool.jsonl"}, "select": None}
    return Trial(
        name="all-0", setting=setting, beta=1.0, k_flops=1e9, seed=0, plain=plain, key="k",
        selection_flops=0.0,
    )  # fmt: skip


def raising(error, monkeypatch):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(running.pipeline, "run", run)


def test_a_full_disk_stops_it_and_is_no_arm_that_failed(trial, tmp_path, monkeypatch):
    full = DataError("no space left")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    raising(full, monkeypatch)
    with pytest.raises(DataError, match="no space left"):
        run_trials([trial], tmp_path, context(cache_dir=tmp_path / "cache"), foretold={})
    assert read_record(tmp_path, "all-0", "k") is None


@pytest.mark.parametrize(
    ("error", "status"), [(BudgetError("too little"), "infeasible"), (ValueError("odd"), "failed")]
)
def test_what_cannot_be_paid_and_what_fails(trial, tmp_path, monkeypatch, error, status):
    raising(error, monkeypatch)
    told = []
    ctx = context(cache_dir=tmp_path / "cache", tell=told.append)
    (record,) = run_trials([trial], tmp_path, ctx, foretold={"all-0": 1.0}).values()
    assert record.status == status
    assert str(error) in record.reason
    assert f"all-0: {status}, " in told[-1]
    again = run_trials([trial], tmp_path, ctx, foretold={})
    assert again["all-0"].status == status
    # what failed is tried again; what cannot be paid is not
    assert sum(f"all-0: {status}, " in line for line in told) == (2 if status == "failed" else 1)


def test_fractions_are_repeated_once_what_scoring_took_is_known(trial, tmp_path, monkeypatch):
    raising(BudgetError("too little"), monkeypatch)
    told = []
    ctx = context(cache_dir=tmp_path / "cache", tell=told.append)
    fill = replace(trial, name="all-0-fill", fill=True)
    run_trials([fill, trial], tmp_path, ctx, foretold={})
    assert [line.partition(":")[0] for line in told] == ["all-0", "all-0-fill"]


def test_a_run_of_another_process_is_waited_for(trial, tmp_path, monkeypatch):
    raising(AssertionError("it ran here"), monkeypatch)
    (tmp_path / "arms").mkdir()
    record = Record(name="all-0", key="k", status="infeasible", reason="made there")
    told, held = [], threading.Event()

    def elsewhere():
        with lock_file(tmp_path / "arms" / ".all-0.lock"):
            held.set()
            while not told:
                time.sleep(0.01)
            write_record(record, tmp_path)

    other = threading.Thread(target=elsewhere)
    other.start()
    held.wait()
    ctx = context(cache_dir=tmp_path / "cache", tell=told.append)
    found = run_trials([trial], tmp_path, ctx, foretold={})
    other.join()
    assert told[0] == "all at 1: another process runs it; waiting for it"
    assert found == {"all-0": record}


def test_two_processes_train_the_base_one_after_the_other(place, monkeypatch):
    inside, most, told = [], [], []

    def run(_config, out, **_):
        inside.append(out)
        most.append(len(inside))
        time.sleep(0.05)
        inside.remove(out)

    monkeypatch.setattr(running.pipeline, "run", run)
    base = {"data": {"path": "pool.jsonl"}, "train": {"model": "scratch", "params": "20k"}}
    ctx = context(cache_dir=place / "cache", tell=told.append)
    work = partial(_base_path, base, place / "OUT", ctx, "g", making=True)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    assert any(line.startswith("waiting to train the base: another process") for line in told)
    with pytest.raises(DataError, match="base: is not trained yet; run it without --so-far first"):
        _base_path(base, place / "OUT", ctx, "g", making=False)
