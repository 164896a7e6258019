"""A cluster, and everything in a bucket: pool, config, run folder and the cache that machines share."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from didact import pipeline
from didact.core.paths import place

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.xdist_group("ray")]


@pytest.fixture
def cluster(s3, tmp_path, monkeypatch):
    """A head that works not and a node of a core, as `ray start` starts them."""
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ExitStack() as stack:
        home = stack.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp"))
        monkeypatch.setenv("RAY_TMPDIR", home)  # paths of sockets are short
        note = Path(home, "ray", "ray_current_cluster")

        def start(*words):
            ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
            ray += ["--object-store-memory", str(80 * 2**20)]
            node = subprocess.Popen(
                ray, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.callback(node.communicate)
            stack.callback(node.terminate)
            assert any("Ray runtime started" in line for line in node.stdout)
            while not note.exists():
                assert node.poll() is None
                time.sleep(0.02)

        start("--head", "--num-cpus=0", "--port=0", "--include-dashboard=false")
        start("--address", note.read_text().strip(), "--num-cpus=1")
        yield


def _files(folder):
    there = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in there}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
@pytest.mark.usefixtures("cluster")
def test_killed_on_a_cluster_and_started_again(s3, stores, tmp_path, chats):
    config = {
        "data": {"path": s3.put("pool.jsonl", chats.read_bytes())},
        "score": {"method": "compression"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "order": {"method": "fold"},
        "export": {"for": "trl", "shards": 2},
    }
    here = pipeline.run({**config, "data": {"path": str(chats)}}, tmp_path / "run").folder
    program = [
        sys.executable, "-m", "didact.cli", "run",
        s3.put("run.yaml", yaml.safe_dump(config).encode()), "-o", f"{s3.url}/run",
        "--cache-dir", f"{s3.url}/cache", "--executor", "ray", "--ray-address", "auto",
    ]  # fmt: skip
    s3.wire.faults.append(stores.Fault("PUT", "train-00001", seconds=30))
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        stores.kill_while_it_puts(process, "train-00001", s3.wire)
    there = place(f"{s3.url}/run")
    assert (there / "stages" / "select.json").exists()
    assert not (there / "manifest.json").exists()
    again = subprocess.run(program, check=True, capture_output=True, text=True)
    assert again.stdout.count("found done") == 4  # data, score, select, order
    expected, found = _files(here), _files(there)
    told = {name for name in expected if name.startswith("stages/")} | {".lock", "report.html"}
    data = expected.keys() - told - {"manifest.json"}
    assert len(data) > 6
    assert {name: found.get(name) for name in data} == {name: expected[name] for name in data}
    assert (there / "manifest.json").exists()
    everything = _files(place(s3.url))
    assert not [n for n, data in everything.items() if b"secret-of-the-test" in data]
