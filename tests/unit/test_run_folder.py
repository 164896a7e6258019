from __future__ import annotations

import json

import pytest

from didact.core.cost import Cost
from didact.core.errors import ConfigError, DataError
from didact.run_folder import Outcome, differences, opened, read_manifest


def write(folder, name, text):
    def work():
        (folder.path / name).write_text(text)
        return Outcome([folder.path / name], {"rows": 1}, ("noted",), cost=Cost(flops=7.0))

    return work


def refuse():
    raise AssertionError("this stage must not run")


def test_a_stage_runs_once(tmp_path):
    with opened(tmp_path) as folder:
        first = folder.stage("a", {"k": 1}, write(folder, "a.txt", "x"), estimated=Cost(flops=8.0))
    assert (first.counts, first.notes, first.measured.cost.flops) == ({"rows": 1}, ("noted",), 7.0)
    assert first.measured.reused is False
    with opened(tmp_path) as folder:
        again = folder.stage("a", {"k": 1}, refuse)
    assert again.measured.reused is True
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("damage", ["remove", "change", "record"])
def test_a_damaged_stage_runs_again(tmp_path, damage):
    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 1}, write(folder, "a.txt", "x"))
    if damage == "remove":
        (tmp_path / "a.txt").unlink()
    elif damage == "change":
        (tmp_path / "a.txt").write_text("y")
    else:
        (tmp_path / "stages" / "a.json").write_text("{")
    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 1}, write(folder, "a.txt", "x"))
        assert len(folder.changes) == 1
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_failed_stage_can_be_tried_again_and_keeps_its_shards(tmp_path):
    def fail():
        (tmp_path / ".work" / "a" / "shard").write_text("done")
        raise OSError("disk")

    with opened(tmp_path) as folder, pytest.raises(OSError, match="disk"):
        folder.stage("a", {"k": 1}, fail)
    assert not (tmp_path / "manifest.json").exists()

    def go_on():
        assert (tmp_path / ".work" / "a" / "shard").read_text() == "done"
        return Outcome()

    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 1}, go_on)
    assert not (tmp_path / ".work" / "a").exists()


def test_shards_of_other_settings_are_thrown_away(tmp_path):
    def fail():
        (tmp_path / ".work" / "a" / "shard").write_text("of k=1")
        raise OSError("disk")

    with opened(tmp_path) as folder, pytest.raises(OSError, match="disk"):
        folder.stage("a", {"k": 1}, fail)

    def look():
        assert not (tmp_path / ".work" / "a" / "shard").exists()
        return Outcome()

    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 2}, look)


def test_a_stage_that_is_gone_from_the_config_is_removed(tmp_path):
    with opened(tmp_path) as folder:
        folder.stage("a", {}, write(folder, "a.txt", "x"))
        folder.stage("b", {}, write(folder, "b.txt", "x"))
        folder.finish({}, 0, ())
    with opened(tmp_path) as folder:
        folder.stage("a", {}, refuse)
        manifest = folder.finish({}, 0, ())
    assert [s.name for s in manifest.stages] == ["a"]
    assert not (tmp_path / "b.txt").exists()
    assert read_manifest(tmp_path) == manifest


def test_a_manifest_goes_when_a_stage_begins(tmp_path):
    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 1}, lambda: Outcome())
        folder.finish({}, 0, ())

    def look():
        assert not (tmp_path / "manifest.json").exists()
        return Outcome()

    with opened(tmp_path) as folder:
        folder.stage("a", {"k": 2}, look)


def test_manifests_that_are_none(tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 7}))
    with pytest.raises(ConfigError, match="manifest version 7"):
        read_manifest(tmp_path)


def test_differences_are_leaves():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    new = {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert differences(old, new) == {"a.b": (1, 2), "e": (None, 3)}
    assert differences(old, old) == {}
