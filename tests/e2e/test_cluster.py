"""Work on a real Ray cluster of several nodes, whose processes are killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest

import didact
from didact import pipeline
from didact.core.budget import Budget
from didact.core.cost import Cost, Meter, Metered
from didact.core.errors import ConfigError, DataError, ExecutionError
from didact.core.paths import place as place_of
from didact.core.protocols import Context, Progress
from didact.execution.cluster.executor import Clustered, clustered
from didact.execution.executors import serial
from didact.selection.around.choose import choose
from didact.selection.feature_based.feature_based import feature_based
from didact.testing import make_pool, sample_rows, target_rows

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def said():
    return []


@pytest.fixture
def executor(ray_cluster, said):
    return clustered(address=ray_cluster.address, cache_dir=ray_cluster.cache, tell=said.append)


def here():
    return str(ray.get_runtime_context().get_node_id())


def square(shared, item):
    time.sleep(0.002 * (5 - item % 5))  # later items finish first
    return Metered(shared + item * item, Cost(tokens=1))


def test_results_come_in_the_order_of_the_items(executor):
    assert executor.workers == 2
    assert list(executor.map(square, range(20), shared=7)) == [7 + i * i for i in range(20)]
    assert executor.meter.bill.charged.tokens == 20
    assert list(executor.map(square, [], shared=7)) == []


def place(shared, item):
    time.sleep(0.02)
    return Metered((here(), os.getpid()))


def test_every_node_works_and_its_process_stays_for_the_next_map(executor, ray_cluster):
    first = Counter(executor.map(place, range(24), shared=None))
    deadline = time.monotonic() + 60
    while len(first) < 2 and time.monotonic() < deadline:  # the second is still starting
        first = Counter(executor.map(place, range(24), shared=None))
    assert {node for node, _ in first} == {node.node_id for node in ray_cluster.nodes}
    assert Counter(executor.map(place, range(24), shared=None)).keys() == first.keys()
    assert os.getpid() not in {pid for _, pid in first}


def test_few_items_are_in_flight(executor):
    begun = []
    results = executor.map(square, (begun.append(i) or i for i in range(1000)), shared=0)
    next(results)
    assert len(begun) < 30
    results.close()
    assert list(executor.map(square, [3], shared=0)) == [9]  # workers are free again


@contextmanager
def opening(shared, device):
    folder, _ = shared
    (folder / f"open-{os.getpid()}-{device}").touch()
    yield shared[1]
    (folder / f"close-{os.getpid()}-{device}").touch()


def touched(shared, item):
    shared[item] += 1  # what arrives can be written to
    return Metered(shared)


def test_shared_is_opened_once_per_worker_and_closed(executor, tmp_path):
    array = np.zeros(300_000)
    found = list(executor.map(touched, range(12), shared=(tmp_path, array), open=opening))
    assert sum(one.sum() for one in found) >= 12
    found[0][0] = 5
    deadline = time.monotonic() + 10
    while True:
        opened = [path.name.partition("-")[2] for path in tmp_path.glob("open-*")]
        closed = [path.name.partition("-")[2] for path in tmp_path.glob("close-*")]
        if sorted(opened) == sorted(closed):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 1 <= len(opened) <= 2
    assert all(name.endswith("-cpu") for name in opened)


class OddError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def fail(kind, item):
    if item == 3:
        raise {"value": ValueError("three"), "ours": DataError("row 3: bad")}.get(kind) or OddError(
            1, 2
        )
    return Metered(item)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("value", ExecutionError, r"^3 failed: ValueError: three \(test_cluster.py:\d+ in fail\)$"),
        ("ours", DataError, "^row 3: bad$"),
        ("odd", ExecutionError, "^3 failed: OddError: 1 and 2 "),
    ],
)
def test_a_failure_names_the_item_and_is_not_tried_again(executor, said, kind, error, message):
    with pytest.raises(error, match=message):
        list(executor.map(fail, range(9), shared=kind))
    assert not said


def burn(shared, item):
    end = time.process_time() + shared
    while time.process_time() < end:
        sum(range(200))
    return Metered(item)


def test_processor_time_of_workers_is_charged(executor):
    meter = Meter()
    with meter.running():
        list(executor.charging(meter).map(burn, range(4), shared=0.1))
    assert 0.4 <= meter.bill.charged.cpu_seconds < 0.7


# -- deaths ----------------------------------------------------------------------------------------


def die_once(folder, item):
    if item == 5 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return Metered(item)


def test_a_worker_that_is_killed_is_replaced(executor, said, tmp_path):
    assert list(executor.map(die_once, range(16), shared=tmp_path)) == list(range(16))
    (line,) = said
    assert line.startswith("a worker on ")
    assert line.endswith(" died; its items are tried again elsewhere")


def die(_, item):
    if item == "row 5":
        os._exit(7)
    return Metered(item)


def test_an_item_that_kills_its_workers_is_named_after_three(executor, said):
    with pytest.raises(ExecutionError, match=r"^row 5: its worker died 3 times, last on .*memory"):
        list(executor.map(die, [f"row {i}" for i in range(9)], shared=None))
    assert len(said) == 2


def test_a_node_that_is_killed_is_done_without(executor, said, ray_cluster):
    results = executor.map(place, range(60), shared=None)
    found = [next(results) for _ in range(8)]
    ray_cluster.kill(ray_cluster.nodes[-1])
    found += results
    assert len(found) == 60
    ray_cluster.add()


# -- calls -----------------------------------------------------------------------------------------


def context(executor, tmp_path, said):
    return Context(
        executor=executor, seed=3, cache_dir=tmp_path, progress=said.append, tell=said.append
    )


def test_a_call_without_a_model_stays_here(executor):
    assert executor.call(lambda device: Metered((device, os.getpid()))) == ("cpu", os.getpid())


def test_a_call_with_a_model_runs_on_a_worker_and_reports(executor, ray_cluster, tmp_path, said):
    ctx = context(executor, tmp_path, said)
    ctx.meter.add(Cost(flops=1))

    def work(device):
        ctx.progress(Progress("train", 1, 2))
        ctx.tell("half of it")
        ctx.meter.add(Cost(flops=10))
        burn(0.1, None)
        ctx.meter.found(Cost(flops=100))
        ctx.progress(Progress("train", 2, 2))
        (ctx.cache_dir / "model").write_text("weights")
        return Metered((device, os.getpid(), ctx, here()), Cost(tokens=5))

    device, pid, back, node = ctx.executor.call(work, device="cpu")
    assert device == "cpu"
    assert pid != os.getpid()
    assert node in {node.node_id for node in ray_cluster.nodes}
    assert back == ctx
    assert (tmp_path / "model").read_text() == "weights"
    assert said == [Progress("train", 1, 2), "half of it", Progress("train", 2, 2)]
    bill = ctx.meter.bill
    assert (bill.charged.flops, bill.own.flops, bill.charged.tokens) == (11, 111, 5)
    assert bill.charged.cpu_seconds >= 0.1
    assert bill.charged.device_seconds == 0


def test_what_fails_in_a_call_is_raised_here_and_paid(executor, tmp_path, said):
    ctx = context(executor, tmp_path, said)

    def work(_):
        ctx.meter.add(Cost(flops=10))
        raise KeyError("no such layer")

    with pytest.raises(ExecutionError, match=r"^work failed: KeyError: 'no such layer' \(test_cl"):
        ctx.executor.call(work, device="cpu")
    assert ctx.meter.bill.charged.flops == 10


def test_a_call_whose_worker_is_killed_is_tried_again(executor, tmp_path, said):
    def work(folder, _):
        return die_once(folder, 5)

    assert executor.call(partial(work, tmp_path), device="cpu") == 5
    assert said == ["the worker of work died; it is tried again elsewhere"]
    said.clear()
    with pytest.raises(
        ExecutionError, match=r"^<lambda>: its worker died 3 times; look at the mem"
    ):
        executor.call(lambda _: os._exit(7), device="auto")
    assert len(said) == 2


def test_an_interrupted_call_ends_on_its_worker_too(executor, tmp_path):
    def stop(step):
        raise KeyboardInterrupt

    ctx = Context(executor=executor, seed=3, cache_dir=tmp_path, progress=stop)

    def work(_):
        (tmp_path / "pid").write_text(str(os.getpid()))
        ctx.progress(Progress("train", 0, 9))
        time.sleep(600)

    with pytest.raises(KeyboardInterrupt):
        ctx.executor.call(work, device="cpu")
    until(lambda: not Path("/proc", (tmp_path / "pid").read_text()).exists(), seconds=30)


# -- devices ---------------------------------------------------------------------------------------


def test_devices_are_those_of_the_workers(executor, ray_cluster):
    with pytest.raises(ConfigError, match="device=cuda: no machine of the cluster has an accel"):
        list(executor.map(place, range(2), shared=None, device="cuda"))
    node = ray_cluster.add(num_cpus=1, num_gpus=1)
    try:
        deadline = time.monotonic() + 30
        while not ray.cluster_resources().get("GPU"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        found = {on for on, _ in executor.map(place, range(4), shared=None, device="auto")}
        assert found == {node.node_id}
        found = {on for on, _ in executor.map(place, range(4), shared=None, device="cpu")}
        assert node.node_id not in found
        with pytest.raises(ConfigError, match="no CUDA device is visible to torch"):
            executor.call(Metered, device="cuda")  # the accelerator is but a number
    finally:
        ray_cluster.kill(node)


# -- what machines must have in common -------------------------------------------------------------


def test_a_cache_that_workers_do_not_see_is_refused(ray_cluster, tmp_path):
    door = os.open(tmp_path, os.O_RDONLY)  # a path that means something in this process alone
    try:
        with pytest.raises(ConfigError, match=r"cannot see the cache /proc/self/fd.*--cache-dir"):
            clustered(address=ray_cluster.address, cache_dir=Path(f"/proc/self/fd/{door}/cache"))
    finally:
        os.close(door)


def test_a_machine_with_another_didact_is_named(ray_cluster, tmp_path):
    (tmp_path / "didact").mkdir()
    (tmp_path / "didact" / "__init__.py").touch()
    (tmp_path / "didact" / "_version.py").write_text('__version__ = "0.0.7"\n')
    node = ray_cluster.add(env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        with pytest.raises(
            ConfigError, match=r"machines of the cluster differ: .*: didact 0\.0\.7"
        ):
            clustered(address=ray_cluster.address, cache_dir=tmp_path / "cache")
    finally:
        ray_cluster.kill(node)


def test_this_process_is_part_of_one_cluster(executor, tmp_path):
    with pytest.raises(ConfigError, match=r"address=127.0.0.1:1: this process is part of"):
        clustered(address="127.0.0.1:1", cache_dir=tmp_path)


# -- whole runs ------------------------------------------------------------------------------------


def without_measured(manifest):
    values = manifest.to_json()
    del values["cost"]
    for stage in values["stages"]:
        del stage["measured"]
    return values


def test_a_run_on_a_cluster_writes_what_a_run_on_threads_writes(ray_cluster, tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(b"\n".join(map(orjson.dumps, sample_rows())))
    (tmp_path / "target.jsonl").write_bytes(b"\n".join(map(orjson.dumps, target_rows())))
    config = {
        "seed": 5,
        "data": {"path": str(tmp_path / "pool.jsonl")},
        "score": {"method": "bm25", "target": str(tmp_path / "target.jsonl")},
        "select": {"method": "zip", "budget": {"samples": 9}, "k1": 20, "k2": 9, "k3": 3},
        "order": {"method": "fold", "layers": 2},
    }
    there = {**config, "execution": {"executor": "ray", "address": ray_cluster.address}}
    one = pipeline.run(config, tmp_path / "one", cache_dir=tmp_path / "cache-one")
    two = pipeline.run(there, tmp_path / "two", cache_dir=ray_cluster.cache)
    assert without_measured(one.manifest) == without_measured(two.manifest)
    assert "execution" not in two.manifest.config
    (told,) = two.changes
    assert told.startswith("zip is one machine's")
    for name in ("scores.parquet", "selection.parquet", "train.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    again = pipeline.run(config, tmp_path / "two", cache_dir=ray_cluster.cache)
    assert all(stage.measured.reused for stage in again.manifest.stages)


def folder_of(pool):
    return {
        path.name: path.read_bytes() for path in pool.path.iterdir() if path.name != "entry.json"
    }


def test_reading_and_writing_on_a_cluster(ray_cluster, tmp_path, monkeypatch):
    """Large inputs and outputs are work for the cluster: the same store, the same files."""
    rows = [orjson.dumps({"id": f"r{i}", "text": "word " * (i % 50) + str(i)}) for i in range(3000)]
    (tmp_path / "pool.jsonl").write_bytes(b"\n".join(rows))
    config = {
        "data": {"path": str(tmp_path / "pool.jsonl"), "shard_bytes": 50_000, "validation": 0.1},
        "score": {"method": "length"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "export": {"shards": 3},
    }
    there = {**config, "execution": {"executor": "ray", "address": ray_cluster.address}}
    one = pipeline.run(config, tmp_path / "one", cache_dir=tmp_path / "cache-one")
    began: list[object] = []
    apart = Clustered.apart

    def spied(executor):
        began.append(executor)
        return apart(executor)

    monkeypatch.setattr(Clustered, "apart", spied)
    monkeypatch.setattr("didact.data.reading.gathering._WORTH_PROCESSES", 0)
    monkeypatch.setattr("didact.data.export.data_set._WORTH_PROCESSES", 0)
    two = pipeline.run(there, tmp_path / "two", cache_dir=ray_cluster.cache)
    assert len(began) == 2
    assert without_measured(one.manifest) == without_measured(two.manifest)
    stores = [didact.read(config["data"]["path"], cache_dir=cache, shard_bytes=50_000,
                          validation=0.1) for cache in (tmp_path / "cache-one", ray_cluster.cache)]  # fmt: skip
    assert folder_of(stores[0]) == folder_of(stores[1])
    assert len(list(stores[0].path.glob("pool-*.arrow"))) > 5
    for path in (tmp_path / "one").glob("*.jsonl"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_folders_that_all_machines_see(executor, ray_cluster, tmp_path, monkeypatch):
    assert executor.sees(ray_cluster.cache / "tmp")
    assert executor.sees(place_of("s3://bucket/run"))
    assert executor.sees(tmp_path / "seen")
    monkeypatch.setattr("didact.execution.cluster.executor.all_see", lambda *_: False)
    assert executor.sees(tmp_path / "seen" / "below")
    assert not executor.sees(tmp_path / "other")


SLOW = """
import os, sys, time
from dataclasses import dataclass
import numpy as np
import didact
from didact.core.cost import Cost
from didact.core.one_pass import one_pass

