from pathlib import Path

import pytest

from didact.accounting.devices import (
    DEVICES,
    MFU,
    Calibration,
    Mfu,
    device,
    hours,
    parse_mfu,
    rate,
)
from didact.core.errors import ConfigError

MEASURED = Calibration(
    device="CPU, 2 threads", machine="m", threads=2, dtype="float32", date="2026-11-29",
    versions=("torch 2.13",), forward_flops_per_second=3e10, training_flops_per_second=2e10,
    peak_flops_per_second=5e10, n_params=1000, tokens_per_batch=10, seconds=1.0,
)  # fmt: skip


def test_dense_peaks_as_data_sheets_give_them():
    found = {each.name: each.peak_flops_per_second for each in DEVICES}
    assert found["A100"] == 312e12
    assert found["H100"] == found["H200"] == 989.4e12
    assert found["MI300X"] == 1307.4e12
    assert found["RTX 4090"] == 165.2e12
    assert all(each.source for each in DEVICES)
    assert all((each.dollars_per_hour is None) == (not each.price_source) for each in DEVICES)


@pytest.mark.parametrize(
    ("spelled", "name"),
    [("h100", "H100"), ("H100 SXM", "H100"), ("NVIDIA A100 80GB", "A100"), ("4090", "RTX 4090"),
     ("rtx-4090", "RTX 4090"), ("M2 Ultra", "Apple M2 Ultra"), ("h100-pcie", "H100 PCIe"),
     ("AMD Instinct MI300X", "MI300X"), ("l40s", "L40S"), ("NVIDIA H100 80GB HBM3", "H100"),
     ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
     ("A100 PCIe 40GB", "A100"), ("NVIDIA H100 PCIe", "H100 PCIe")],
)  # fmt: skip
def test_names_are_matched_leniently(spelled, name):
    assert device(spelled).name == name


def test_every_name_is_found_by_itself():
    assert [device(each.name) for each in DEVICES] == list(DEVICES)


def test_the_page_on_cost_has_the_table():
    page = (Path(__file__).parents[3] / "docs" / "cost-model.md").read_text()
    for each in DEVICES:
        dollars = "" if each.dollars_per_hour is None else each.dollars_per_hour
        assert f"| {each.name} | {each.peak_flops_per_second / 1e12:g} | {dollars} |\n" in page


def test_unknown_device_suggests():
    with pytest.raises(ConfigError, match=r"did you mean 'H100'.*didact calibrate"):
        device("H10O")


def test_hours_on_a_device():
    # The 7B model's full pass over 1.094e8 tokens, 4.593e18 FLOPs (CCDS), at 40 % of an H100.
    found = hours(4.593e18, rate(device("H100")))
    assert found.middle == pytest.approx(4.593e18 / (0.4 * 989.4e12) / 3600)
    assert found.low == pytest.approx(found.middle * 0.4 / 0.5)
    assert found.high == pytest.approx(found.middle * 0.4 / 0.3)
    assert rate(device("H100")).dollars_per_hour == device("H100").dollars_per_hour
    assert (MFU.low, MFU.middle, MFU.high) == (0.3, 0.4, 0.5)


def test_rate_of_a_measured_machine():
    measured = rate(MEASURED)
    assert (measured.low, measured.middle, measured.high) == (2e10, 2e10, 3e10)
    assert MEASURED.mfu == 0.4
    assert rate(MEASURED, Mfu(0.2, 0.2, 0.2)).middle == pytest.approx(1e10)


def test_calibration_to_json_and_back():
    assert Calibration.from_json(MEASURED.to_json()) == MEASURED
    with pytest.raises(ValueError, match="device missing"):
        Calibration.from_json({k: v for k, v in MEASURED.to_json().items() if k != "device"})
    with pytest.raises(ValueError, match="peak_flops_per_second is 0"):
        Calibration.from_json({**MEASURED.to_json(), "peak_flops_per_second": 0})


def test_mfu_as_people_write_it():
    assert parse_mfu("0.4") == Mfu(0.4, 0.4, 0.4)
    assert parse_mfu("30-50%") == Mfu(0.3, 0.4, 0.5)
    assert parse_mfu("0.3-0.5") == MFU


@pytest.mark.parametrize("text", ["", "x", "0", "1.2", "40", "0.5-0.3", "1.2.3"])
def test_mfu_that_is_none(text):
    with pytest.raises(ConfigError, match=r"0\.3-0\.5"):
        parse_mfu(text)
