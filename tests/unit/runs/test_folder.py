"""The run folder: stages run once, damage is mended, and what stands in it is not trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from didact.core.checksums import signed
from didact.core.cost import Bill, Cost, Meter
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import Manifest, Measured, StageRecord, fingerprint
from didact.runs.differences import differences, side_by_side
from didact.runs.folder import Outcome, open_run_folder, output, read_manifest


def write(folder, name, text, *, meter=None, timed=False):
    def work():
        path = folder.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if meter is not None:
            meter.add(Cost(flops=7.0))
        return Outcome([path], {"rows": 1}, ("noted",), timed=[path] if timed else [])

    return work


def refuse():
    raise AssertionError("this stage must not run")


def stage(folder, name, depends, work, **more):
    return folder.run_or_reuse(name, depends, work, meter=more.pop("meter", Meter()), **more)


def test_a_stage_runs_once_and_tells_both_costs(tmp_path):
    meter = Meter()
    meter.use("scores/abc", Bill(own=Cost(flops=5.0)))  # found: of the value, not charged
    with open_run_folder(tmp_path) as folder:
        work = write(folder, "a.txt", "x", meter=meter)
        first = stage(folder, "a", {"k": 1}, work, meter=meter, estimated=Cost(flops=8.0))
    assert (first.counts, first.notes) == ({"rows": 1}, ("noted",))
    bill = first.measured.bill
    assert (bill.charged.flops, bill.own.flops, bill.value.flops) == (7.0, 7.0, 12.0)
    assert first.measured.reused is False
    with open_run_folder(tmp_path) as folder:
        again = stage(folder, "a", {"k": 1}, refuse)
    assert again.measured.reused is True
    assert again.fingerprint == first.fingerprint
    assert again.measured.bill.charged.flops == 0
    assert again.measured.bill.value == first.measured.bill.value


def test_a_kept_value_that_two_stages_use_counts_once():
    shared = {"scores/abc": Cost(flops=100.0)}

    def record(name, own):
        bill = Bill(charged=own, own=own, uses=shared)
        return StageRecord(name, "f", {}, measured=Measured(bill))

    manifest = Manifest({}, 0, (), {}, (record("a", Cost(flops=1.0)), record("b", Cost(flops=2.0))))
    assert manifest.bill.value.flops == 103.0
    assert manifest.to_json()["cost"]["value"]["flops"] == 103.0
    assert manifest.to_json()["cost"]["charged"]["flops"] == 3.0
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))).bill == manifest.bill


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("damage", ["remove", "change", "empty", "cut", "record", "flip record"])
def test_a_damaged_stage_runs_again(tmp_path, damage, timed):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, write(folder, "a.txt", "whole", timed=timed))
    record = tmp_path / "stages" / "a.json"
    if damage == "remove":
        (tmp_path / "a.txt").unlink()
    elif damage == "change":
        (tmp_path / "a.txt").write_text("wholf")
    elif damage == "empty":
        (tmp_path / "a.txt").write_text("")
    elif damage == "cut":
        (tmp_path / "a.txt").write_text("who")
    elif damage == "record":
        record.write_text("{")
    else:  # a number in it that is still a number
        record.write_text(record.read_text().replace('"rows": 1', '"rows": 3'))
    with open_run_folder(tmp_path) as folder:
        again = stage(folder, "a", {"k": 1}, write(folder, "a.txt", "whole", timed=timed))
        assert len(folder.changes) == 1
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert again.counts == {"rows": 1}
    with open_run_folder(tmp_path) as folder:
        assert stage(folder, "a", {"k": 1}, refuse).measured.reused


def test_every_bit_of_a_record_counts(tmp_path):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, write(folder, "a.txt", "x"))
    path = tmp_path / "stages" / "a.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        path.write_bytes(flipped)
        harmless = whole[at : at + 1].isspace()  # between values
        with suppress(ValueError):  # the last digit of a measured time may make no other float
            harmless |= json.loads(flipped) == json.loads(whole)
        with open_run_folder(tmp_path) as folder:
            found = folder._earlier_record("a")
            assert found is None or harmless, (at, whole[at - 10 : at + 10])


def test_a_stage_that_failed_is_tried_again(tmp_path):
    def fail():
        raise OSError("disk")

    with open_run_folder(tmp_path) as folder, pytest.raises(OSError, match="disk"):
        stage(folder, "a", {"k": 1}, fail)
    assert not (tmp_path / "manifest.json").exists()
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, write(folder, "a.txt", "x"))
    assert (tmp_path / "a.txt").exists()


def test_a_stage_that_is_gone_from_the_config_is_removed(tmp_path):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {}, write(folder, "a.txt", "x"))
        stage(folder, "b", {}, write(folder, "b.txt", "x"))
        folder.finish({}, 0, ())
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {}, refuse)
        manifest = folder.finish({}, 0, ())
    assert [s.name for s in manifest.stages] == ["a"]
    assert not (tmp_path / "b.txt").exists()
    assert read_manifest(tmp_path) == manifest


def test_what_stays_is_said_to_be_outdated(tmp_path):
    def made(folder, text, *, both):
        first = stage(folder, "a", {"k": text}, write(folder, "a.txt", text))
        if both:
            depends = {"of": fingerprint(first.outputs)}
            stage(folder, "b", depends, write(folder, "b.txt", "x"))
        folder.finish({}, 0, (), {"b": {"of": "a"}})
        return [line for line in folder.changes if "not in the config" in line]

    stays = "b: not in the config; its files stay as they were"
    for text, both, said in (
        ("x", True, []),
        ("x", False, [stays]),
        ("y", False, [f"{stays}, made of another result of a than this run's"]),
    ):
        with open_run_folder(tmp_path) as folder:
            assert made(folder, text, both=both) == said
    assert (tmp_path / "b.txt").exists()


def test_a_manifest_goes_when_a_stage_begins(tmp_path):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, lambda: Outcome())
        folder.finish({}, 0, ())

    def look():
        assert not (tmp_path / "manifest.json").exists()
        return Outcome()

    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 2}, look)


def test_manifests_that_are_none(tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 7}))
    with pytest.raises(ConfigError, match="manifest version 7"):
        read_manifest(tmp_path)


def test_a_manifest_that_was_changed_is_not_read(tmp_path):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {}, write(folder, "a.txt", "x"))
        folder.finish({}, 5, ())
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 6'))
    with pytest.raises(DataError, match="its checksum does not hold; run the same command again"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("how", ["change", "remove"])
def test_outputs_that_were_changed_are_not_shown(tmp_path, how):
    with open_run_folder(tmp_path) as folder:
        record = stage(folder, "a", {}, write(folder, "a.txt", "x"))
    assert output(tmp_path, record, "a.txt").read_text() == "x"
    if how == "change":
        (tmp_path / "a.txt").write_text("y")
    else:
        (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.txt: was changed or removed since the run"):
        output(tmp_path, record, "a.txt")


# -- a folder that somebody else made --------------------------------------------------------------


def forged(folder: Path, name: str, *outputs: str) -> None:
    """A record whose checksum holds, and which names these outputs."""
    record = StageRecord(name, "f" * 32, {}, outputs=dict.fromkeys(outputs, "0" * 32))
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    (folder / "stages" / f"{name}.json").write_text(signed(record.to_json()))


@pytest.mark.parametrize("way", ["absolute", "up", "through a link", "deep"])
@pytest.mark.parametrize("when", ["gone from the config", "run again"])
def test_a_record_cannot_remove_what_lies_outside(tmp_path, way, when):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to(tmp_path)
    name = {
        "absolute": str(precious), "up": "../precious.txt", "through a link": "link/precious.txt",
        "deep": "a/../../precious.txt",
    }[way]  # fmt: skip
    forged(run, "old", name)
    with open_run_folder(run) as folder:
        if when == "run again":
            stage(folder, "old", {"k": 1}, write(folder, "a.txt", "x"))
        folder.finish({}, 0, ())
        assert any("not in this folder" in line for line in folder.changes), folder.changes
    assert precious.read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    run = tmp_path / "run"
    (run / "stages").mkdir(parents=True)
    (run / ".lock").symlink_to(precious)
    with pytest.raises(ConfigError, match="is a link"), open_run_folder(run):
        pass
    assert precious.read_text() == "mine"


def test_stages_that_are_a_link_are_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.json").write_text("{}")
    run = tmp_path / "run"
    run.mkdir()
    (run / "stages").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"), open_run_folder(run):
        pass
    assert (elsewhere / "mine.json").exists()


def test_the_lock_stays_and_keeps_its_content(tmp_path):
    (tmp_path / ".lock").write_text("somebody's note")
    (tmp_path / "stages").mkdir()
    inode = (tmp_path / ".lock").stat().st_ino
    with open_run_folder(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "somebody's note"
    assert (tmp_path / ".lock").stat().st_ino == inode


HOLD = """
import sys, time
from pathlib import Path
from didact.runs.folder import open_run_folder
with open_run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match="in use by another run"),
            open_run_folder(tmp_path / "run"),
        ):
            pass
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            with open_run_folder(tmp_path / "run"):
                break
        except ConfigError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_folder_of_an_earlier_version_is_done_again_with_a_line(tmp_path):
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, write(folder, "a-0.txt", "x"))
    path = tmp_path / "stages" / "a.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    values["measured"] = {  # as version 1 had it
        "cost": {"flops": 3.0, "tokens": 0, "cpu_seconds": 1.0, "device_seconds": 0.0},
        "wall_seconds": 1.0, "peak_memory_bytes": 1, "reused": False,
    }  # fmt: skip
    path.write_text(json.dumps(values))
    with open_run_folder(tmp_path) as folder:
        stage(folder, "a", {"k": 1}, write(folder, "a-1.txt", "x"))
        assert any("of an earlier didact" in line for line in folder.changes)
    assert sorted(p.name for p in tmp_path.glob("*.txt")) == ["a-1.txt"]
    one = Measured.from_json(values["measured"]).bill
    assert (one.charged.flops, one.value.flops) == (3.0, 3.0)


def test_differences_are_leaves():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    new = {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert differences(old, new) == {"a.b": (1, 2), "e": (None, 3)}
    assert differences(old, old) == {}


def test_runs_are_compared_by_what_values_take():
    def manifest(charged):
        bill = Bill(charged=Cost(flops=charged), own=Cost(flops=9.0))
        return Manifest({}, 0, (), {}, (StageRecord("a", "f", {}, measured=Measured(bill)),))

    warm_and_cold = side_by_side(manifest(0.0), manifest(9.0))
    assert warm_and_cold["flops"] == {"a": [9.0, 9.0]}
    assert warm_and_cold["equal"]


def test_a_name_with_strange_characters_is_not_in_the_folder(tmp_path):
    forged(tmp_path, "old", "a\x00b", "", "..", ".", os.sep)
    with open_run_folder(tmp_path) as folder:
        folder.finish({}, 0, ())
    assert tmp_path.exists()