def values(batch):
    time.sleep(0.02)
    with open(os.environ["DIDACT_TEST_LOG"], "a") as log:
        log.write("x")
    return np.asarray([len(text.as_py()) for text in batch.column("text")], float)

@dataclass(frozen=True)
class Slow:
    '''Sleeps. **Source:** none. **Cost:** none.'''

    needs_target = False
    def estimate(self, pool, target):
        return Cost()
    def fit(self, pool, target, ctx):
        return one_pass(values, ("text",))
"""
DRIVER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored
import numpy as np
import didact
pool, cache, address, out = sys.argv[1:]
ctx = didact.context(1, cache_dir=cache, executor="ray", address=address or None, tell=print)
print("joined", flush=True)
scores = didact.score(didact.read(pool, cache_dir=cache, batch_rows=1), "slow", ctx=ctx)
np.save(out, scores.values)
"""


@pytest.fixture
def drive(tmp_path):
    """Starts a program that scores a pool slowly, by an executor of its own."""
    rows = [{"id": f"r{i}", "text": "word " * (i % 17 + 1) + str(i)} for i in range(160)]
    (tmp_path / "pool.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    (tmp_path / "slow.py").write_text(SLOW)
    about = tmp_path / "slow-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[didact.scorers]\nslow = slow:Slow\n")
    (tmp_path / "driver.py").write_text(DRIVER)

    def start(cache, address, log, **environment):
        places = [str(tmp_path / "pool.jsonl"), str(cache), address, str(tmp_path / "out.npy")]
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "driver.py"), *places],
            env={**os.environ, "DIDACT_TEST_LOG": str(log), **environment}, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    return start


