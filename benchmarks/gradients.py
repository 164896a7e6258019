"""Per-sample gradient products beside other ways to the same numbers, on one machine.

python benchmarks/gradients.py MODEL POOL [--samples 48] [--repeats 3] [--threads 1] [--device cpu]
    [--lengths 1 1024] [--arms products,loop] [--name "3M"]

Every arm runs in a process of its own over the same samples, `--passes` times, and reports the
seconds of the fastest pass and the peak memory of that process beyond what it held with the model
loaded. Arms take turns, repeat by repeat. The result is recorded under its name.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "gradients.json"
RELEASED_LENGTH, RELEASED_BATCH = 1024, 8
DRAWN = 1500  # rows of which samples of the wanted lengths are taken
TASKS = 4  # directions of the LESS pass

ARMS = {
    "plain": "batched forward and backward, all parameters",
    "products": "didact: one direction and the norms of every sample",
    "dots": "didact: one direction, no norms",
    "loop": "forward and backward of one sample after another, one direction and the norms",
    "vmap": "vmap(grad), gradients concatenated, same batches and attention",
    "released": "vmap(grad), float32, eager, padded to 1,024, batches of 8",
    "released padding": "didact on batches of 8 padded to 1,024, eager",
    "less plain": "batched forward and backward, adapters only, base frozen",
    "less": "didact: Adam's step of every sample, norms, 4 directions",
    "less loop": "the same, forward and backward of one sample after another",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pool")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lengths", type=int, nargs=2, default=[1, RELEASED_LENGTH])
    parser.add_argument("--attention", default="eager", help="of the arms with all parameters")
    parser.add_argument("--name", default="3M")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(measure(options)))
        return
    runs: dict[str, list[dict[str, float]]] = {}
    for repeat in range(options.repeats):
        for arm in options.arms.split(","):
            command = [sys.executable, *sys.argv, "--arm", arm]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            if found.returncode:
                sys.exit(f"{arm}: {found.stderr[-2000:]}")
            runs.setdefault(arm, []).append(json.loads(found.stdout.splitlines()[-1]))
            print(repeat, arm, runs[arm][-1], file=sys.stderr)
    result = summary(runs, options)
    print(json.dumps(result, indent=1))
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    options.output.write_text(json.dumps(kept | {options.name: result}, indent=1) + "\n")


def summary(runs: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> dict:
    """Medians, and ratios paired within a repeat."""

    def ratio(a: str, b: str, what: str = "seconds") -> float | None:
        if a not in runs or b not in runs:
            return None
        pairs = [x[what] / y[what] for x, y in zip(runs[a], runs[b], strict=True)]
        return round(statistics.median(pairs), 3)

    def beyond_plain(arm: str) -> float | None:
        if arm not in runs or "plain" not in runs:
            return None
        pairs = zip(runs[arm], runs["plain"], strict=True)
        return statistics.median(a["peak_mib"] - p["peak_mib"] for a, p in pairs)

    from importlib.metadata import version

    medians = {
        arm: {k: round(statistics.median(r[k] for r in of), 4) for k in of[0]}
        for arm, of in runs.items()
    }
    result = {
        "settings": {
            k: v for k, v in vars(options).items() if k not in {"arm", "output", "arms", "name"}
        }
        | {"model": Path(options.model).name, "pool": Path(options.pool).name},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "arms": {arm: {"what": ARMS[arm], **medians[arm]} for arm in runs},
        "ratios": {
            "products / plain": ratio("products", "plain"),
            "loop / products": ratio("loop", "products"),
            "vmap / products": ratio("vmap", "products"),
            "MiB beyond plain: products, vmap": [beyond_plain("products"), beyond_plain("vmap")],
            "released / products": ratio("released", "products"),
            "of which padding (all of these arms are eager)": ratio("released padding", "products"),
            "less / less plain": ratio("less", "less plain"),
            "less loop / less": ratio("less loop", "less"),
        },
    }
    ratios = {name: r for name, r in result["ratios"].items() if r not in (None, [None, None])}
    return result | {"ratios": ratios}


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One arm, in this process."""
    import numpy as np
    import torch

    import didact
    from didact.accounting.lengths import micro_batches
    from didact.models.batches import collate
    from didact.models.encode import Encoding, encode
    from didact.models.language_model import open_model

    torch.set_num_threads(options.threads)
    alone = options.arm.endswith("loop")
    pool = didact.read(options.pool)
    dtype = "float32" if options.arm.startswith("released") else options.dtype
    attention = None if options.arm.startswith("less") else options.attention
    with open_model(
        Path(options.model), device=options.device, dtype=dtype, attention=attention
    ) as model:
        rows = np.random.default_rng(0).permutation(len(pool))[:DRAWN]
        how = Encoding(kind=pool.kind, max_length=min(model.context, RELEASED_LENGTH))
        tokens = encode(pool.read(rows, ["turns"]).column("turns"), model.tokenizer, how)
        least, most = options.lengths
        lengths = tokens.lengths[tokens.scored]
        chosen = tokens.scored[(lengths >= least) & (lengths <= most)][: options.samples]
        groups = list(micro_batches(tokens.lengths, chosen, options.tokens_per_batch))
        if options.arm.startswith("released") or alone:
            size = 1 if alone else RELEASED_BATCH
            groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        batches = [
            collate(tokens, group, pad_id=model.pad_id, device=model.device) for group in groups
        ]
        if options.arm.startswith("released"):
            batches = [padded(batch) for batch in batches]
        step = prepared(options, model)
        step(batches[-1])  # the smallest, so that what is built once is built
        held = peak(options, reset=True)
        synchronise(options)
        # On one core of a shared machine, processor time says more than the clock on the wall.
        one_core = options.device == "cpu" and options.threads == 1
        clock = time.process_time if one_core else time.perf_counter
        seconds = []
        for _ in range(options.passes):
            began = clock()
            for batch in batches:
                step(batch)
            synchronise(options)
            seconds.append(clock() - began)
        return {
            "seconds": min(seconds),
            "peak_mib": peak(options) - held,
            "tokens": int(tokens.lengths[chosen].sum()),
            "padded_tokens": sum(b.input_ids.numel() for b in batches),
        }


