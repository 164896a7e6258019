"""`feature_based` in two rounds beside one machine's: f, redundancy, time, memory.

    python benchmarks/two_rounds.py POOL [POOL ...] [--partitions 8 64] [--budgets 0.05 0.2]
        [--seeds 3] [--oversampled 4] [--rows N] [-o RESULT]

f is written here once more, from the docstring of `feature_based`, over all candidates of the pool:
both sets are judged by it, whatever each machine knew when it picked. Every selection is made in a
process of its own whose workers are processes; memory is the most that each had resident.

Stops and starts again where it was: what is in RESULT is not done again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import didact
from didact import Budget
from didact.core.cache import default_cache_dir
from didact.core.pool import Pool
from didact.core.protocols import Progress
from didact.execution.executors import processes
from didact.selection.around.budget import candidates
from didact.selection.around.choose import choose
from didact.selection.feature_based import partitions as two
from didact.selection.feature_based.dealing import OVERSAMPLED
from didact.selection.feature_based.feature_based import feature_based
from didact.text.ngrams import hash_grams
from didact.text.noise.noise import noisy
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results"
OWN_PAIRS, BALANCE, MIN_DF, NOISE = 0.8, 0.2, 2, 0.3  # the defaults of `feature_based`
Record = dict[str, Any]


class Objective:
    """f of the docstring, with default settings: the grams of all candidates, and what they weigh.

    Hashed words and pairs come from `hash_grams`, where the lowest bit is 1 on pairs.
    """

    def __init__(self, pool: Pool, rows: np.ndarray, suspects: np.ndarray) -> None:
        read = [hash_grams(texts) for _, texts in pool.texts(rows)]
        lengths = np.concatenate([np.diff(r.offsets) for r in read])
        every, gram = np.unique(np.concatenate([r.hashes for r in read]), return_inverse=True)
        del read
        sample = np.repeat(np.arange(len(rows)), lengths)
        distinct = np.unique(sample * len(every) + gram)
        its_sample, its_gram = np.divmod(distinct, len(every))
        first = np.zeros(len(rows), np.bool_)
        first[np.unique(pool.content_hash[rows], return_index=True)[1]] = True
        counted = (first & ~suspects)[its_sample]
        known = np.bincount(its_gram[counted], minlength=len(every)) >= MIN_DF
        pairs = (every & np.uint64(1)).astype(np.bool_)
        own = np.bincount(its_sample[(pairs & ~known)[its_gram]], minlength=len(rows))
        self.alone = OWN_PAIRS * own * ~suspects
        self.gram = np.where(known[gram], gram, len(every)).astype(np.int32)
        self.n_grams = len(every)
        self.sample = sample.astype(np.int32)
        self.source, self.n_bytes = pool.source_codes[rows], pool.n_bytes[rows]
        self.share = np.bincount(self.source, self.n_bytes) / self.n_bytes.sum()
        self.whole = self.grams(np.ones(len(rows), np.bool_)) + float(self.alone.sum())

    def grams(self, chosen: np.ndarray) -> float:
        """Σ_g √c_g."""
        counts = np.bincount(self.gram[chosen[self.sample]], minlength=self.n_grams + 1)
        return float(np.sqrt(counts[: self.n_grams]).sum())

    def __call__(self, positions: np.ndarray) -> float:
        """F of candidates by their positions."""
        chosen = np.zeros(len(self.alone), np.bool_)
        chosen[positions] = True
        held = np.bincount(self.source[chosen], self.n_bytes[chosen], len(self.share))
        kept = np.sqrt(self.share * held / self.n_bytes.sum()).sum()
        alone = float(self.alone[chosen].sum())
        return self.grams(chosen) + alone + BALANCE * self.whole * float(kept)


def xz_ratio(pool: Pool, rows: np.ndarray) -> float:
    """Bytes of a set over those that xz needs for it, rows in an order of their own."""
    texts = pool.read(np.random.default_rng(0).permutation(np.sort(rows)), ["text"]).column("text")
    data = "\n".join(texts.to_pylist()).encode()
    return len(data) / len(lzma.compress(data, preset=4))


# -- one selection, in a process of its own --------------------------------------------------------


def peak_mib(pid: str = "self") -> float:
    """The most that a process had resident; 0 of one that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