def until(condition, program=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        if program is not None and program.poll() is not None:
            raise AssertionError(program.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_rounds_on_a_cluster_pick_what_they_pick_here(ray_executor, tmp_path):
    rng = np.random.default_rng(0)
    words = (rng.zipf(1.3, (300, 12)) % 500).tolist()
    rows = [{"id": f"r{i}", "text": " ".join(f"w{w}" for w in its)} for i, its in enumerate(words)]
    pool = make_pool(rows, tmp_path)
    here = Context(executor=serial(), seed=3, cache_dir=tmp_path / "cache")
    picks = [
        choose(feature_based, pool, None, Budget(ratio=0.1), ctx, partitions=6).best_first()
        for ctx in (here, replace(here, executor=ray_executor))
    ]
    assert len(picks[0]) == 30
    assert picks[0].tolist() == picks[1].tolist()


def test_a_run_that_is_killed_goes_on_where_it_was(ray_cluster, executor, drive, tmp_path):
    executor.cluster.close()  # its workers would hold the cores that the program needs
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with drive(ray_cluster.cache, ray_cluster.address, first) as killed:
        piece = "unfinished/scores-*/pass-0-000000/entry.json"
        until(lambda: list(ray_cluster.cache.glob(piece)), killed)
        killed.kill()
    with drive(ray_cluster.cache, ray_cluster.address, second) as again:
        said = again.communicate()
        assert again.returncode == 0, said
    assert second.stat().st_size == 160 - 64  # the first piece was kept
    expected = [len("word " * (i % 17 + 1) + str(i)) for i in range(160)]
    assert np.load(tmp_path / "out.npy").tolist() == expected


def processes_with(place):
    """Processes that have it in their environment or on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if place.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
    return found


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_cluster_that_was_started_here_ends_with_the_program(drive, tmp_path):
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        own = {"RAY_TMPDIR": place, "HOME": str(tmp_path / "home"), "RAY_AUTH_MODE": ""}
        with drive(tmp_path / "cache", "", tmp_path / "log", **own) as program:
            until((tmp_path / "log").exists, program)
            assert processes_with(place)
            os.killpg(program.pid, signal.SIGINT)  # as a terminal does
            _, stderr = program.communicate(timeout=60)
        assert "KeyboardInterrupt" in stderr
        until(lambda: not processes_with(place), seconds=30)
        assert not (tmp_path / "home").exists()  # Ray would put its token there
