"""Room for runs, on the disk where they stand."""

import pytest

from didact.comparing.records import Record, write_record
from didact.comparing.running import _working, check_room, run_trials
from didact.comparing.trials import Trial
from didact.core.errors import DataError
from didact.core.paths import place
from didact.verbs import context


def test_runs_that_belong_behind_a_url_need_room_in_the_scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))
    remote, much = place("s3://bucket/OUT"), {"weight_bytes": 2**60, "runs": 3, "jobs": 1}
    check_room(remote, 10, 3, 1, keep_models=True)
    with pytest.raises(DataError, match="scratch.* are free.*set DIDACT_SCRATCH") as told:
        check_room(remote, **much, keep_models=True)  # kept models are in the bucket
    assert "keep_models" not in str(told.value)
    with pytest.raises(DataError, match="keep_models: false, free some space, or choose another"):
        check_room(tmp_path, **much, keep_models=True)


def test_what_a_killed_process_left_of_a_run_that_is_done_goes_from_the_scratch(
    tmp_path, monkeypatch
):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))
    home = place("memory://killed-after-its-record/OUT")
    for name, status in (("done", "done"), ("failed", "failed")):
        write_record(Record(name=name, key="k", status=status), home)
        (_working(home) / name / "model").mkdir(parents=True)
    trial = Trial(
        name="done", setting=None, beta=1.0, k_flops=1.0, seed=0, plain={}, key="k",
        selection_flops=0.0,
    )  # fmt: skip
    assert run_trials([trial], home, context(), foretold={})["done"].status == "done"
    assert [path.name for path in _working(home).iterdir()] == ["failed"]  # it goes on there
