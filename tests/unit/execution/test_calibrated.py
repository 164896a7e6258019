import json
from dataclasses import replace

import pytest

from didact.accounting.devices import Calibration, Mfu, device, rate
from didact.core.errors import ConfigError
from didact.execution.calibrated import (
    FILE,
    load_calibration,
    rate_of,
    save_calibration,
    this_machine,
)


@pytest.fixture
def here():
    return Calibration(
        device="CPU, 2 threads", machine=this_machine(), threads=2, dtype="float32",
        date="2026-11-29", versions=("torch 2.13.0",), forward_flops_per_second=3e10,
        training_flops_per_second=2e10, peak_flops_per_second=5e10, n_params=5_000_000,
        tokens_per_batch=1024, seconds=30.0,
    )  # fmt: skip


def test_what_was_measured_is_what_is_read(here, tmp_path):
    cache = tmp_path / "cache"
    assert save_calibration(here, cache) == cache / FILE
    assert load_calibration(cache) == here
    assert rate_of("here", cache) == rate(here)
    assert rate_of("Here", cache, Mfu(0.1, 0.1, 0.1)).high == pytest.approx(5e9)
    assert [each.name for each in cache.iterdir()] == [FILE]


def test_a_device_of_the_table_needs_no_measurement(tmp_path):
    assert rate_of("h100", tmp_path) == rate(device("H100"))


def test_no_measurement_is_an_instruction(tmp_path):
    with pytest.raises(ConfigError, match="didact calibrate"):
        load_calibration(tmp_path)


def test_another_machine_is_said_so(here, tmp_path):
    save_calibration(replace(here, machine="another, 96 cores"), tmp_path)
    with pytest.raises(ConfigError, match=r"another machine or with other threads \(another, 96"):
        rate_of("here", tmp_path)


def test_other_threads_are_another_machine(here, tmp_path, monkeypatch):
    save_calibration(here, tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS=77"):
        load_calibration(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": 3}', "\x00"])
def test_a_file_that_is_no_calibration(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"not a calibration.*didact calibrate"):
        load_calibration(tmp_path)


def test_a_rate_of_nothing_is_refused(here, tmp_path):
    (tmp_path / FILE).write_text(json.dumps({**here.to_json(), "training_flops_per_second": 0}))
    with pytest.raises(ConfigError, match="training_flops_per_second is 0"):
        load_calibration(tmp_path)
