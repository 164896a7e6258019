from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.execution.executors import processes, serial, threads
from didact.execution.measure import measure, tree_memory

EXECUTORS = {"serial": serial, "threads": lambda: threads(3), "processes": lambda: processes(2)}
opened: list[str] = []


def square(shared, item):
    time.sleep(0.002 * (5 - item % 5))  # later items finish first
    return Metered(shared + item * item, Cost(tokens=1))


def fail_at_three(shared, item):
    if item == 3:
        raise ValueError("three is too many")
    return Metered(item)


def refuse(shared, item):
    raise DataError("row 3: bad")


@contextmanager
def opening(shared, device):
    assert device == "cpu"
    opened.append("open")
    yield shared * 10
    opened.append("close")


@pytest.mark.parametrize("name", EXECUTORS)
def test_results_come_in_the_order_of_the_items(name):
    executor = EXECUTORS[name]()
    assert list(executor.map(square, range(20), shared=7)) == [7 + i * i for i in range(20)]
    assert executor.spent.tokens == 20
    assert executor.spent.cpu_seconds > 0


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_failure_names_the_item(name):
    executor = EXECUTORS[name]()
    with pytest.raises(ExecutionError, match="3 failed: ValueError: three is too many"):
        list(executor.map(fail_at_three, range(9), shared=None))


@pytest.mark.parametrize("name", EXECUTORS)
def test_our_own_errors_pass_as_they_are(name):
    with pytest.raises(DataError, match="row 3: bad"):
        list(EXECUTORS[name]().map(refuse, range(2), shared=None))


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_shared_is_opened_once_per_worker_and_closed(name):
    opened.clear()
    executor = EXECUTORS[name]()
    assert list(executor.map(square, range(12), shared=2, open=opening))[:2] == [20, 21]
    assert 1 <= opened.count("open") <= executor.workers
    assert opened.count("open") == opened.count("close")


@contextmanager
def on_device(shared, device):
    yield device


def where(device, item):
    time.sleep(0.05)
    return Metered((device, os.getpid(), os.environ.get("OMP_NUM_THREADS")))


def test_one_device_is_served_by_the_caller():
    found = list(threads(4).map(where, range(3), shared=None, open=on_device, devices=("cuda:0",)))
    assert {(d, p) for d, p, _ in found} == {("cuda:0", os.getpid())}


def test_every_device_gets_a_process_of_its_own():
    executor = threads(4)
    devices = ("first", "second")
    found = list(executor.map(where, range(8), shared=None, open=on_device, devices=devices))
    assert {d for d, _, _ in found} == set(devices)
    assert len({p for _, p, _ in found}) == 2
    assert os.getpid() not in {p for _, p, _ in found}
    assert executor.spent.device_seconds > 0


def test_processes_share_the_cores_of_the_cpu():
    executor = processes(2)
    found = list(executor.map(where, range(8), shared=None, open=on_device, devices=("cpu",)))
    assert {d for d, _, _ in found} == {"cpu"}
    assert {t for _, _, t in found} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert executor.spent.device_seconds == 0


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_call_stays_here_and_is_counted(name):
    executor = EXECUTORS[name]()
    assert executor.call(lambda: Metered(os.getpid(), Cost(flops=7)), device="cpu") == os.getpid()
    assert executor.spent.flops == 7
    with pytest.raises(DataError, match="row 3: bad"):
        executor.call(lambda: refuse(None, None))


def test_few_items_are_in_flight():
    begun = []
    items = (begun.append(i) or i for i in range(1000))
    results = threads(2).map(square, items, shared=0)
    next(results)
    assert len(begun) < 30
    results.close()


def test_threads_really_run_beside_each_other():
    barrier = threading.Barrier(2, timeout=5)

    def meet(shared, item):
        barrier.wait()
        return Metered(item)

    assert list(threads(2).map(meet, [1, 2], shared=None)) == [1, 2]


def test_no_workers_is_an_error():
    with pytest.raises(ConfigError, match="workers=0"):
        threads(0)


def test_measuring_sees_time_and_memory():
    with measure() as reading:
        block = bytearray(64 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.06)
        assert sum(range(5_000_000)) > 0  # work that takes several ticks of the clock
    assert reading.wall_seconds >= 0.06
    assert reading.peak_memory_bytes >= 64 * 2**20
    assert reading.cpu_seconds > 0


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_memory_counts_children():
    import subprocess
    import sys

    alone = tree_memory(os.getpid())
    code = "x = bytearray(80 * 2**20); x[::4096] = b'x' * len(x[::4096]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert tree_memory(os.getpid()) >= alone + 70 * 2**20
        child.communicate(b"\n")
    assert tree_memory(2**22 + 1) == 0
