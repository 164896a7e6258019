from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from mmap import PAGESIZE
from pathlib import Path

import pytest

from didact.core.cost import Cost, Meter, Metered
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.protocols import Context
from didact.execution import executors, worker
from didact.execution.apart import started_apart
from didact.execution.devices import local_devices
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
    assert executor.meter.bill.charged.tokens == 20
    assert executor.meter.bill.charged.cpu_seconds > 0


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_failure_names_the_item(name):
    executor = EXECUTORS[name]()
    with pytest.raises(
        ExecutionError,
        match=r"3 failed: ValueError: three is too many \(test_executors.py:\d+ in \w+\)",
    ):
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


@pytest.fixture
def has_devices(monkeypatch):
    """The machine's accelerators are these."""

    def has(*devices):
        monkeypatch.setattr(executors, "local_devices", lambda _: devices)

    return has


def test_one_device_is_served_by_the_caller(has_devices):
    has_devices("cuda:0")
    found = list(threads(4).map(where, range(3), shared=None, open=on_device, device="auto"))
    assert {(d, p) for d, p, _ in found} == {("cuda:0", os.getpid())}


def test_every_device_gets_a_process_of_its_own(has_devices):
    executor = threads(4)
    devices = ("first", "second")
    has_devices(*devices)
    found = list(executor.map(where, range(8), shared=None, open=on_device, device="cuda"))
    assert {d for d, _, _ in found} == set(devices)
    assert len({p for _, p, _ in found}) == 2
    assert os.getpid() not in {p for _, p, _ in found}
    assert executor.meter.bill.charged.device_seconds > 0


def test_processes_share_the_cores_of_the_cpu():
    executor = processes(2)
    found = list(executor.map(where, range(8), shared=None, open=on_device, device="cpu"))
    assert {d for d, _, _ in found} == {"cpu"}
    assert {t for _, _, t in found} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert executor.meter.bill.charged.device_seconds == 0


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_call_stays_here_and_is_counted(name):
    executor = EXECUTORS[name]()
    here = executor.call(lambda device: Metered((device, os.getpid()), Cost(flops=7)), device="cpu")
    assert here == ("cpu", os.getpid())
    assert executor.meter.bill.charged.flops == 7
    assert executor.meter.bill.charged.device_seconds == 0
    with pytest.raises(DataError, match="row 3: bad"):
        executor.call(lambda _: refuse(None, None))


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_call_on_a_device_is_told_which_and_its_time_counts(name, has_devices):
    has_devices("cuda:0", "cuda:1")
    executor = EXECUTORS[name]()
    assert executor.call(lambda d: (time.sleep(0.05), Metered(d))[1], device="auto") == "cuda:0"
    assert 0.05 <= executor.meter.bill.charged.device_seconds < 1  # one device's, once
    with pytest.raises(ExecutionError, match="named failed: KeyError"):
        executor.call(named, device="cuda")


def named(device):
    raise KeyError(device)


# -- whose cost it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXECUTORS)
def test_metered_results_are_charged_by_whoever_takes_them(name):
    executor = EXECUTORS[name]()
    found = list(executor.metered(square, range(5), shared=7))
    assert [m.value for m in found] == [7 + i * i for i in range(5)]
    assert all(m.cost.tokens == 1 and m.cost.cpu_seconds > 0 for m in found)
    assert executor.meter.bill.charged.tokens == 0
    assert executor.meter.bill.charged.flops == 0


@pytest.mark.parametrize("name", EXECUTORS)
def test_each_meter_is_charged_for_its_own_work(name):
    first = EXECUTORS[name]()
    meter = Meter()
    second = first.charging(meter)
    assert second.workers == first.workers
    assert list(second.map(square, range(6), shared=0)) == [i * i for i in range(6)]
    assert list(first.map(square, range(3), shared=0)) == [0, 1, 4]
    second.call(lambda _: Metered(None, Cost(tokens=10)))
    assert (
        first.meter.bill.charged.tokens,
        second.meter.bill.charged.tokens,
        meter.bill.charged.tokens,
    ) == (3, 16, 16)


def test_a_context_has_an_executor_that_charges_its_meter(tmp_path):
    executor = threads(2)
    ctx = Context(executor=executor, seed=0, cache_dir=tmp_path)
    other = replace(ctx, meter=Meter())
    list(other.executor.map(square, range(4), shared=0))
    assert (ctx.meter.bill.charged.tokens, other.meter.bill.charged.tokens) == (0, 4)
    assert executor.meter.bill.charged.tokens == 0


