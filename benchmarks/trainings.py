"""What the experiments on small trainings share: data, bases, records of runs, the bill.

Every experiment goes on from base models that have read the same random rows; it reads other rows,
judged on others again. A run is one file of JSON, written whole or not at all, so that a program
that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import zstandard

import didact
from didact.core.arrays import Int1D
from didact.core.atomic import write_text
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import TrainingOrder
from didact.evaluation.results import Evaluation
from didact.training.foresight import read_lengths
from didact.training.settings import Seeds, TrainSettings
from didact.training.telemetry import Step
from didact.training.trained import Trained
from didact.verbs import context, estimate_evaluation, estimate_training, new_proxy

RESULTS: Final = Path(__file__).resolve().parent / "results"
BATCH: Final = 8
BASE_RATE: Final = 3e-3  # learning rates: fixed beforehand, nothing was chosen by them
RATE: Final = 1e-3
VALIDATION: Final = 200  # chats of all sources in turn, which the pool does not have
EARLY: Final = (5, 10, 25, 50)  # per cent of the first epoch
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of an experiment.

    Attributes:
        params: Parameters of the model.
        vocab: Tokens of its tokenizer.
        context: Most tokens of a sample.
        pool_rows: Rows to choose from, those of the base among them.
        base_tokens: Tokens that the base reads.
        tokens: Tokens that a run reads after it.
        inits: Bases: seeds of weights, of the base's order and of the run's.
        held_out: Held-out rows, all sources evenly.
        answers: Answers of GSM8K.
        draw: Which draw of the pool, of the base's rows and of the sets; 0 is the recorded one.
    """

    params: str
    vocab: int = 2048
    context: int = 256
    pool_rows: int = 30_000
    base_tokens: int = 500_000
    tokens: int = 100_000
    inits: int = 3
    held_out: int = 400
    answers: int = 200
    draw: int = 0

    def rng(self, seed: int) -> np.random.Generator:
        """Random numbers of this draw."""
        return np.random.default_rng(seed + 1000 * self.draw)

    def changed(self, options: argparse.Namespace) -> Sizes:
        """With what the command line says otherwise."""
        given = {name: getattr(options, name) for name in asdict(self)}
        return Sizes(**{k: v if given[k] is None else given[k] for k, v in asdict(self).items()})


def arguments(description: str | None, sizes: Sizes) -> argparse.ArgumentParser:
    """What the experiments' command lines have in common."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with instruct_pool, text_pool, targets")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs; goes on there")
    parser.add_argument("--limit", type=float, metavar="MINUTES", help="begin no run after that")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="runs whose names begin so")
    parser.add_argument("--bill", action="store_true", help="print the bill and stop")
    for name, value in asdict(sizes).items():
        kind = type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {value}")
    return parser


@dataclass(frozen=True, slots=True)
class Ground:
    """Files, bases and the pool of an experiment.

    Attributes:
        sizes: Its sizes.
        work: Its folder.
        data: The folder of the data.
        everything: The pool with the rows of the base.
        base_rows: Rows of `everything` that the bases read.
        pool: What runs choose from: the other rows.
        lengths: Tokens of each of them as the model reads it, 0 where there is none to learn.
    """

    sizes: Sizes
    work: Path
    data: Path
    everything: Pool
    base_rows: Int1D
    pool: Pool
    lengths: Int1D

    @property
    def tokenizer(self) -> str:
        """The tokenizer of every base."""
        return str(self.work / "proxy-0" / "tokenizer.json")

    @property
    def held_out(self) -> list[Path]:
        """The held-out files: chats of all sources, answers of GSM8K."""
        return [self.work / "held_out.jsonl", self.work / "gsm8k.jsonl"]

    def base(self, init: int) -> Path:
        """Folder of a base."""
        return self.work / f"base-{init}"

    def ctx(self, seed: int = 0) -> Context:
        """One worker, and the experiment's cache."""
        return context(seed, 1, self.work / "cache")

    def read(self, file: Path) -> Pool:
        """A file of samples, tokens counted by the bases' tokenizer."""
        return didact.read(file, tokenizer=self.tokenizer, cache_dir=self.work / "cache")

    def lines(self) -> list[str]:
        """The pool's rows as they stand in its file."""
        return read_lines(self.work / "pool.jsonl")


