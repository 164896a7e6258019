"""What a training executes beside what was foretold and what its samples would take unpadded.

    python benchmarks/training.py DATA [--against SRC] [--pairs 3] [-o RESULT]

DATA is a folder with `instruct_pool` and `text_pool`. Six settings: chats and books, small and
large steps, forward passes as on the CPU and as on an accelerator, adapters, an order by length.
With `--against`, the `src` folder of another checkout, instead: both train the same samples in turn
on one thread; tokens a second, the median of the pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import zstandard

import didact
from didact.core.scores import TrainingOrder
from didact.data import tables

RESULTS: Final = Path(__file__).resolve().parent / "results" / "training.json"
HERE: Final = Path(didact.__file__).resolve().parent.parent
PARAMS: Final = "300k"
# name → file, order, steps, settings of `didact train`
SETTINGS: Final[dict[str, tuple[str, str, int, dict[str, Any]]]] = {
    "chats, batch 32, CPU": ("instruct_pool", "shuffle", 16, {"batch_size": 32}),
    "chats, batch 8, CPU": ("instruct_pool", "shuffle", 60, {"batch_size": 8}),
    "chats, batch 32, accelerator": (
        "instruct_pool", "shuffle", 16, {"batch_size": 32, "tokens_per_batch": 8192}
    ),
    "chats, batch 8, accelerator": (
        "instruct_pool", "shuffle", 60, {"batch_size": 8, "tokens_per_batch": 8192}
    ),
    "books cut at 512, batch 16, accelerator": (
        "text_pool", "shuffle", 10,
        {"batch_size": 16, "tokens_per_batch": 8192, "max_length": 512},
    ),
    "chats by length, adapters, batch 32, accelerator": (
        "instruct_pool", "length", 100,
        {"batch_size": 32, "tokens_per_batch": 8192, "lora_rank": 8},
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        files = {name: rows(options.data, name, work) for name in ("instruct_pool", "text_pool")}
        for name, file in files.items():
            didact_("proxy", "new", work / f"proxy-{name}", "--params", PARAMS, "--pool", file,
                    "--cache-dir", work / "cache")  # fmt: skip
        if options.against is None:
            kept["executed"] = {
                name: executed(files[file], work, work / f"proxy-{file}", order, steps, more)
                for name, (file, order, steps, more) in SETTINGS.items()
            }
            print(json.dumps(kept["executed"], indent=1), flush=True)
        else:
            kept["tokens_per_second_over_before"] = {
                name: against(options.against, options.pairs, files[file], work, name)
                for name, (file, order, _, more) in SETTINGS.items()
                if order == "shuffle" and "lora_rank" not in more
            }
    kept["machine"] = {"cores": os.cpu_count(), "params": PARAMS, "threads": 1}
    options.output.write_text(json.dumps(kept, indent=1) + "\n")


def rows(data: Path, name: str, work: Path) -> Path:
    """The first 4,000 rows of a file, unpacked."""
    out = work / f"{name}.jsonl"
    with zstandard.open(data / f"{name}.jsonl.zst", "rt", encoding="utf-8") as source:
        lines = [line for _, line in zip(range(4_000), source, strict=False)]
    out.write_text("".join(lines), "utf-8")
    return out


def didact_(*words: object) -> dict[str, Any]:
    """A command, its result as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "didact.cli", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return orjson.loads(done.stdout)


