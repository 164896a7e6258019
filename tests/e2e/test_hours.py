"""Hours in a dry run: of a device of the table, of this machine once it was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from didact.accounting.devices import Calibration
from didact.cli import app
from didact.core.errors import ConfigError
from didact.execution.calibrated import load_calibration, save_calibration


@pytest.fixture
def didact(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words, code=0):
        done = CliRunner().invoke(app, [*map(str, words), "--cache-dir", "cache"])
        assert done.exit_code == code, done.output + repr(done.exception)
        return done

    return call


@pytest.fixture
def config(chats, tiny_model, tmp_path):
    pytest.importorskip("transformers")
    path = tmp_path / "run.yaml"
    path.write_text(
        f"data: {{path: {chats}}}\n"
        f"score: {{method: perplexity, model: {tiny_model}, device: cpu}}\n"
    )
    return path


def test_hours_of_a_device(didact, config):
    plan = json.loads(didact("run", config, "--dry-run", "--device", "h100 sxm", "--json").stdout)
    flops = plan["estimated"]["score"]["flops"]
    assert plan["hours"] == plan["estimated"]["score"]["hours"]
    assert plan["hours"]["device"] == "H100"
    assert plan["hours"]["low"] == pytest.approx(flops / (0.5 * 989.4e12) / 3600)
    assert plan["hours"]["high"] == pytest.approx(flops / (0.3 * 989.4e12) / 3600)
    assert plan["estimated"]["data"]["hours"] is None  # CPU seconds stay beside
    assert plan["estimated"]["data"]["cpu_seconds"] > 0
    half = didact("run", config, "--dry-run", "--device", "h100", "--mfu", "50%", "--json")
    found = json.loads(half.stdout)["hours"]
    assert found["low"] == found["high"] == pytest.approx(plan["hours"]["low"])
    text = didact("run", config, "--dry-run", "--device", "h100").output
    assert "on H100" in text
    assert "0.3-0.5 of 9.89e+14 FLOP/s" in text


def test_hours_of_this_machine_once_it_was_measured(didact, config, monkeypatch):
    unknown = didact("run", config, "--dry-run", "--json")
    assert json.loads(unknown.stdout)["hours"] is None
    assert "run 'didact calibrate'" in unknown.stderr

    from didact.training import calibration

    monkeypatch.setitem(calibration._PARAMS, "cpu", 60_000)
    made = json.loads(didact("calibrate", "--seconds", 0.02, "--device", "cpu", "--json").stdout)
    kept = load_calibration(config.parent / "cache")
    assert Calibration.from_json(made) == kept
    plan = json.loads(didact("run", config, "--dry-run", "--json").stdout)
    assert plan["hours"]["device"] == kept.device
    ends = kept.forward_flops_per_second, kept.training_flops_per_second
    flops = plan["estimated"]["score"]["flops"]
    assert plan["hours"]["low"] == pytest.approx(flops / max(ends) / 3600)
    assert plan["hours"]["high"] == pytest.approx(flops / min(ends) / 3600)
    here = didact("run", config, "--dry-run", "--device", "here", "--json")
    assert json.loads(here.stdout) == plan

    save_calibration(replace(kept, machine="another"), config.parent / "cache")
    other = didact("run", config, "--dry-run", "--json")
    assert json.loads(other.stdout)["hours"] is None
    assert "measured on another machine or with other threads (another)" in other.stderr


def test_what_cannot_be_foretold(didact, config):
    didact("run", config, "--device", "H100", code=2)
    for words, named in [
        (["--device", "H10O"], "did you mean 'H100'"),
        (["--device", "here"], "didact calibrate"),
        (["--device", "H100", "--mfu", "40"], "expected shares of the peak"),
    ]:
        failed = didact("run", config, "--dry-run", *words, code=1)
        assert isinstance(failed.exception, ConfigError)
        assert named in str(failed.exception)
    wrong = didact("calibrate", "--device", "tpu", code=1)
    assert "cannot be measured here" in str(wrong.exception)
