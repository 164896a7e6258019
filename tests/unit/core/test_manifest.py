from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from didact.core.cost import Bill, Cost
from didact.core.errors import ConfigError
from didact.core.manifest import Manifest, Measured, StageRecord, canonical, fingerprint


def test_equal_values_have_one_form():
    assert canonical({"b": 1, "a": (1, 2.5, None, True)}) == '{"a":[1,2.5,null,true],"b":1}'
    assert fingerprint({"a": np.int64(3)}) == fingerprint({"a": 3})
    assert fingerprint({"p": Path("a/b")}) == fingerprint({"p": "a/b"})


def test_different_values_have_different_fingerprints():
    values = [1, 1.5, "1", None, [1], [[1]], {"a": 1}, {"a": "1"}, True, ""]
    assert len({fingerprint(v) for v in values}) == len(values)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, object(), {1: 2}, {"a": {"b": math.nan}}, b"x"]
)
def test_values_without_a_stable_form_are_refused(value):
    with pytest.raises(ConfigError, match="stable form"):
        fingerprint(value)


def test_the_place_of_an_unstable_value_is_named():
    with pytest.raises(ConfigError, match=r"value.a\[1\] is nan"):
        fingerprint({"a": [1, math.nan]})


def record(**change):
    given = {"name": "score", "fingerprint": "f", "depends_on": {"k": 1}, "notes": ("n",)}
    return StageRecord(**{**given, **change})


def manifest(*stages):
    return Manifest(config={}, seed=1, inputs=(), environment={}, stages=stages)


def test_a_manifest_survives_json():
    bill = Bill(Cost(1.0, 2, 3.0, 4.0), Cost(5.0, 6, 7.0, 8.0), {"scores/x": Cost(9.0)})
    made = manifest(record(measured=Measured(bill, 5.0, 6)), record(name="b"))
    assert Manifest.from_json(made.to_json()) == made
    assert made.stage("b").name == "b"
    assert made.stage("c") is None


def test_what_was_measured_is_not_part_of_equality():
    a = manifest(record(measured=Measured(wall_seconds=1)))
    b = manifest(record(measured=Measured(wall_seconds=2, reused=True)))
    assert a.without_measured() == b.without_measured()
    assert a.without_measured() != manifest(record(fingerprint="g")).without_measured()


def test_what_stages_share_counts_once_in_a_run():
    bills = [Bill(Cost(1.0), Cost(10.0), {"scores/x": Cost(100.0)}), Bill(own=Cost(20.0))]
    bills.append(Bill(uses={"scores/x": Cost(100.0), "scores/y": Cost(200.0)}))
    made = manifest(*(record(name=str(i), measured=Measured(b)) for i, b in enumerate(bills)))
    assert made.bill.charged == Cost(1.0)
    assert made.bill.value == Cost(330.0)
    assert made.to_json()["cost"]["value"]["flops"] == 330.0


def test_what_an_earlier_version_measured_counts_as_charged_and_as_value():
    cost = {"flops": 1.0, "tokens": 2, "cpu_seconds": 3.0, "device_seconds": 4.0}
    old = {"cost": cost, "wall_seconds": 5.0, "peak_memory_bytes": 6, "reused": False}
    found = Measured.from_json(old)
    assert found.bill.charged == found.bill.value == Cost(1.0, 2, 3.0, 4.0)
    assert (found.wall_seconds, found.peak_memory_bytes) == (5.0, 6)


def test_a_newer_manifest_is_refused():
    with pytest.raises(ConfigError, match="manifest version 99"):
        Manifest.from_json({**manifest().to_json(), "version": 99})


def test_costs_add():
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40) == Cost(11, 22, 33, 44)
