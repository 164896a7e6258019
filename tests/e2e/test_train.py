# ruff: noqa: E402 - what needs torch is imported where it is there
"""A proxy from a pool, trained in a given order through the command line: what a user does."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import orjson
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaModel
from typer.testing import CliRunner

from didact.cli import app
from didact.core.errors import ConfigError
from didact.data import tables
from didact.training.telemetry import read_steps

N, BATCH, STEPS = 160, 8, 20
SETTINGS = ["--set", "learning_rate=5e-3", "--set", f"batch_size={BATCH}", "--set", "device=cpu"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def call(*words):
    done = CliRunner().invoke(app, [str(w) for w in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pool whose samples say their number, a proxy made of it, an order by length."""
    folder = tmp_path_factory.mktemp("train")
    rows = [
        {"id": f"n{i}",
         "messages": [{"role": "user", "content": f"say {i} {'again ' * (i * 7 % 11)}"},
                      {"role": "assistant", "content": f"here you are: {i}"}]}
        for i in range(N)
    ]  # fmt: skip
    pool = folder / "pool.jsonl"
    pool.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    shared = ["--cache-dir", folder / "cache", "--json"]
    made = call(
        "proxy", "new", folder / "proxy", "--params", "60k", "--vocab", 320, "--context", 128,
        "--pool", pool, *shared,
    )  # fmt: skip
    assert made["parameters"] == pytest.approx(60_000, rel=0.15)
    call("score", pool, "--method", "length", "-o", folder / "s.parquet", *shared)
    call(
        "select", pool, "--scores", folder / "s.parquet", "--method", "top_k",
        "--budget", f"samples={N}", "-o", folder / "chosen", *shared,
    )  # fmt: skip
    call(
        "order", folder / "chosen", "--scores", folder / "s.parquet", "--method", "fold",
        "--set", "layers=2", "-o", folder / "order.parquet", *shared,
    )  # fmt: skip
    return folder, shared


def train(place, out):
    folder, shared = place
    return call(
        "train", folder / "pool.jsonl", "--model", folder / "proxy", "-o", out,
        "--order", folder / "order.parquet", *SETTINGS, *shared,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(place):
    """A finished training, and the numbers that the samples of every step said."""
    folder, _ = place
    tokenizer = AutoTokenizer.from_pretrained(folder / "proxy")
    said, forward = [], LlamaModel.forward

    def recorded(self, input_ids=None, *more, **named):
        texts = tokenizer.batch_decode(input_ids)
        said.extend(int(re.search(r"you are: (\d+)", text)[1]) for text in texts)
        return forward(self, input_ids, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaModel, "forward", recorded)
        return train(place, folder / "trained"), said


def test_what_enters_the_model_is_in_the_order(place, trained):
    folder, _ = place
    rows = tables.read_order(folder / "order.parquet").rows.tolist()
    assert rows != sorted(rows)
    _, said = trained
    assert len(said) == STEPS * BATCH
    for i in range(0, len(said), BATCH):  # inside a step they go by length
        assert sorted(said[i : i + BATCH]) == sorted(rows[i : i + BATCH])


def test_the_loss_falls_and_the_model_opens_again(place, trained):
    folder, _ = place
    result, _ = trained
    steps = [json.loads(x) for x in (folder / "trained" / "steps.jsonl").read_text().splitlines()]
    assert result["steps"] == len(steps) == STEPS
    vocab = json.loads((folder / "proxy" / "config.json").read_text())["vocab_size"]
    assert steps[0]["loss"] == pytest.approx(math.log(vocab), abs=0.1)  # it knows nothing yet
    assert steps[-1]["loss"] < 0.6 * steps[0]["loss"]
    model = AutoModelForCausalLM.from_pretrained(folder / "trained")
    tokenizer = AutoTokenizer.from_pretrained(folder / "trained")
    chat = [{"role": "user", "content": "say 7 "}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    said = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])
    assert said.startswith("here")  # how every answer begins


@pytest.mark.usefixtures("trained")
def test_its_seconds_are_told(place):
    about = json.loads((place[0] / "trained" / "training.json").read_text())
    assert 0.2 < about["cost"]["cpu_seconds"] / about["seconds"] < 20


