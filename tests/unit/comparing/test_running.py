"""Room for runs, on the disk where they stand."""

import pytest

from didact.comparing.running import check_room
from didact.core.errors import DataError
from didact.core.paths import place


def test_runs_that_belong_behind_a_url_need_room_in_the_scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))
    remote, much = place("s3://bucket/OUT"), {"weight_bytes": 2**60, "runs": 3, "jobs": 1}
    check_room(remote, 10, 3, 1, keep_models=True)
    with pytest.raises(DataError, match="scratch.* are free.*set DIDACT_SCRATCH") as told:
        check_room(remote, **much, keep_models=True)  # kept models are in the bucket
    assert "keep_models" not in str(told.value)
    with pytest.raises(DataError, match="keep_models: false, free some space, or choose another"):
        check_room(tmp_path, **much, keep_models=True)
