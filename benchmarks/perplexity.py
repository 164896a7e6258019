"""How much of a machine's matrix throughput the perplexity pass reaches, beside two plain loops.

    python benchmarks/perplexity.py POOL.jsonl[.zst] [--sizes 3M 25M] [--device cpu] [--repeats 5]

Models are random Llamas with a byte-level BPE of the pool's texts. Every repetition times, in turn
and in one process with the same threads: a square matrix product (the peak), the scorer, a loop of
one sample after another, and batches of 8 in the pool's order padded to the longest. All include
tokenization. Ratios are of neighbours; results, medians, go to benchmarks/results/perplexity.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers

import didact
from didact._version import __version__
from didact.accounting.flops import forward_flops
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.execution.executors import serial
from didact.models.language_model import LanguageModel
from didact.scoring.perplexity import Perplexity

RESULTS = Path(__file__).resolve().parent / "results" / "perplexity.json"
VOCAB = 4096
# hidden, intermediate, layers, heads; rows that are read, so that a pass takes seconds on two cores
SIZES = {
    "3M": (192, 512, 5, 6, 128),
    "25M": (512, 1376, 7, 8, 32),
    "160M": (768, 3072, 16, 12, 4096),
}
FIXED = 8
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"


def save_model(folder: Path, size: str, texts: list[str]) -> Path:
    """A random Llama and a BPE of the texts."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<s>")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, **special)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    hidden, intermediate, layers, heads, _ = SIZES[size]
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=hidden, intermediate_size=intermediate,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def timed(function: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of a call, its work on the device included, and its result."""
    began = time.perf_counter()
    result = function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def peak(device: str, dtype: torch.dtype) -> float:
    """FLOPs a second of one large square product."""
    n = 2048 if device == "cpu" else 8192
    times = 2 if device == "cpu" else 20
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    torch.mm(a, b)
    seconds, _ = timed(lambda: [torch.mm(a, b) for _ in range(times)], device)
    return times * 2 * n**3 / seconds


def plain(model: LanguageModel, chats: list[list[dict[str, str]]], size: int) -> tuple[int, int]:
    """A loop over batches in the given order; tokens with and without padding."""
    padded = real = 0
    for at in range(0, len(chats), size):
        batch = model.tokenizer.apply_chat_template(
            chats[at : at + size], tokenize=True, padding=True, truncation=True,
            max_length=model.context, return_tensors="pt", return_dict=True,
        ).to(model.device)  # fmt: skip
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        with torch.inference_mode():
            logits = model.module(**batch, use_cache=False).logits[:, :-1].float()
            nll = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), labels[:, 1:].flatten(), reduction="none"
            )
            nll.view(len(labels), -1).sum(1).div((labels[:, 1:] >= 0).sum(1)).exp().cpu()
        padded += labels.numel()
        real += int(batch["attention_mask"].sum())
    return padded, real


def measure(size: str, pool: Pool, folder: Path, device: str, repeats: int) -> dict[str, Any]:
    rows = np.random.default_rng(0).permutation(len(pool))[: SIZES[size][-1]]
    turns = pool.read(rows, ["turns"])
    chats = [
        [{"role": turn["role"], "content": turn["content"]} for turn in sample]
        for sample in turns.column("turns").to_pylist()
    ]
    texts = [turn["content"] for sample in chats for turn in sample]
    path = save_model(folder / size, size, texts)
    ctx = Context(executor=serial(), seed=0, cache_dir=folder)
    scorer = Perplexity(model=str(path), device="cpu" if device == "cpu" else "cuda", loss="all")
    fitted = scorer.fit(pool, None, ctx)
    judge = scorer.judging_model(pool, scorer.where)
    found: dict[str, list[float]] = {}
    with fitted.open(0, device) as score, judge.open(device) as model:
        dtype = model.module.dtype
        score(turns)
        plain(model, chats[:FIXED], FIXED)
        lengths = tokens_of(model, chats)  # what one sample after another executes: no padding
        useful = forward_flops(model.spec, int(lengths.sum()), float((lengths**2).sum()))
        for _ in range(repeats):
            most = peak(device, dtype)
            seconds, scored = timed(lambda: score(turns), device)
            alone, (_, real) = timed(lambda: plain(model, chats, 1), device)
            fixed, (padded, _) = timed(lambda: plain(model, chats, FIXED), device)
            cost = scored.cost
            for name, value in {
                "peak_gflops_per_second": most / 1e9,
                "seconds": seconds,
                "tokens_per_second": cost.tokens / seconds,
                "share_of_peak": cost.flops / seconds / most,
                "share_of_peak_without_padding": useful / seconds / most,
                "padding_share_of_flops": 1 - useful / cost.flops,
                "batch_1_seconds": alone,
                "batch_1_share_of_peak": useful / alone / most,
                "times_as_fast_as_batch_1": alone / seconds,
                "batch_8_seconds": fixed,
                "batch_8_share_of_peak_without_padding": useful / fixed / most,
                "batch_8_padding_share_of_tokens": 1 - real / padded,
                "times_as_fast_as_batch_8": fixed / seconds,
            }.items():
                found.setdefault(name, []).append(value)
            last = {name: f"{values[-1]:.3g}" for name, values in found.items()}
            print(size, json.dumps(last), flush=True)
    medians = {name: float(f"{statistics.median(values):.4g}") for name, values in found.items()}
    about = {"model": size, "params": model.spec.n_total, "dtype": str(dtype).split(".")[1]}
    return {**about, "rows": len(rows), "tokens": cost.tokens, **medians}


def tokens_of(model: LanguageModel, chats: list[list[dict[str, str]]]) -> np.ndarray:
    ids = model.tokenizer.apply_chat_template(
        chats, tokenize=True, truncation=True, max_length=model.context, return_dict=True
    )["input_ids"]
    return np.asarray([len(i) for i in ids], np.float64)


def machine(device: str) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "didact": __version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["3M", "25M"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="didact-bench-") as name:
        folder = Path(name)
        pool = didact.read(arguments.pool, cache_dir=folder / "cache")
        runs = [
            measure(size, pool, folder, arguments.device, arguments.repeats)
            for size in arguments.sizes
        ]
    result = {
        "machine": machine(arguments.device), "pool": arguments.pool.name,
        "repeats": arguments.repeats, "runs": runs,
    }  # fmt: skip
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(runs, indent=1))
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
