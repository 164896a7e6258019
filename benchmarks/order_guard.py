"""What OrderGuard costs beside a training step, and what its index takes.

    python benchmarks/order_guard.py POOL.jsonl.zst [--steps 10 --rows 400 --tests]

A Llama of 15M parameters with a tokenizer of 16k, steps of 8 rows of 512 tokens in TRL's SFTTrainer
on the CPU, one thread. The share is what the guard measures inside: its own CPU seconds of those of
the steps. Hits and false alarms are those of the test suite's trainings: 14 exported scripts and
the saboteurs, run with `--tests`. Results go to benchmarks/results/order_guard.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "order_guard.json"
TESTS = Path(__file__).resolve().parents[1] / "tests" / "e2e"
LENGTH, BATCH = 512, 8
EOS, PAD = "<eos>", "<pad>"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


def exported(pool_file: Path, work: Path, n: int) -> Path:
    """The longest rows of a pool in a random order, exported for steps of 8."""
    import didact
    from didact.core.scores import TrainingOrder

    pool = didact.read(pool_file, cache_dir=work / "cache")
    longest = np.argsort(-pool.n_bytes, kind="stable")[:n]  # so that steps are of 8 × 512 tokens
    rows = np.random.default_rng(0).permutation(longest)
    order = TrainingOrder(rows, pool.fingerprint, "random", batch_size=BATCH)
    didact.export(pool, order, work / "out", trainer="trl")
    return work / "out"


def model_of(work: Path, out: Path) -> Path:
    """A random Llama of 15M parameters, and a tokenizer trained on the rows."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    with (out / "train.jsonl").open(encoding="utf-8") as lines:
        texts = list(itertools.islice(lines, 4000))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=16384, special_tokens=[EOS, PAD], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    folder = work / "model"
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD
    )
    fast.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<eos>\n{% endfor %}"
    )
    fast.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(fast), hidden_size=320, intermediate_size=864, num_hidden_layers=8,
        num_attention_heads=5, num_key_value_heads=5, max_position_embeddings=LENGTH,
        tie_word_embeddings=True, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def overhead(out: Path, model: Path, work: Path, steps: int) -> dict[str, float]:
    """The guard's own account of some steps."""
    import torch
    import transformers
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from didact.callbacks import OrderGuard, Telemetry

    torch.set_num_threads(1)
    with (out / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    net = transformers.AutoModelForCausalLM.from_pretrained(model)
    trainer = SFTTrainer(
        model=net,
        args=SFTConfig(
            output_dir=str(work / "trained"), per_device_train_batch_size=BATCH, max_steps=steps,
            train_sampling_strategy="sequential", max_length=LENGTH, use_cpu=True, bf16=False,
            report_to="none", save_strategy="no", gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"messages": r["messages"]} for r in rows]),
        processing_class=tokenizer,
    )  # fmt: skip
    guard, telemetry = OrderGuard(out), Telemetry()
    for callback in (guard, telemetry):
        trainer.add_callback(callback)
    trainer.train()
    assert guard.verdict == "in order", guard.verdict
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": steps,
        "tokens_a_step": telemetry.totals[0] // steps,
        "step_cpu_seconds": round(guard.step_seconds / steps, 4),
        "guard_cpu_seconds_a_step": round(guard.seconds / steps, 6),
        "share": round(guard.share, 6),
    }


def kernel() -> dict[str, float]:
    """Recognizing 8 × 512 tokens that stand for rows with text of their own, alone."""
    from didact.callbacks.recognition import recognize
    from didact.callbacks.row_index import build_index
    from didact.callbacks.units import CHARACTERS

    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, 0x4E00 + rng.integers(0, 9000, LENGTH))) for _ in range(20_000)]
    began = time.process_time()
    index = build_index(([(0, "user", text, 1.0)] for text in texts), CHARACTERS)
    built = time.process_time() - began
    steps = [CHARACTERS.encode(texts[i : i + BATCH]) for i in range(0, 800, BATCH)]
    recognize(index, steps[0])
    began = time.process_time()
    for step in steps:
        recognize(index, step)
    taken = (time.process_time() - began) / len(steps)
    arrays = (
        index.row, index.first, index.owner, index.unique.hashes, index.texts.turn_ends,
        index.texts.row_ends, index.texts.learnt, index.texts.branch,
    )  # fmt: skip
    return {
        "rows": len(texts),
        "index_cpu_seconds_without_tokenizing": round(built, 3),
        "index_bytes_a_row": round(sum(a.nbytes for a in arrays) / len(texts), 1),
        "milliseconds_for_8_x_512": round(1e3 * taken, 3),
    }


def table() -> dict[str, object]:
    """Verdicts of the test suite's trainings: a test passes where the verdict is the right one."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", TESTS / "test_trainers.py",
         TESTS / "test_order_guard.py", "-p", "no:cacheprovider"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(
        r"::(test_the_guard_judges|test_an_honest_run\w+|test_a_saboteur\w+"
        r"|test_rows_that_never_come\w+|test_two_processes\w+)(?:\[([^\]]*)\])? (PASSED|FAILED)",
        done.stdout,
    )
    rows = []
    for test, case, state in found:
        honest = test.startswith("test_an_honest")
        if test == "test_the_guard_judges":
            honest = not case.endswith(("shuffled", "packed"))
        expected = "in order" if honest else "broken"
        if case == "hf uneven":
            expected = "refused by the script before a step"
        elif test.startswith("test_two"):
            expected = "in order, and broken where shuffled"
        rows.append(
            {
                "case": case or test.removeprefix("test_").replace("_", " "),
                "expected": expected,
                "right": state == "PASSED",
            }
        )
    in_order = [r["right"] for r in rows if r["expected"] == "in order"]
    broken = [r["right"] for r in rows if r["expected"] == "broken"]
    return {
        "broken": len(broken), "hits": sum(broken), "in_order": len(in_order),
        "false_alarms": len(in_order) - sum(in_order), "cases": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--tests", action="store_true")
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        out = exported(told.pool, work, told.rows)
        model = model_of(work, out)
        result = {
            "machine": machine(),
            "overhead": overhead(out, model, work, told.steps),
            "kernel": kernel(),
            "judged": table() if told.tests else earlier.get("judged", {}),
        }
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