def prepare(data: Path, work: Path, sizes: Sizes) -> Ground:
    """Files, untrained models and lengths; found where they stand.

    Held-out rows are taken first, source after source in turn, then the pool: distinct rows all.
    """
    work.mkdir(parents=True, exist_ok=True)
    mark, told = work / "sizes.json", json.dumps(asdict(sizes))
    if mark.exists() and mark.read_text() != told:
        raise SystemExit(f"{work} holds an experiment of other sizes: {mark.read_text()}")
    write_text(mark, told)
    names = ("everything", "held_out", "val", "target", "gsm8k")
    files = {name: work / f"{name}.jsonl" for name in names}
    if not all(file.exists() for file in files.values()):
        for name, lines in _split(data, sizes).items():
            if not files[name].exists():
                write_text(files[name], "".join(lines))
    cache = work / "cache"
    plain = didact.read(files["everything"], cache_dir=cache)
    for init in range(sizes.inits):
        if not (proxy := work / f"proxy-{init}").exists():
            new_proxy(
                proxy, plain, params=sizes.params, vocab=sizes.vocab, context=sizes.context,
                seed=init,
            )  # fmt: skip
    tokenizer = str(work / "proxy-0" / "tokenizer.json")
    everything = didact.read(files["everything"], tokenizer=tokenizer, cache_dir=cache)
    lengths = read_lengths(everything, work / "proxy-0", TrainSettings(), context(0, 1, cache))
    rows = sizes.rng(0).permutation(len(everything))
    base_rows = prefix(rows, lengths, sizes.base_tokens)
    others = np.setdiff1d(np.arange(len(everything)), base_rows)
    pool_file = work / "pool.jsonl"
    if not pool_file.exists():
        lines = read_lines(files["everything"])
        write_text(pool_file, "".join(lines[row] for row in others))
    pool = didact.read(pool_file, tokenizer=tokenizer, cache_dir=cache)
    assert len(pool) == len(others)
    return Ground(sizes, work, data, everything, base_rows, pool, lengths[others])


def _split(data: Path, sizes: Sizes) -> dict[str, list[str]]:
    chats = distinct(data / "instruct_pool.jsonl.zst")
    by_source: dict[str, list[int]] = {}
    for at, line in enumerate(chats):
        by_source.setdefault(json.loads(line)["source"], []).append(at)
    turns = [row for part in zip_longest(*by_source.values()) for row in part if row is not None]
    held_out, left = turns[: sizes.held_out], np.sort(turns[sizes.held_out :])
    drawn = np.sort(sizes.rng(1).permutation(left)[: sizes.pool_rows])
    taken = set(drawn.tolist())
    val = [row for row in turns[sizes.held_out :] if row not in taken][:VALIDATION]
    return {
        "held_out": [chats[row] for row in sorted(held_out)],
        "val": [chats[row] for row in sorted(val)],
        "everything": [chats[row] for row in drawn],
        "target": distinct(data / "target_gsm8k_val.jsonl.zst"),
        "gsm8k": distinct(data / "target_gsm8k_test.jsonl.zst")[: sizes.answers],
    }


def distinct(path: Path, field: str = "messages") -> list[str]:
    """The lines of a file whose content differs."""
    seen: dict[str, str] = {}
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            seen.setdefault(json.dumps(json.loads(line)[field], ensure_ascii=False), line)
    return list(seen.values())


def read_lines(file: Path) -> list[str]:
    """Lines with their ends; other breaks than a newline stand within rows."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        return list(lines)


def prefix(rows: Int1D, lengths: Int1D, tokens: int) -> Int1D:
    """The most rows from the front that hold no more tokens, without those that teach nothing."""
    rows = rows[lengths[rows] > 0]
    return rows[: int(np.searchsorted(np.cumsum(lengths[rows]), tokens, side="right"))]


def run_base(ground: Ground, init: int) -> Trained:
    """A base: a proxy of its own weights after the base's rows in an order of its own."""
    rows = np.random.default_rng([init, 0]).permutation(ground.base_rows)
    pool = ground.everything
    ordered = TrainingOrder(rows, pool.fingerprint, "random")
    return didact.train(
        pool, ordered, model=ground.work / f"proxy-{init}", out=ground.base(init),
        seeds=Seeds(init=init, order=init), learning_rate=BASE_RATE, batch_size=BATCH,
        device="cpu", ctx=ground.ctx(),
    )  # fmt: skip


def performance(found: Evaluation) -> dict[str, float]:
    """Bits per byte of held-out rows, everything and answers, and of GSM8K's answers, negated."""
    values = {
        (r["file"], r["metric"]): -r["value"]
        for r in found.summary()
        if not r["source"] and not r["task"]
    }
    return {
        "performance": values["held_out.jsonl", "bits_per_byte_all"],
        "performance_answers": values["held_out.jsonl", "bits_per_byte"],
        "performance_gsm8k": values["gsm8k.jsonl", "bits_per_byte"],
    }