def burn(shared, item):
    end = time.thread_time() + shared
    while time.thread_time() < end:
        sum(range(200))
    return Metered(item)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("name", EXECUTORS)
def test_processor_time_is_charged_once_wherever_it_is_spent(name, running):
    meter = Meter()
    with meter.running() if running else nullcontext():
        list(EXECUTORS[name]().charging(meter).map(burn, range(6), shared=0.1))
    # Beside the 0.6 s: pickling, starting; what could be counted twice is another 0.6 s.
    assert 0.6 <= meter.bill.charged.cpu_seconds < 0.9


def test_work_in_threads_is_charged_once_while_its_meter_is_asked():
    """`kept_pieces` asks between items, when others are under way."""
    meter = Meter()
    with meter.running():
        for _ in threads(3).charging(meter).map(burn, range(12), shared=0.05):
            assert meter.bill.charged.cpu_seconds >= 0
    assert 0.6 <= meter.bill.charged.cpu_seconds < 0.9


# -- devices ---------------------------------------------------------------------------------------


def test_the_devices_are_the_executor_s_machine_s(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert local_devices("auto") == local_devices("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert local_devices("cpu") == ("cpu",)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_devices("auto") == local_devices("cpu") == ("cpu",)
    with pytest.raises(ConfigError, match="device=cuda: no CUDA device .* device=cpu or auto"):
        local_devices("cuda")
    for executor in (serial(), threads(2), processes(2)):
        with pytest.raises(ConfigError, match="no CUDA device"):
            executor.call(lambda _: Metered(None), device="cuda")
        with pytest.raises(ConfigError, match="no CUDA device"):
            list(executor.map(square, range(2), shared=0, device="cuda"))


def test_work_without_a_model_and_models_on_the_cpu_ask_no_library():
    code = (
        "import sys\n"
        "from didact.core.cost import Metered\n"
        "from didact.execution.executors import serial\n"
        "double = lambda _, item: Metered(2 * item)\n"
        "assert list(serial().map(double, [1], shared=None)) == [2]\n"
        "assert list(serial().map(double, [1], shared=None, device='cpu')) == [2]\n"
        "assert serial().call(Metered, device='cpu') == 'cpu'\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_a_model_on_the_cpu_runs_in_the_caller_s_thread(name):
    """Threads would only compete for the cores that one model uses by itself."""
    executor = EXECUTORS[name]()
    found = list(executor.map(where, range(4), shared=None, open=on_device, device="cpu"))
    assert {(d, p) for d, p, _ in found} == {("cpu", os.getpid())}
    assert executor.meter.bill.charged.device_seconds == 0


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
    assert reading.wall_seconds >= 0.06
    assert reading.peak_memory_bytes >= 64 * 2**20


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_memory_counts_children():
    alone = tree_memory(os.getpid())
    code = "x = bytearray(80 * 2**20); x[::4096] = b'x' * len(x[::4096]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert tree_memory(os.getpid()) >= alone + 70 * 2**20
        child.communicate(b"\n")
    assert tree_memory(2**22 + 1) == 0


def test_memory_of_a_process_that_is_being_started_is_its_parents(tmp_path, monkeypatch):
    monkeypatch.setattr("didact.execution.measure._PROC", tmp_path)
    for pid, statm, children in ((7, "90 50 3", "8 9"), (8, "90 50 3", ""), (9, "40 20 3", "")):
        task = tmp_path / f"{pid}/task/{pid}"
        task.mkdir(parents=True)
        (tmp_path / f"{pid}/statm").write_text(statm)
        (task / "children").write_text(children)
    assert tree_memory(7) == 70 * PAGESIZE
    (tmp_path / "8/statm").write_text("30 10 3")  # it runs a program of its own now
    assert tree_memory(7) == 80 * PAGESIZE


def test_a_process_that_may_start_none_works_apart_in_threads(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    found = threads(2).apart().map(lambda shared, i: Metered(shared + i), range(5), shared=1)
    assert list(found) == [1, 2, 3, 4, 5]


def test_workers_apart_live_through_ctrl_c_from_the_start_and_one_killed_is_named():
    with started_apart(1, initializer=abs, initargs=(1,)) as workers:
        begun = workers.submit(os.getpid)
        (process,) = workers._processes.values()
        os.kill(process.pid, signal.SIGINT)
        assert begun.result(30) == process.pid
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        sleeping = workers.submit(time.sleep, 60)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ExecutionError, match="^an item failed: a worker process .*--workers"):
            worker.named(sleeping.result, "an item")
