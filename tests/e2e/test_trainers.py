"""The generated scripts, run as they are on a tiny model: what enters the model is in the order.

All scripts run in one process, because importing the trainers takes most of the time. It writes down
the input ids of every training step; each sample has a number among its words, so that the order can
be read off the tokens.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import didact
from didact.analysis.risk.flags import read_risk
from didact.core.scores import TrainingOrder
from didact.monitoring.monitor import monitor
from didact.testing import make_pool
from didact.training.telemetry import read_steps

pytestmark = pytest.mark.trainers

N = 24
BATCH = 4

DRIVER = """
import json, runpy, sys, traceback
from pathlib import Path
import torch
from transformers import Trainer
from transformers.models.llama.modeling_llama import LlamaModel

from didact.callbacks import OrderGuard, RiskMonitor
from didact.core.errors import DidactError

torch.set_num_threads(1)
jobs, out, model = sys.argv[1:4]
forward, train = LlamaModel.forward, Trainer.train

def recorded(self, *more, **named):
    if self.training and torch.is_grad_enabled():  # neither a generation nor a reference
        ids = named["input_ids"] if "input_ids" in named else more[0]
        steps.append([row.tolist() for row in ids])
    return forward(self, *more, **named)

def watched(self, *more, **named):
    guard = OrderGuard(Path(sys.argv[0]).parents[1], action="warn")
    if hasattr(self.args, "num_generations"):
        try:
            guard.on_train_begin(self.args, self.state, self.control, model=self.model)
        except DidactError as refused:
            refusals.append(str(refused))
    else:
        watching.append(guard)
        self.add_callback(guard)
    self.add_callback(RiskMonitor())  # Telemetry that judges
    return train(self, *more, **named)