def judged(ground: Ground, model: Path, name: str) -> Evaluation:
    """A model on the held-out files, samples cut as runs cut them."""
    return didact.evaluate(
        model, ground.held_out, name=name, max_length=ground.sizes.context, device="cpu",
        ctx=ground.ctx(),
    )  # fmt: skip


def first_epoch(steps: Sequence[Step]) -> dict[str, float]:
    """Loss over all steps and over the first x per cent of the tokens, weighted by what is learnt.

    The part of x per cent ends with the last step that lies in it whole, the first step at least.
    """
    loss = np.array([s.loss for s in steps])
    learnt = np.array([s.learnt or 0.0 for s in steps])
    seen = np.cumsum([s.tokens or 0 for s in steps])
    told = {"first_epoch_loss": float(np.average(loss, weights=learnt))}
    for share in EARLY:
        n = max(1, int(np.searchsorted(seen, seen[-1] * share / 100, side="right")))
        told[f"loss_{share}"] = float(np.average(loss[:n], weights=learnt[:n]))
    return told


class Recorded(Protocol):
    """Makes the record of a run."""

    def __call__(self) -> Row:
        """What the run comes to, JSON values."""


def record(file: Path, make: Recorded) -> Row:
    """The record of a run, from its file when it is there."""
    if file.exists():
        found: Row = json.loads(file.read_text("utf-8"))
        return found
    begun = time.monotonic()
    made = {**make(), "wall_seconds": round(time.monotonic() - begun, 2)}
    write_text(file, json.dumps(made, ensure_ascii=False) + "\n")
    return made


def run_all(
    runs: Mapping[str, Recorded],
    folder: Path,
    options: argparse.Namespace,
    *,
    begun: float | None = None,
) -> Iterator[tuple[str, Row]]:
    """Records of runs in turn: those that are asked for, while time is left; others if they stand.

    The clock starts here, or when it was `begun`.
    """
    begun = time.monotonic() if begun is None else begun
    for name, make in runs.items():
        file = folder / f"{name}.json"
        wanted = options.only is None or any(name.startswith(part) for part in options.only)
        late = options.limit is not None and time.monotonic() - begun > 60 * options.limit
        there = file.exists()
        if not there and (late or not wanted):
            continue
        row = record(file, make)
        if not there:
            print(f"{name}: {row['wall_seconds']:.0f} s", flush=True)
        yield name, row


def removed(model: Path) -> None:
    """Take the weights of a run away; its record has what is needed of it."""
    shutil.rmtree(model, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Bill:
    """FLOPs as they will be executed, before the first is.

    Attributes:
        parts: What → number of times, FLOPs of one.
    """

    parts: Mapping[str, tuple[int, float]]

    @property
    def flops(self) -> float:
        """All of them."""
        return sum(n * flops for n, flops in self.parts.values())

    def show(self, flops_per_second: float = 25e9) -> None:
        """Print it; a rate that one busy core was seen to keep."""
        for what, (n, flops) in self.parts.items():
            print(f"{what:28} {n:4} × {flops:.3g} = {n * flops:.3g} FLOPs")
        minutes = self.flops / flops_per_second / 60
        print(f"{'in all':28} {self.flops:.3g} FLOPs", end="")
        print(f", {minutes:.0f} min at {flops_per_second / 1e9:.0f} GFLOP/s", flush=True)


def bill(ground: Ground, sets: Mapping[str, int], more: Mapping[str, tuple[int, float]]) -> Bill:
    """The bill of bases, of runs on files of samples, each judged.

    Args:
        ground: The experiment's.
        sets: File's name in the folder `sets` → runs on it.
        more: Other parts.
    """
    model = ground.work / "proxy-0"
    settings = {"batch_size": BATCH, "device": "cpu"}
    parts: dict[str, tuple[int, float]] = {}
    n, rows = ground.sizes.inits, ground.base_rows
    one = estimate_training(ground.everything, model, settings, samples=len(rows)).flops
    share = float(ground.everything.n_tokens[rows].sum()) / max(
        len(rows) * ground.everything.n_tokens.mean(), 1
    )
    parts["bases"] = (n, one * share)
    for name, times in sets.items():
        pool = ground.read(ground.work / "sets" / f"{name}.jsonl")
        flops = estimate_training(pool, model, settings, samples=len(pool)).flops
        parts[f"runs on {name}"] = (times, flops)
    told = estimate_evaluation(
        model, ground.held_out, max_length=ground.sizes.context, device="cpu", ctx=ground.ctx()
    ).flops
    parts["judging"] = (n + sum(sets.values()), told)
    return Bill({**parts, **more})


def write_json(path: str | Path, told: Mapping[str, Any]) -> None:
    """A result, whole or not at all."""
    write_text(Path(path), json.dumps(told, indent=1, ensure_ascii=False) + "\n")
