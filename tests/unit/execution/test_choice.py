from __future__ import annotations

import pytest
from pydantic import ValidationError

import didact
from didact.core.errors import ConfigError
from didact.execution.choice import ExecutionSettings
from didact.execution.worker import cores


def test_what_is_given_goes_before_what_is_set():
    there = ExecutionSettings(executor="ray", address="head:6379", workers=8)
    assert there.with_given(workers=2, executor=None).workers == 2
    assert there.with_given(address="other:1").address == "other:1"
    threads = there.with_given(executor="threads")
    assert (threads.executor, threads.address, threads.workers) == ("threads", None, 8)
    with pytest.raises(
        ConfigError, match="^address=head:1 goes with executor=ray .--executor ray., not"
    ):
        ExecutionSettings().with_given(address="head:1")
    with pytest.raises(ConfigError, match="execution.workers"):
        there.with_given(workers=0)


def test_one_item_at_a_time_has_one_worker():
    with pytest.raises(ValidationError, match="workers=3: executor=serial has one"):
        ExecutionSettings(executor="serial", workers=3)


@pytest.mark.parametrize(
    ("settings", "workers", "local"),
    [
        ({}, cores(), cores()),
        ({"workers": 3}, 3, 3),
        ({"workers": 3, "threads": 2}, 3, 2),
        ({"executor": "serial"}, 1, 1),
        ({"executor": "serial", "threads": 2}, 1, 2),
        ({"executor": "processes", "workers": 2}, 2, 2),
    ],
)
def test_workers_and_threads_of_a_kernel_are_two_numbers(tmp_path, settings, workers, local):
    executor = ExecutionSettings(**settings).start(tmp_path)
    assert (executor.workers, executor.local_threads) == (workers, local)
    executor = didact.context(cache_dir=tmp_path, **settings).executor
    assert (executor.workers, executor.local_threads) == (workers, local)


def test_no_thread_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"execution\.threads"):
        didact.context(cache_dir=tmp_path, threads=0)