def test_again_is_found_done_and_another_training_is_refused(place, trained):
    folder, shared = place
    result, _ = trained
    assert train(place, folder / "trained") == {**result, "found_done": True}
    with pytest.raises(ConfigError, match="trained on other data"):
        call("train", folder / "pool.jsonl", "--model", folder / "proxy", "-o", folder / "trained",
             *shared)  # fmt: skip


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_bytes(place, trained):
    folder, shared = place
    words = ["train", folder / "pool.jsonl", "--model", folder / "proxy", "-o", folder / "again",
             "--order", folder / "order.parquet", *SETTINGS, *shared]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "didact.cli", *map(str, words)], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        work = folder / ".again.training"
        while not list(work.glob("checkpoint-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
    assert not (folder / "again").exists()
    result, _ = trained
    again = train(place, folder / "again")
    for name in ("steps", "tokens", "flops", "foretold_flops", "first_loss", "last_loss", "seeds"):
        assert again[name] == result[name]
    for name in ("model.safetensors", "trained_on.npy"):
        assert (folder / "again" / name).read_bytes() == (folder / "trained" / name).read_bytes()
    assert read_steps(folder / "again") == read_steps(folder / "trained")
    assert not work.exists()


@pytest.mark.slow
def test_two_processes_share_every_step_out_and_keep_the_order(place, trained):
    folder, shared = place
    words = ["train", folder / "pool.jsonl", "--model", folder / "proxy", "-o", folder / "two",
             "--order", folder / "order.parquet", *SETTINGS, "--set", "average=ema",
             "--set", "flops=1e15", *shared]  # fmt: skip
    # what `accelerate launch` does for several devices; for several CPU processes it wants MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", "-m", "didact.cli", *map(str, words)]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)  # one of them speaks
    result, _ = trained
    assert json.loads((folder / "two" / "training.json").read_text())["devices"] == 2
    assert (told["tokens"], told["steps"]) == (result["tokens"], result["steps"])
    assert told["foretold_flops"] == told["flops"] < 1e15  # of each process's share
    alone, shared_out = read_steps(folder / "trained"), read_steps(folder / "two")
    assert [s.rows for s in shared_out] == [s.rows for s in alone]
    assert [s.learning_rate for s in shared_out] == [s.learning_rate for s in alone]
    # sums of float32 in another order, carried along by twenty updates of Adam
    assert [s.loss for s in shared_out] == pytest.approx([s.loss for s in alone], rel=1e-3)
    assert [s.grad_norm for s in shared_out][:3] == pytest.approx(
        [s.grad_norm for s in alone][:3], rel=1e-4
    )
    AutoModelForCausalLM.from_pretrained(folder / "two" / "averaged")
    assert not (folder / ".two.training").exists()


def test_seeds_do_something_one_by_one(place, tmp_path):
    folder, shared = place

    def call_it(out, *more):
        return call("train", folder / "pool.jsonl", "-o", tmp_path / out, *SETTINGS,
                    "--set", "max_steps=2", *more, *shared)  # fmt: skip

    def first(out):
        step = read_steps(tmp_path / out)[0]
        return step.rows, step.loss

    scratch = ["--model", "scratch", "--set", "params=60k", "--set", "context=128"]
    told = call_it("a", *scratch, "--order", "shuffle")
    assert told["seeds"] == {"init": 0, "draw": None, "order": 0}
    call_it("b", *scratch, "--order", "shuffle", "--seed", "1")
    call_it("c", *scratch)
    call_it("d", *scratch, "--seed", "1")
    assert first("a")[0] != first("b")[0]  # another order
    assert first("c")[0] == first("d")[0]  # the pool's
    assert first("c")[1] != first("d")[1]  # other weights
    nothing = call_it("e", "--model", folder / "proxy", "--seed", "1")
    assert "changes nothing" in nothing["notes"][0]


def test_what_does_not_go_together_is_refused(place, tmp_path):
    folder, shared = place
    base = ["train", folder / "pool.jsonl", "-o", tmp_path / "m", *shared]
    for words, message in (
        (["--model", "scratch"], "needs the size"),
        (["--model", folder / "proxy", "--set", "params=3M"], "is of a model from scratch"),
        (["--model", folder / "proxy", "--order", folder / "order.parquet", "--epochs", "2"],
         "has its epochs written out"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            call(*base, *words)