def settings(more: dict[str, Any], steps: int) -> list[str]:
    given = {**more, "max_steps": steps, "learning_rate": 1e-3, "device": "cpu"}
    return [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


def executed(
    file: Path, work: Path, model: Path, order: str, steps: int, more: dict[str, Any]
) -> dict[str, float]:
    """Executed FLOPs over those foretold, at the start and by the plan, and over unpadded ones.

    A part is trained; of all 4,000 rows, what would execute is counted step by step.
    """
    from didact.accounting.flops import training_flops
    from didact.accounting.lengths import executed_steps
    from didact.models.architecture import read_spec
    from didact.models.encode import Encoding
    from didact.models.language_model import open_tokenizer
    from didact.training.samples import Samples, foretold
    from didact.training.settings import tokens_per_batch
    from didact.training.telemetry import read_steps
    from didact.verbs import estimate_training

    pool = didact.read(file, tokenizer=str(model / "tokenizer.json"), cache_dir=work / "cache")
    chosen = np.arange(len(pool))
    if order == "shuffle":
        sequence = np.random.default_rng(0).permutation(chosen)
    else:
        sequence = chosen[np.argsort(pool.n_tokens, kind="stable")]
    size = more["batch_size"]
    part = sequence[:: len(sequence) // (steps * size)][: steps * size]
    table = work / "order.parquet"
    ordered = TrainingOrder(part, pool.fingerprint, order)
    tables.write_order(ordered, pool.read(part, ["id"]).column("id"), table)
    out = work / f"m{len(list(work.iterdir()))}"
    done = didact_(
        "train", file, "--model", model, "-o", out, "--order", table,
        "--data", f"tokenizer={model / 'tokenizer.json'}", "--cache-dir", work / "cache",
        *settings(more, steps),
    )  # fmt: skip
    told = read_steps(out)
    how = Encoding(kind=pool.kind, max_length=more.get("max_length", 1024))
    samples = Samples(pool, [sequence], open_tokenizer(model), how)
    tokens = samples.tokens(sequence)
    lengths = np.where(np.isin(chosen, list(tokens.missing)), 0, tokens.lengths)
    most = more.get("tokens_per_batch", tokens_per_batch("cpu"))
    cut = [part[part > 0] for part in np.split(lengths, range(size, len(lengths), size))]
    ran = executed_steps(cut, most)
    ahead = foretold(samples, batch_size=size, steps=len(cut), tokens_per_batch=most)
    spec = read_spec(model)
    flops = training_flops(spec, ran.tokens, ran.squares)
    unpadded = training_flops(spec, int(lengths.sum()), float((lengths.astype(float) ** 2).sum()))
    found = {
        "trained_steps": len(told),
        "trained_executed_over_foretold": done["flops"] / done["foretold_flops"],
        "trained_executed_tokens_over_tokens": sum(s.executed or 0 for s in told) / done["tokens"],
        "steps": len(cut),
        "executed_over_foretold": flops / training_flops(spec, ahead.tokens, ahead.squares),
        "executed_over_unpadded": flops / unpadded,
    }
    if order == "shuffle":
        plan = estimate_training(pool, model, {**more, "device": "cpu"}, samples=len(sequence))
        found["executed_over_plan"] = flops / plan.flops
    return {name: round(value, 4) for name, value in found.items()}


# Both checkouts train in a process of their own; timed from the end of the first step.
DRIVER: Final = """
import json, sys, time
import numpy as np, didact, torch
from didact.training import causal
try:
    from didact.training.settings import TrainSettings
except ImportError:
    from didact.training.causal import TrainSettings
torch.set_num_threads(1)
file, model, out, cache, given = sys.argv[1:]
pool = didact.read(file, cache_dir=cache)
rows = np.random.default_rng(0).permutation(len(pool))
ends = []
settings = TrainSettings(**json.loads(given))
done = causal.train(
    pool, rows, model, out, settings, progress=lambda _: ends.append(time.perf_counter())
)
print(json.dumps(sum(s.tokens for s in done.steps[1:]) / (ends[-1] - ends[0])))
"""


def against(src: Path, pairs: int, file: Path, work: Path, name: str) -> dict[str, Any]:
    """Tokens a second over those of another checkout, the same samples in turn."""
    which, _, steps, more = SETTINGS[name]
    given = {**more, "max_steps": max(8, steps // 4), "device": "cpu"}
    ratios = []
    for pair in range(pairs):
        rates = {}
        for place in (src, HERE) if pair % 2 else (HERE, src):
            out = work / f"m{len(list(work.iterdir()))}"
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(place)}
            arguments = [file, work / f"proxy-{which}", out, work / f"cache-{place == src}",
                         json.dumps(given)]  # fmt: skip
            command = [sys.executable, "-c", DRIVER, *map(str, arguments)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            rates[place] = float(done.stdout)
        ratios.append(rates[HERE] / rates[src])
    print(name, ratios, flush=True)
    return {"median": round(statistics.median(ratios), 3), "pairs": [round(r, 3) for r in ratios]}


if __name__ == "__main__":
    main()