LlamaModel.forward, Trainer.train = recorded, watched
results = {}
for name, script in json.load(open(jobs)).items():
    steps, watching, refusals, error, globals_ = [], [], [], None, {}
    sys.argv = [script, model, script + ".trained"]
    try:
        globals_ = runpy.run_path(script, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
    updates = globals_["trainer"].state.global_step if globals_ else None
    results[name] = {
        "steps": steps, "error": error, "updates": updates,
        "guards": refusals + [g.verdict for g in watching], "lost": globals_.get("lost"),
    }
json.dump(results, open(out, "w"))
"""

CALLING = {"role": "assistant", "content": ""}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


def call(i: int) -> list[dict[str, object]]:
    """A call whose arguments have another name in every other row."""
    return [{"type": "function", "function": {"name": "look", "arguments": {f"at{i % 2}": i}}}]


def rows(kind: str) -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    for i in range(N):
        # lengths differ, so that a trainer that goes by length would change the order
        question, answer = f"sample {i} asks " + "again " * (i * 7 % 11), f"answer {i} says"
        asked = [{"role": "user", "content": question}]
        said = [{"role": "assistant", "content": answer}]
        out.append(
            {
                "chat": {"messages": asked + said},
                "prompt_completion": {"prompt": question, "completion": answer},
                "alpaca": {"instruction": question, "input": "", "output": answer},
                "text": {"text": f"{question} {answer}"},
                "pair": {"prompt": asked, "chosen": said,
                         "rejected": [{"role": "assistant", "content": "bad"}]},
                "labelled": {"prompt": asked, "completion": said, "label": i % 2 == 0},
                "agent": {"messages": [*asked, CALLING | {"tool_calls": call(i)},
                                       {"role": "tool", "content": f"tool {i}"},
                                       said[0] | {"reasoning_content": f"because {i}"}],
                          "tools": TOOLS if i % 2 else None},
            }[kind]
        )  # fmt: skip
    return out


def exported(place: Path, kind: str, trainer: str, **more: object) -> tuple[Path, list[int]]:
    """A data set in a shuffled order of two epochs of some rows; the script and the order."""
    pool = make_pool(rows(kind), place, validation=2)
    free = np.flatnonzero(~pool.in_validation)[:20]
    shuffled = np.random.default_rng(1)
    order = np.concatenate([shuffled.permutation(free) for _ in range(2)])
    ordered = TrainingOrder(order, pool.fingerprint, "test", epochs=2, batch_size=BATCH)
    didact.export(pool, ordered, place / "out", trainer=trainer, **more)
    with (place / "out" / "settings" / f"{trainer}.yaml").open("a") as settings:
        settings.write("report_to: none\n")  # on a machine without a GPU, that is all it takes
    return place / "out" / "settings" / f"train_{trainer}.py", order.tolist()


def change(script: Path, before: str, after: str) -> None:
    """Change the settings beside a script."""
    (settings,) = script.parent.glob("*.yaml")
    text = settings.read_text()
    assert before in text
    settings.write_text(text.replace(before, after))


SEQUENTIAL = 'train_sampling_strategy: "sequential"'
PER_DEVICE = "per_device_train_batch_size: 4"
FEW = ("per_device_train_batch_size: 8\nshuffle_dataset: false\nnum_generations: 8",
       ("per_device_train_batch_size: 2\nshuffle_dataset: false\nnum_generations: 2\n"
        "max_completion_length: 4"))  # fmt: skip
# name → trainer, kind, settings of the export, what is changed in the trainer's settings
CASES = {
    "hf chat": ("hf", "chat", {"format": "parquet"}, None),
    "hf text": ("hf", "text", {"shards": 3}, None),
    "hf prompt_completion": ("hf", "prompt_completion", {}, None),
    "trl chat": ("trl", "chat", {}, None),
    "trl text": ("trl", "text", {"format": "jsonl.zst"}, None),
    "trl alpaca": ("trl", "alpaca", {"shards": 3}, None),
    "trl prompt_completion": ("trl", "prompt_completion", {}, None),
    "trl pair": ("trl", "pair", {}, None),
    "trl labelled": ("trl", "labelled", {}, None),
    "trl agent": ("trl", "agent", {}, None),
    "hf agent": ("hf", "agent", {"format": "parquet"}, None),
    "reward": ("trl-reward", "pair", {}, None),
    "grpo": ("trl-grpo", "chat", {}, FEW),
    "hf shuffled": ("hf", "text", {}, (SEQUENTIAL, "")),
    "trl shuffled": ("trl", "text", {}, (SEQUENTIAL, "")),
    "trl packed": ("trl", "text", {}, ("packing: false", "packing: true\nmax_length: 64")),
    "trl cut": ("trl", "labelled", {}, (SEQUENTIAL, SEQUENTIAL + "\nmax_length: 16")),
    "hf uneven": ("hf", "text", {}, (PER_DEVICE, PER_DEVICE.replace("4", "3"))),
    "hf accumulated": ("hf", "text", {}, (PER_DEVICE, PER_DEVICE.replace("4", "2"))),
}


@dataclass(frozen=True)
class Ran:
    """What came of a script.

    Attributes:
        order: The rows as they were exported.
        texts: The texts of every step, as the model got them.
        updates: Optimizer steps.
        error: The traceback, if it failed.
        script: The script.
        verdicts: What OrderGuard says, one for each training; the order is not enforced.
        lost: How many samples the script says that its trainer drops.
    """

    order: list[int]
    texts: list[list[str]]
    updates: int | None
    error: str | None
    script: Path
    verdicts: list[str]
    lost: int | None

    @property
    def numbers(self) -> list[list[int]]:
        """The numbers of the samples of every step."""
        assert self.error is None, self.error
        return [[int(t.split("sample ")[1].split()[0]) for t in step] for step in self.texts]


@pytest.fixture(scope="module")
def ran(tiny_llama, tmp_path_factory) -> dict[str, Ran]:
    """Every case, exported and run."""
    place = tmp_path_factory.mktemp("runs")
    scripts, orders = {}, {}
    for name, (trainer, kind, more, changed) in CASES.items():
        scripts[name], orders[name] = exported(place / name, kind, trainer, **more)
        if changed is not None:
            change(scripts[name], *changed)
    (place / "jobs.json").write_text(json.dumps({k: str(v) for k, v in scripts.items()}))
    (place / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "driver.py", "jobs.json", "results.json", str(tiny_llama)],
        capture_output=True, text=True, check=False, cwd=place,
        env={
            **os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hf"),
            "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    out = {}
    for name, result in json.loads((place / "results.json").read_text()).items():
        texts = [
            [tokenizer.decode(ids, skip_special_tokens=False) for ids in step]
            for step in result["steps"]
        ]
        out[name] = Ran(
            orders[name], texts, result["updates"], result["error"], scripts[name],
            result["guards"], result["lost"],
        )  # fmt: skip
    return out


def in_steps(order: list[int], size: int = BATCH) -> list[list[int]]:
    return [order[i : i + size] for i in range(0, len(order), size)]


@pytest.mark.parametrize(
    "name",
    [n for n, (_, kind, _, changed) in CASES.items() if changed is None and kind != "pair"],
)
def test_the_order_enters_the_model(ran, name):
    got = ran[name]
    assert got.numbers == in_steps(got.order)
    assert got.updates == len(got.order) // BATCH
    assert Path(f"{got.script}.trained", "model.safetensors").exists()


def test_pairs_keep_their_order(ran):
    got = ran["trl pair"]
    # every pair enters as two rows, the chosen ones first
    assert got.numbers == [step + step for step in in_steps(got.order)]
    assert all("says" in t for step in got.texts for t in step[:BATCH])
    assert all("bad" in t for step in got.texts for t in step[BATCH:])


def test_a_reward_model_sees_its_pairs_in_order(ran):
    got = ran["reward"]
    assert got.numbers == [step + step for step in in_steps(got.order)]


def test_prompts_of_grpo_keep_their_order(ran):
    got = ran["grpo"]
    made = [n for two in got.numbers for n in two]  # two answers a prompt, in any order in a step
    steps = [sorted(made[i : i + 2 * BATCH]) for i in range(0, len(made), 2 * BATCH)]
    assert steps == [sorted(step * 2) for step in in_steps(got.order)]
    assert got.updates == len(got.order) // BATCH
    assert all("answer" not in t.split("<|assistant|>")[0] for step in got.texts for t in step)


@pytest.mark.parametrize("name", ["trl agent", "hf agent"])
def test_tools_calls_and_reasoning_enter_the_model_as_the_template_writes_them(ran, name):
    got = ran[name]
    assert got.error is None, got.error
    for i, text in zip(got.order, (t for step in got.texts for t in step), strict=True):
        assert f'"arguments": {{"at{i % 2}": {i}}}' in text  # and no null of another row's name
        assert "null" not in text
        assert f"[because {i}] answer {i} says" in text
        assert text.startswith('<|system|> [{"type": "function"' if i % 2 else "<|user|> ")


@pytest.mark.parametrize("name", ["hf shuffled", "trl shuffled"])
def test_without_the_setting_the_order_is_lost(ran, name):
    got = ran[name]
    assert got.numbers != in_steps(got.order)
    assert sorted(i for step in got.numbers for i in step) == sorted(got.order)


def test_samples_that_the_trainer_drops_are_told(ran):
    got = ran["trl cut"]
    entered = {n for step in got.numbers for n in step}
    dropped = [n for n in got.order if n not in entered]
    assert 0 < got.lost == len(dropped) < len(got.order)
    assert ran["trl labelled"].lost == ran["trl packed"].lost == 0


def test_packing_would_lose_the_order(ran):
    got = ran["trl packed"]
    assert got.error is None, got.error
    found = [int(n) for step in got.texts for t in step for n in re.findall(r"sample (\d+) ", t)]
    assert found != got.order
    assert sorted(found) == sorted(got.order)


def test_a_batch_that_does_not_divide_is_refused(ran):
    assert "4 samples per step do not divide over 1 devices of 3" in (ran["hf uneven"].error or "")


def test_smaller_device_batches_are_accumulated(ran):
    got = ran["hf accumulated"]
    assert got.numbers == in_steps(got.order, 2)
    assert got.updates == len(got.order) // BATCH


def test_the_text_is_the_samples_own(ran):
    for name in ("hf chat", "trl chat"):
        step = ran[name].texts[0]
        assert all(t.startswith("<|user|> sample") and "<|assistant|> answer" in t for t in step)
    assert "answer" in ran["trl text"].texts[0][0]


JUDGED = {"hf shuffled": ["broken"], "trl shuffled": ["broken"], "trl packed": ["broken"],
          "trl cut": ["broken"], "hf uneven": []}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_guard_judges(ran, name):
    if name == "grpo":
        (refused,) = ran[name].verdicts
        assert "GRPO trains on answers that it makes" in refused
        return
    assert ran[name].verdicts == JUDGED.get(name, ["in order"])


@pytest.mark.parametrize("name", [n for n in CASES if n != "hf uneven"])
def test_telemetry_tells_every_step(ran, name):
    folder = Path(f"{ran[name].script}.trained")
    steps = read_steps(folder)
    assert [s.step for s in steps] == list(range(1, ran[name].updates + 1))
    told = json.loads((folder / "training.json").read_text())
    kinds = {
        "trl pair": "dpo",
        "trl labelled": "kto",
        "trl cut": "kto",
        "reward": "reward",
        "grpo": "grpo",
    }
    kind = kinds.get(name, "next_token")
    assert told["objective"] == kind
    assert (told["loss"] == "nats per token") == (kind == "next_token")
    assert told["flops"] == steps[-1].total_flops > 0
    assert told["tokens"] == steps[-1].total_tokens
    if kind == "next_token":
        assert all(5 < s.loss < 7 for s in steps)  # ln 400, of a model that knows nothing
    if name == "trl pair":
        assert [s.samples for s in steps] == [BATCH] * len(steps)
        assert steps[0].loss == pytest.approx(np.log(2), abs=1e-4)  # the reference is the model


@pytest.mark.parametrize("name", ["trl pair", "trl labelled"])
def test_preference_trainings_are_monitored(ran, name):
    folder = Path(f"{ran[name].script}.trained")
    (found,) = read_risk(folder)
    assert (found.seen, found.flags) == (1.0, ())
    assert found.cannot == ("loss: no previous version was given",)
    (again,) = monitor([folder])
    assert again.seen == 1.0


def test_parquet_tells_late_columns_that_json_hides_from_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    late = [{"text": f"words {i}", **({"late": i} if i > 90 else {})} for i in range(100)]
    pool = make_pool(late, tmp_path)
    order = TrainingOrder(np.arange(100), pool.fingerprint, "keep")
    for form in ("jsonl", "parquet"):
        didact.export(pool, order, tmp_path / form, format=form)
    read = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(
        datasets.exceptions.DatasetGenerationError
    ):  # its chunks are 10 MB, here 1 kB
        datasets.load_dataset(
            "json", data_files=str(tmp_path / "jsonl" / "train.jsonl"), chunksize=1000, **read
        )
    found = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "parquet" / "train.parquet"), **read
    )
    assert found["late"] == [None] * 91 + list(range(91, 100))
