# ruff: noqa: E402 - what needs torch is imported where it is there
"""A run that trains and evaluates: what is made, found again, kept, and told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

import didact
from didact import pipeline
from didact.core.errors import ConfigError
from didact.evaluation.results import read_evaluation
from didact.training.telemetry import read_steps


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def chat(i, source):
    return {
        "id": f"{source}{i}", "source": source,
        "messages": [{"role": "user", "content": f"say {i} {'again ' * (i * 7 % 11)}"},
                     {"role": "assistant", "content": f"here you are: {i} from {source}"}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    rows = [chat(i, "ab"[i % 2]) for i in range(120)]
    held_out = [chat(i, "c") for i in range(200, 216)]
    for name, data in (("pool", rows), ("held_out", [*held_out, rows[3]])):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in data))
    return {
        "seed": 3,
        "data": {"path": str(folder / "pool.jsonl")},
        "score": {"method": "length"},
        "select": {"method": "top_k", "budget": {"samples": 96}},
        "order": {"method": "fold", "layers": 2, "epochs": 2, "batch_size": 8},
        "train": {"model": "scratch", "params": "60k", "vocab": 320, "context": 128,
                  "learning_rate": 5e-3, "average": "last", "device": "cpu"},
        "evaluate": {"files": str(folder / "held_out.jsonl"), "device": "cpu"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def done(config, cache, tmp_path_factory):
    return didact.run(config, tmp_path_factory.mktemp("out") / "OUT", cache_dir=cache)


def test_it_trains_in_the_order_and_evaluates(done):
    folder = done.folder
    steps = read_steps(folder / "model")
    assert len(steps) == 24
    assert [s.epoch for s in steps] == [1] * 12 + [2] * 12
    assert set(steps[5].loss_by_source) <= {"a", "b"}
    about = json.loads((folder / "model" / "training.json").read_text())
    assert about["seeds"] == {"init": 3, "draw": 3, "order": 3}
    assert about["foretold_flops"] == pytest.approx(about["flops"], rel=0.05)
    assert 0 < about["mfu"] < 1
    for name in ("evaluation", "evaluation-averaged"):
        found = read_evaluation(folder / f"{name}.parquet")
        assert len(found.table) == 16
        assert any("trained on" in note for note in found.notes)  # one row of the pool was in it
    records = {(r["metric"], r["source"]): r for r in found.summary()}
    assert records["bits_per_byte", ""]["n"] == 16
    assert not (folder / "evaluation-base.parquet").exists()  # it was made for this training
    train = done.manifest.stage("train")
    assert train.measured.bill.own.flops == steps[-1].total_flops
    assert train.counts["steps"] == 24
    assert done.manifest.stage("evaluate").measured.bill.value.flops > 0


def test_again_everything_is_found(done, config, cache):
    again = didact.run(config, done.folder, cache_dir=cache)
    for name in ("train", "evaluate"):
        assert again.manifest.stage(name).measured.reused
        assert again.manifest.stage(name).measured.bill.charged.flops == 0
        assert again.manifest.stage(name).measured.bill.value.flops > 0


def test_two_runs_are_equal_but_for_what_is_measured(done, config, cache, tmp_path):
    other = didact.run(config, tmp_path / "OUT", cache_dir=tmp_path / "cache")
    ours, theirs = (
        [{k: v for k, v in s.to_json().items() if k != "measured"} for s in d.manifest.stages]
        for d in (done, other)
    )
    assert ours == theirs
    for name in (
        "model/model.safetensors",
        "model/averaged/model.safetensors",
        "evaluation.parquet",
    ):
        assert (done.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_what_a_rerun_leaves_out_stays(done, config, cache):
    weights = done.folder / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    shorter = {k: v for k, v in config.items() if k not in {"train", "evaluate"}}
    again = didact.run(shorter, done.folder, cache_dir=cache)
    assert any("train: not in the config; its files stay" in c for c in again.changes)
    assert again.manifest.stage("train") is None
    back = didact.run(config, done.folder, cache_dir=cache)
    assert back.manifest.stage("train").measured.reused
    assert weights.stat().st_mtime_ns == before


def test_another_seed_of_the_order_draws_and_scores_nothing_anew(done, config, cache, tmp_path):
    shuffled = {**config, "order": {"method": "shuffle", "batch_size": 8}, "evaluate": None}
    orders = []
    for seed in (1, 2):
        out = didact.run({**shuffled, "seeds": {"order": seed}}, tmp_path / "OUT", cache_dir=cache)
        orders.append([s.rows for s in read_steps(out.folder / "model")])
        about = json.loads((out.folder / "model" / "training.json").read_text())
        assert about["seeds"] == {"init": 3, "draw": 3, "order": seed}
    assert orders[0] != orders[1]
    assert out.manifest.stage("select").measured.reused
    assert not out.manifest.stage("train").measured.reused


def test_the_plan_knows_what_it_will_cost(config, cache):
    pool, costs = pipeline.plan(
        pipeline.configs.parse({**config, "order": {**config["order"], "epochs": 1}}),
        didact.context(cache_dir=cache),
    )
    assert len(pool) == 120
    assert costs["train"].flops > 0
    assert costs["evaluate"].flops > 0


def test_an_evaluation_needs_a_training(config, tmp_path):
    alone = {k: v for k, v in config.items() if k != "train"}
    with pytest.raises(ConfigError, match="no train section"):
        didact.run(alone, tmp_path / "OUT")
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        didact.run({**config, "train": {"model": "x", "learning_rte": 1}}, tmp_path / "OUT")
    with pytest.raises(ConfigError, match="does nothing without lora_rank"):
        didact.run({**config, "train": {"model": "x", "merge": False}}, tmp_path / "OUT")


@pytest.mark.slow
def test_killed_while_it_trains_it_goes_on_there(done, config, cache, tmp_path):
    (tmp_path / "run.json").write_bytes(orjson.dumps(config))
    (tmp_path / "run.yaml").write_text((tmp_path / "run.json").read_text())
    words = ["run", "run.yaml", "-o", "OUT", "--cache-dir", str(cache)]
    with subprocess.Popen(
        [sys.executable, "-m", "didact.cli", *words], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        work = tmp_path / "OUT" / ".model.training"
        while not list(work.glob("checkpoint-*/entry.json")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
    again = didact.run(config, tmp_path / "OUT", cache_dir=cache)
    bill = again.manifest.stage("train").measured.bill
    whole = done.manifest.stage("train").measured.bill
    assert bill.own.flops == whole.own.flops
    assert 0 < bill.charged.flops < whole.own.flops
    name = "model/model.safetensors"
    assert (again.folder / name).read_bytes() == (done.folder / name).read_bytes()
    assert np.array_equal(
        np.load(again.folder / "model" / "trained_on.npy"),
        np.load(done.folder / "model" / "trained_on.npy"),
    )