class Children(threading.Thread):
    """Looks at the processes that were started by this one, and keeps the largest peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        """Look, until the process ends."""
        while True:
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError):
                    for child in (task / "children").read_text().split():
                        self.peak = max(self.peak, peak_mib(child))
            time.sleep(0.05)


def select_one(store: Path, fingerprint: str, asked: Record) -> Record:
    """One selection: its rows, and what it took."""
    pool = Pool(store, fingerprint)
    len(pool.n_tokens)
    two.OVERSAMPLED = asked["oversampled"]
    children = Children()
    children.start()
    after_first: list[float] = []

    def progress(step: Progress) -> None:
        if step.stage == "partitions" and step.done == step.total:
            after_first.append(peak_mib())

    with tempfile.TemporaryDirectory() as cache:
        ctx = didact.context(seed=asked["seed"], workers=1, cache_dir=cache)
        ctx = replace(ctx, executor=processes(1), progress=progress)
        before, wall = peak_mib(), time.perf_counter()
        with ctx.meter.running():
            budget = Budget(tokens=int(asked["budget"] * pool.n_tokens.sum()))
            chosen = choose(feature_based, pool, None, budget, ctx, partitions=asked["partitions"])
    return {
        "cpu_seconds": round(ctx.meter.bill.charged.cpu_seconds, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "driver_mib_before": round(before, 1),
        "driver_mib_first_round": round(after_first[0], 1) if after_first else None,
        "driver_mib": round(peak_mib(), 1),
        "worker_mib": round(children.peak, 1),
        "rows": chosen.best_first().tolist(),
    }


def selected(pool: Pool, **asked: Any) -> Record:
    """`select_one` in a fresh process."""
    what = [str(pool.path), pool.fingerprint, json.dumps(asked)]
    command = [sys.executable, __file__, "--select-one", *what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


# -- all of them -----------------------------------------------------------------------------------


def measure(path: Path, options: argparse.Namespace, content: Record) -> None:
    """Every selection of one pool that is not there yet."""
    name = path.name.split(".")[0]
    pool = didact.read(path, cache_dir=options.work)
    if options.rows:
        part = Path(tempfile.mkdtemp(dir=options.work)) / "pool.jsonl"
        part.write_bytes(b"".join(line + b"\n" for line in pool.records(range(options.rows))))
        pool, name = didact.read(part, cache_dir=options.work), f"{name}, {options.rows:,}"
    rows = candidates(pool, None)
    arms: Record = content["pools"].setdefault(
        name, {"rows": len(rows), "bytes": int(pool.n_bytes[rows].sum()), "arms": {}}
    )["arms"]
    objective: list[Objective] = []

    def judged(found: Record, *, xz: bool) -> Record:
        if not objective:
            suspects = noisy(pool, rows, NOISE, didact.context(workers=1))
            objective.append(Objective(pool, rows, suspects))
        chosen = np.array(found.pop("rows"))
        found["samples"] = len(chosen)
        found["f"] = objective[0](np.searchsorted(rows, chosen))
        found["tokens_share"] = float(pool.n_tokens[chosen].sum() / pool.n_tokens.sum())
        if xz:
            found["xz_ratio"] = round(xz_ratio(pool, chosen), 3)
        return found

    for budget in sorted(options.budgets):
        for partitions in (None, *options.partitions):
            for seed in range(1 if partitions is None else options.seeds):
                key = f"{partitions or 1} partitions, {budget:g} of the tokens, draw {seed}"
                if partitions and options.oversampled != OVERSAMPLED:
                    key += f", oversampled {options.oversampled:g}"
                if key in arms:
                    continue
                asked = {"partitions": partitions, "budget": budget, "seed": seed,
                         "oversampled": options.oversampled}  # fmt: skip
                arms[key] = {**asked, **judged(selected(pool, **asked), xz=seed == 0)}
                options.output.write_text(json.dumps(content, indent=1) + "\n")
                print(name, key, arms[key], flush=True)


def table(pools: Record) -> Iterator[str]:
    """Markdown: medians and extremes over draws."""
    yield "| pool, rows | budget | partitions | each picks | f beside one machine's, median (least) | xz ratio | CPU s | worker MiB | driver MiB, first round, all |"  # noqa: E501
    yield "|---|" + "---|" * 8
    for name, pool in pools.items():
        arms = list(pool["arms"].values())
        for one in (a for a in arms if a["partitions"] is None):
            same = [a for a in arms if a["budget"] == one["budget"]]
            for arm in dict.fromkeys((a["partitions"], a["oversampled"]) for a in same):
                its = [a for a in same if (a["partitions"], a["oversampled"]) == arm]
                partitions, oversampled = arm
                ratios = [a["f"] / one["f"] for a in its]
                middle = {
                    k: statistics.median(a[k] for a in its)
                    for k in ("cpu_seconds", "worker_mib", "driver_mib")
                }
                first = its[0]["driver_mib_first_round"]
                yield (
                    f"| {name}, {pool['rows']:,} | {100 * one['budget']:g} % | {partitions or 1} "
                    f"| {f'{oversampled:g} ×' if partitions else ''} "
                    f"| {statistics.median(ratios):.1%} ({min(ratios):.1%}) "
                    f"| {its[0]['xz_ratio']:.2f} | {middle['cpu_seconds']:.1f} "
                    f"| {middle['worker_mib']:.0f} "
                    f"| {'' if first is None else f'{first:.0f}'}, {middle['driver_mib']:.0f} |"
                )


def main() -> None:
    if sys.argv[1:2] == ["--select-one"]:
        store, fingerprint, asked = sys.argv[2:]
        print(json.dumps(select_one(Path(store), fingerprint, json.loads(asked))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--partitions", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--oversampled", type=float, default=OVERSAMPLED,
                        help="how often its share of the budget a partition picks")  # fmt: skip
    parser.add_argument("--rows", type=int, help="of each pool, the first")
    parser.add_argument("--work", type=Path, default=default_cache_dir())
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "two_rounds.json")
    options = parser.parse_args()
    content: Record = {"machine": machine(), "pools": {}}
    if options.output.exists():
        content = json.loads(options.output.read_text())
    for path in options.pools:
        measure(path, options, content)
    print("\n".join(table(content["pools"])))


if __name__ == "__main__":
    main()