def prepared(options: argparse.Namespace, model):
    """The function of a batch that an arm repeats."""
    import torch

    module = adapted(options, model.module) if options.arm.startswith("less") else model.module
    chosen = {n: p for n, p in module.named_parameters() if p.requires_grad}
    torch.manual_seed(0)
    n_directions = TASKS if options.arm.startswith("less") else 1
    directions = {n: torch.randn((n_directions, *p.shape)).to(p) for n, p in chosen.items()}
    if options.arm.endswith("plain"):
        return plain(module, chosen)
    if options.arm.endswith("loop"):
        return loop(module, chosen, directions, adam(options, model, chosen))
    if options.arm in {"vmap", "released"}:
        return vmapped(module, chosen, directions)
    return ours(options, model, module, chosen, directions)


def adapted(options: argparse.Namespace, module):
    """Adapters on attention, B not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    config = LoraConfig(r=options.rank, lora_alpha=4 * options.rank, target_modules=names)
    module = get_peft_model(module, config).eval()
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return module


def plain(module, chosen):
    from didact.models.losses import causal_losses

    def step(batch):
        causal_losses(module, batch).sum().backward()
        for parameter in chosen.values():
            parameter.grad = None

    return step


def vmapped(module, chosen, directions):
    """Per-sample gradients as the released code has them, in one vector each."""
    import torch
    from torch import func

    flat = torch.cat([d.flatten() for d in directions.values()])

    def loss(parameters, ids, mask, positions, weights):
        logits = func.functional_call(
            module, parameters, (ids[None],),
            {"attention_mask": mask[None], "position_ids": positions[None], "use_cache": False},
        ).logits[0, :-1]  # fmt: skip
        nll = torch.nn.functional.cross_entropy(logits.float(), ids[1:], reduction="none")
        return (nll * weights[1:]).sum() / weights.sum()

    each = func.vmap(func.grad(loss), in_dims=(None, 0, 0, 0, 0))
    detached = {n: p.detach() for n, p in chosen.items()}

    def step(batch):
        parts = (batch.input_ids, batch.attention_mask, batch.position_ids, batch.weights)
        gradients = each(detached, *parts)
        whole = torch.cat([gradients[n].flatten(1) for n in chosen], dim=1)
        return whole @ flat, whole.norm(dim=1)

    return step


def adam(options: argparse.Namespace, model, chosen):
    """Adam's step on a gradient, for the arms of LESS."""
    import torch

    from didact.gradients.influence import Moments, StepRule, adam_step

    if not options.arm.startswith("less"):
        return None
    values = {n: (torch.randn_like(p) * 1e-3, torch.rand_like(p) * 1e-6) for n, p in chosen.items()}
    moments = Moments(values=values, beta1=0.9, beta2=0.999, steps=100)
    return adam_step(moments, StepRule(), model.device, next(iter(chosen.values())).dtype)


def loop(module, chosen, directions, transform):
    """What one would write first: a batch of one sample, its gradient, two products of it."""
    import torch

    from didact.models.losses import causal_losses

    parameters = list(chosen.values())
    rows = [v.flatten(1) for v in directions.values()]
    small = sum(p.numel() for p in parameters) < 2**20  # adapters: one vector saves many calls
    if small:
        rows = [torch.cat(rows, 1)]

    def step(batch):
        gradients = torch.autograd.grad(causal_losses(module, batch).sum(), parameters)
        if transform is not None:
            gradients = [transform(n, g) for n, g in zip(chosen, gradients, strict=True)]
        flat = [g.flatten() for g in gradients]
        if small:
            flat = [torch.cat(flat)]
        dots = sum(v @ g for v, g in zip(rows, flat, strict=True))
        return dots, sum(torch.dot(g, g) for g in flat).sqrt()

    return step


def ours(options: argparse.Namespace, model, module, chosen, directions):
    from didact.gradients.products import ProductKernel
    from didact.models.losses import causal_losses

    kernel = ProductKernel(module)
    kernel.__enter__()
    transform = adam(options, model, chosen)
    norms = options.arm != "dots"

    def step(batch):
        return kernel.products(
            batch, directions, transform=transform, norms=norms, losses=causal_losses
        )

    return step


def padded(batch):
    """The batch padded to the released code's fixed length."""
    import dataclasses

    import torch

    short = RELEASED_LENGTH - batch.input_ids.shape[1]
    fields = ("input_ids", "attention_mask", "position_ids", "weights")
    wider = {f: torch.nn.functional.pad(getattr(batch, f), (0, short)) for f in fields}
    return dataclasses.replace(batch, **wider)


def peak(options: argparse.Namespace, *, reset: bool = False) -> float:
    """MiB: of the accelerator's allocator, or the process's largest resident set."""
    if options.device != "cpu":
        import torch

        if reset:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated() / 2**20
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synchronise(options: argparse.Namespace) -> None:
    if options.device != "cpu":
        import torch

        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
