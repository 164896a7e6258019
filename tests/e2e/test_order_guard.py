"""OrderGuard and Telemetry in real trainers: saboteurs are caught, honest runs are not accused.

All trainings of one process run in one driver, because importing the trainers takes most of the
time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import didact
from didact.core.scores import TrainingOrder
from didact.testing import make_pool
from didact.training.telemetry import read_steps

pytestmark = pytest.mark.trainers

BATCH = 4

DRIVER = """
import json, logging, os, sys, traceback
from pathlib import Path
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
    DataCollatorWithFlattening, Trainer, TrainerCallback, TrainingArguments,
)
from trl import SFTConfig, SFTTrainer
from didact.callbacks import OrderGuard, Telemetry

torch.set_num_threads(1)
OUT, MODEL, RESULTS, OTHER, WORK = sys.argv[1:6]
TRAIN = next(Path(OUT).glob("train*.jsonl"))
tokenizer = AutoTokenizer.from_pretrained(MODEL)
tokenizer.pad_token = tokenizer.eos_token
rows = [json.loads(line) for line in open(TRAIN)]
everything = Dataset.from_list([{"messages": r["messages"]} for r in rows])

class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 5:
            control.should_training_stop = True

class Swapping:
    def __init__(self, collator, dataset):
        self.collator, self.dataset, self.calls = collator, dataset, 0
    def __call__(self, examples):
        self.calls += 1
        examples = list(examples)
        if self.calls == 2:
            examples[-1] = self.dataset[8]
        if self.calls == 3:
            examples[0] = self.dataset[7]
        return self.collator(examples)

def settings(name, more):
    return {
        "output_dir": f"{WORK}/{name}", "per_device_train_batch_size": 4, "num_train_epochs": 1,
        "train_sampling_strategy": "sequential", "use_cpu": True, "bf16": False,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 500,
        "learning_rate": 1e-4, **more,
    }

def sft(name, dataset=everything, swap=False, order=OUT, resume=None, also=(), action="fail",
        peft=None, batch_size=None, **more):
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    trainer = SFTTrainer(
        model=model, args=SFTConfig(**settings(name, {"max_length": 256, **more})),
        train_dataset=dataset, processing_class=tokenizer, peft_config=peft,
    )
    if swap:
        trainer.data_collator = Swapping(trainer.data_collator, trainer.train_dataset)
    guard = OrderGuard(order, action=action, batch_size=batch_size)
    for callback in (guard, Telemetry(), *also):
        trainer.add_callback(callback)
    return guard, trainer, lambda: trainer.train(resume_from_checkpoint=resume)

def flattened(name):
    def tokenize(row):
        ids = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        return {"input_ids": tokenizer(ids, truncation=True, max_length=250)["input_ids"]}
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL),
        args=TrainingArguments(**settings(name, {})),
        train_dataset=everything.map(tokenize, remove_columns=["messages"]),
        data_collator=DataCollatorWithFlattening(),
    )
    guard = OrderGuard(OUT, tokenizer)
    trainer.add_callback(guard)
    return guard, trainer, trainer.train

def part(*ranges):
    return everything.select([i for r in ranges for i in r])

def lora():
    from peft import LoraConfig
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")

N = len(everything)
JOBS = {
    "honest": lambda n: sft(n),
    "honest accumulated": lambda n: sft(n, per_device_train_batch_size=2, gradient_accumulation_steps=2),
    "honest lora": lambda n: sft(n, peft=lora()),
    "honest recomputed": lambda n: sft(n, gradient_checkpointing=False),
    "honest cut": lambda n: sft(n, max_length=48),
    "honest flattened": flattened,
    "honest short run": lambda n: sft(n, max_steps=3),
    "stopped": lambda n: sft(n, also=[Stop()], save_strategy="steps", save_steps=3),
    "honest resume": lambda n: sft(n, resume=f"{WORK}/stopped/checkpoint-3"),
    "shuffled beforehand": lambda n: sft(n, everything.shuffle(seed=3)),
    "swapped": lambda n: sft(n, swap=True),
    "packed": lambda n: sft(n, packing=True, max_length=200, packing_strategy="bfd"),
    "wrong resume": lambda n: sft(n, resume=f"{WORK}/stopped/checkpoint-3", ignore_data_skip=True),
    "dropped batch": lambda n: sft(n, part(range(8), range(12, N))),
    "dropped at the end": lambda n: sft(n, part(range(N - 4))),
    "twice": lambda n: sft(n, num_train_epochs=2),
    "other batch size": lambda n: sft(n, per_device_train_batch_size=2),
    "another order": lambda n: sft(n, order=OTHER),
    "warned": lambda n: sft(n, everything.shuffle(seed=3), action="warn"),
}
results = {}
for name, job in JOBS.items():
    error, kind, guard = "", "", None
    try:
        guard, trainer, train = job(name)
        train()
    except Exception as raised:
        error, kind = str(raised), type(raised).__name__
        if kind != "OrderBrokenError":
            error = traceback.format_exc()
    results[name] = {
        "verdict": guard and guard.verdict, "error": error, "kind": kind,
        "steps": trainer.state.global_step, "logged": [x for x in trainer.state.log_history if "loss" in x],
    }
