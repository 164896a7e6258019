"""What a comparison takes, what is made once, and what is dropped to keep to the hours."""

from __future__ import annotations

import itertools
import json
import time
from types import SimpleNamespace

import orjson
import pytest

from didact.comparing import speed
from didact.comparing.bill import Bill, Line, billed, next_to_go
from didact.comparing.estimates import Estimates
from didact.comparing.grid import parse_grid
from didact.comparing.settings import settings_of
from didact.comparing.speed import Speed
from didact.comparing.trials import trials_of
from didact.core.errors import BudgetError


def chat(i):
    return {"messages": [{"role": "user", "content": f"say {i} {'again ' * (i * 7 % 11)}"},
                         {"role": "assistant", "content": f"here you are: {i}"}]}  # fmt: skip


JUDGE = {"method": "perplexity", "model": "base", "device": "cpu"}
ARMS = [
    {"name": "lowest", "score": JUDGE},
    {"name": "middle", "score": {**JUDGE, "model": "./base"}, "select": {"method": "middle"}},
    {"name": "both", "score": JUDGE, "order": {"method": "sort", "score": JUDGE}},
    {"name": "drawn", "score": JUDGE, "select": {"method": "gumbel_top_k"}},
]


GRID = {
    "data": "pool.jsonl", "base": "base", "target": "target.jsonl", "tell_on": ["test.jsonl"],
    "budgets": [0.5, 0.9], "seeds": [3, 5], "arms": ARMS,
}  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Ground, settings, trials and speeds of a grid with a model of 20 thousand parameters."""
    pytest.importorskip("torch")
    from didact import verbs
    from didact.comparing.ground import open_ground
    from didact.models.proxy import new_proxy

    home = tmp_path_factory.mktemp("bill")
    for name, (first, last) in {"pool": (0, 40), "target": (50, 54), "test": (60, 66)}.items():
        lines = [orjson.dumps(chat(i)) + b"\n" for i in range(first, last)]
        (home / f"{name}.jsonl").write_bytes(b"".join(lines))
    pool = verbs.read(home / "pool.jsonl", cache_dir=home / "cache")
    new_proxy(home / "base", pool, params="20k", vocab=300, context=96)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        grid = parse_grid(GRID)
        settings = settings_of(grid, "g")
        ctx = verbs.context(cache_dir=home / "cache")
        ground = open_ground(grid, settings, home / "OUT", ctx, "g")
        ahead = Estimates(ground)
        trials = trials_of(ahead, settings)
        speeds = {base.digest: Speed(1e9, 1e9, 0.0, "CPU") for base in ground.bases.values()}
        yield ahead, settings, trials, speeds


def test_scores_are_billed_once_to_the_first_that_needs_them(asked):
    ahead, settings, trials, speeds = asked
    lines = {line.label: line for line in billed(ahead, settings, trials, speeds).lines}
    once = ahead.scoring(settings[3]).flops
    assert once > 0
    assert {k: line.scoring_flops for k, line in lines.items() if k not in {"base", "all"}} == {
        "random": 0, "lowest": once, "middle": 0, "both": 0, "drawn": 2 * once
    }  # fmt: skip
    # every arm pays for them; what orders by the scores that it chooses by pays no second time
    paid = {t.setting.arm: t.selection_flops for t in trials}
    assert paid == {"all": 0, "random": 0} | dict.fromkeys([a["name"] for a in ARMS], once)


def test_what_is_done_is_not_billed_and_its_scores_neither(asked):
    ahead, settings, trials, speeds = asked
    done = {t.name: 60.0 for t in trials if t.setting.arm == "lowest" and t.seed == 3}
    bill = billed(ahead, settings, trials, speeds, done=done)
    lines = {line.label: line for line in bill.lines}
    assert (lines["lowest"].runs, lines["lowest"].scoring_flops) == (2, 0)
    assert lines["middle"].scoring_flops == 0
    whole = billed(ahead, settings, trials, speeds)
    first = next(line for line in whole.lines if line.label == "lowest")
    assert lines["lowest"].training_flops == pytest.approx(first.training_flops / 2)


def test_hours_are_those_of_all_that_was_ever_run(asked):
    ahead, settings, trials, speeds = asked
    whole = billed(ahead, settings, trials, speeds).seconds / 3600
    assert not billed(ahead, settings, trials, speeds, max_hours=whole).dropped
    done = {t.name: 3600 * whole / 3 for t in trials if t.setting.arm == "all"}  # two runs
    rest = billed(ahead, settings, trials, speeds, done=done)
    bill = billed(ahead, settings, trials, speeds, done=done, max_hours=whole)
    assert rest.seconds / 3600 > whole / 3  # as much is left as had to be paid of nothing
    assert bill.dropped[0] == "drawn"
    assert 2 * whole / 3 + bill.seconds / 3600 <= whole
    took = dict.fromkeys(done, 3600 * whole)
    with pytest.raises(BudgetError, match=r"alone take .* h beside the .* h that runs took before"):
        billed(ahead, settings, trials, speeds, done=took, max_hours=whole)
    everything = {t.name: 3600.0 for t in trials}  # there is nothing to keep from running
    assert not billed(ahead, settings, trials, speeds, done=everything, max_hours=1e-9).dropped


def test_the_rate_of_a_processor_second_is_that_of_all_cores_together(asked, monkeypatch):
    ahead, settings, *_ = asked
    clock = itertools.count(0.0, 7.0)  # processor seconds at the start and after each step
    own = SimpleNamespace(monotonic=time.monotonic, process_time=lambda: next(clock))
    monkeypatch.setattr(speed, "time", own)
    (ahead.ground.home / "speed.json").write_text('{"of an earlier didact": {}}')
    found = speed.measured_speed(ahead, settings[1])
    (kept,) = (v for v in json.loads((ahead.ground.home / "speed.json").read_text()).values() if v)
    assert kept["flops_per_cpu_second"] == found.flops_per_cpu_second
    assert speed.measured_speed(ahead, settings[1]) == found
    # a batch of 32 of 40 samples, then the last 8: one step after the first, of 7 seconds
    whole = ahead.full_pass(settings[1]).flops
    assert found.flops_per_cpu_second * 7 == pytest.approx(whole * 8 / 40, rel=0.2)


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