json.dump(results, open(RESULTS, "w"))
"""

RANKS = """
import json, os, sys
exec(open(sys.argv[6]).read().split("N = len(everything)")[0])
import torch.distributed
results = {}
for name, job in {
    "two ranks": lambda n: sft(n, per_device_train_batch_size=2, ddp_backend="gloo"),
    "two ranks shuffled": lambda n: sft(n, everything.shuffle(seed=3), per_device_train_batch_size=2, ddp_backend="gloo"),
}.items():
    kind = ""
    try:
        guard, trainer, train = job(name)
        train()
    except Exception as raised:
        kind = f"{type(raised).__name__}: {raised}"
    results[name] = [guard.verdict, kind]
json.dump(results, open(f"{RESULTS}.{os.environ['RANK']}", "w"))
torch.distributed.barrier()
os._exit(0)  # ending gloo's threads aborts now and then
"""


def rows() -> list[dict[str, object]]:
    """Chats in many scripts, near copies, short ones, long ones, copies, several turns."""
    long = "the quick brown fox jumps over the lazy dog and the story goes on for a while "
    pairs = [
        ("كم عدد أيام السنة الكبيسة؟", "في السنة الكبيسة ثلاثمئة وستة وستون يوما."),
        ("一年有多少天？请用一句话回答。", "平年有三百六十五天，闰年有三百六十六天。"),
        ("หนึ่งปีมีกี่วัน", "หนึ่งปีมีสามร้อยหกสิบห้าวัน"),
        ("Сколько дней в високосном году?", "В високосном году триста шестьдесят шесть дней."),
        ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)", "It is the Fibonacci sequence.\n```\n0 1 1 2 3 5\n```"),
        ("一", "二"), ("yes?", "no"), ("no?", "no"), ("ok", ""),
        (long * 6 + "A", "first " + long), (long * 6 + "B", "second " + long),
        ("name a city in the north of the country", "the city of Alpha lies in the north of the country"),
        ("name a city in the north of the country", "the city of Omega lies in the north of the country"),
        ("name a city in the north of the country", "none"),
    ]  # fmt: skip
    chats = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs
    ]
    chats += [
        [
            *chats[0],
            {"role": "user", "content": "وكم ساعة؟"},
            {"role": "assistant", "content": "كثيرة"},
        ],
        [{"role": "system", "content": "be brief and kind to everybody who asks"}, *chats[3]],
    ]
    chats += [
        [
            {"role": "user", "content": f"please add the numbers {i} and {i * i} for me"},
            {"role": "assistant", "content": f"the sum of {i} and {i * i} is {i + i * i}"},
        ]
        for i in range(21)
    ]
    chats.append(chats[20])  # a copy
    return [{"id": f"r{i}", "messages": chat} for i, chat in enumerate(chats)]


@dataclass(frozen=True)
class Guarded:
    results: dict[str, dict]
    work: Path
    out: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("datasets")
    pytest.importorskip("trl")
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def exported(place):
    """All rows, shuffled, of a batch size that does not divide them."""
    pool = make_pool(rows(), place, dedup="none")
    order = np.random.default_rng(5).permutation(len(pool))
    assert len(order) % BATCH == 2
    for name, sequence in (("out", order), ("other", order[:8])):
        ordered = TrainingOrder(sequence, pool.fingerprint, "test", batch_size=BATCH)
        didact.export(pool, ordered, place / name, trainer="trl")
        from didact.data import tables

        ids = pool.read(ordered.rows, ["id"]).column("id")
        tables.write_order(ordered, ids, place / name / "order.parquet")
    other = [
        {
            "messages": [
                {"role": "user", "content": f"{i}" * 30},
                {"role": "assistant", "content": "x" * i},
            ]
        }
        for i in range(8)
    ]
    (place / "other" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in other))
    return place / "out"


def environment(place):
    return {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hf"),
        "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@pytest.fixture(scope="module")
def ran(place, exported, tiny_model) -> Guarded:
    (place / "driver.py").write_text(DRIVER)
    words = ["driver.py", exported, tiny_model, "results.json", place / "other", place / "work"]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, check=False, cwd=place, env=environment(place),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Guarded(json.loads((place / "results.json").read_text()), place / "work", exported)


HONEST = [
    "honest", "honest accumulated", "honest lora", "honest recomputed", "honest cut",
    "honest flattened", "honest short run", "stopped", "honest resume",
]  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_run_is_not_accused(ran, name):
    got = ran.results[name]
    assert (got["verdict"], got["error"]) == ("in order", "")


@pytest.mark.parametrize(
    ("name", "step", "why"),
    [
        ("shuffled beforehand", 1, "shuffles"),
        ("swapped", 2, ""),
        ("packed", 1, "packing: false"),
        ("wrong resume", 4, "ignore_data_skip: false"),
        ("dropped batch", 3, "a batch was left out"),
        ("twice", 11, "num_train_epochs must be 1"),
        ("other batch size", 1, "must be 4"),
    ],
)
def test_a_saboteur_is_caught_at_its_first_step(ran, name, step, why):
    got = ran.results[name]
    assert (got["kind"], got["verdict"]) == ("OrderBrokenError", "broken")
    assert got["error"].startswith(f"step {step} did not read what the order")
    assert why in got["error"]
    assert got["steps"] == step - 1  # before the model learns from it
    assert json.loads((ran.work / name / "order.json").read_text())["wrong_step"] == step


def test_rows_that_never_come_are_missed(ran):
    got = ran.results["dropped at the end"]
    assert (got["kind"], got["verdict"]) == ("OrderBrokenError", "broken")
    # the last step but one has two of the four rows that the order has for it
    assert "step 9" in got["error"] or "its last" in got["error"]


def test_another_order_cannot_be_verified(ran):
    assert (ran.results["another order"]["verdict"], ran.results["another order"]["error"]) == (
        "cannot tell", "",
    )  # fmt: skip
    said = json.loads((ran.work / "another order" / "order.json").read_text())["said"]
    assert "0 of 4 sequences are rows of" in said


def test_a_warning_lets_the_run_go_on(ran):
    got = ran.results["warned"]
    assert (got["verdict"], got["error"], got["steps"]) == ("broken", "", 10)


def test_the_log_says_what_was_read(ran):
    from didact.callbacks.order_log import verify_order

    for name, verdict in (("honest", "in order"), ("warned", "broken"), ("stopped", "cannot tell")):
        assert verify_order(ran.work / name / "order_log.jsonl", ran.out).verdict == verdict


def test_every_step_is_told_whatever_is_logged(ran):
    steps = read_steps(ran.work / "honest")
    assert [s.step for s in steps] == list(range(1, 11))
    mean = np.mean([s.loss for s in steps])
    (logged,) = ran.results["honest accumulated"]["logged"] or [{"loss": mean}]
    assert logged["loss"] == pytest.approx(mean, rel=1e-4)
    told = json.loads((ran.work / "honest" / "training.json").read_text())
    assert told["finished"]
    assert told["objective"] == "next_token"
    assert told["tokens"] == steps[-1].total_tokens == sum(s.tokens for s in steps)
    assert all(s.grad_norm > 0 and s.learning_rate > 0 and s.learnt > 0 for s in steps)


def test_micro_batches_are_the_same_step(ran):
    one, two = (read_steps(ran.work / n) for n in ("honest", "honest accumulated"))
    for a, b in zip(one, two, strict=True):
        assert (a.tokens, a.samples, a.learnt) == (b.tokens, b.samples, b.learnt)
        assert b.executed <= a.executed
        assert b.loss == pytest.approx(a.loss, rel=1e-4)


def test_recomputed_activations_and_adapters_cost_what_they_cost(ran):
    plain, again, lora = (
        read_steps(ran.work / n)[-1].total_flops
        for n in ("honest recomputed", "honest", "honest lora")
    )
    assert 1.2 < again / plain < 4 / 3  # the head is not computed again
    assert lora < again


def test_telemetry_goes_on_after_a_checkpoint(ran):
    whole = read_steps(ran.work / "honest")
    stopped = read_steps(ran.work / "stopped")
    assert [s.step for s in stopped] == [1, 2, 3, 4, 5]
    resumed = read_steps(ran.work / "honest resume")  # another folder: nothing before step 4
    assert [s.step for s in resumed] == list(range(4, 11))
    assert resumed[0].loss == pytest.approx(whole[3].loss, rel=1e-4)
    assert json.loads((ran.work / "honest resume" / "training.json").read_text())["notes"]


def test_two_processes_keep_the_order_and_both_stop_when_it_breaks(place, exported, tiny_model):
    (place / "driver.py").write_text(DRIVER)
    (place / "ranks.py").write_text(RANKS)
    words = [
        "ranks.py",
        exported,
        tiny_model,
        "ranks.json",
        place / "other",
        place / "ranks",
        "driver.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
         "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=place, env=environment(place), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((place / f"ranks.json.{r}").read_text()) for r in (0, 1)]
    assert ranks[0]["two ranks"] == ["in order", ""]
    assert ranks[1]["two ranks"][1] == ""
    for rank in ranks:
        assert rank["two ranks shuffled"][0] == "broken"
        assert rank["two ranks shuffled"][1].startswith("OrderBrokenError: step 1 did not read")
    steps = read_steps(place / "ranks" / "two ranks")
    assert [s.samples for s in steps] == [4] * 10
