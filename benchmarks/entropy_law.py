"""Does learning go with how far a set compresses, and with its first-epoch loss?

    python benchmarks/entropy_law.py DATA --work DIR [--limit MINUTES] [--only NAME …] [--bill]
    didact law benchmarks/results/entropy_law.csv
    didact law benchmarks/results/entropy_law_gsm8k.csv

Rules, written before the first run:

- **Bases.** A proxy of 1M parameters reads 0.5M tokens of random rows, three times: three seeds of
  weights, each with an order of its own over the same rows. Learning rates are fixed (0.003, then
  0.001, cosine to 0, steps of 8 samples, samples cut at 256 tokens); nothing is chosen by a
  result.
- **Sets.** Each base goes on with 0.1M tokens of each of 16 sets, none of which holds a row of the
  base: four random draws; what `zip`, `feature_based`, BM25 towards GSM8K, `compression` (the least
  redundant samples, the most redundant) and `length` (the longest) rank first. Doses, all made of
  the first random draw: its first half, quarter, eighth, read 2, 4 and 8 times in one shuffle; its
  rows with the answers of 10, 30 and 60 % of them exchanged among these.
- **Equal tokens** are tokens as the model reads them, template in and cut; the longest prefix of a
  ranking that fits, rows without a token to learn left out. Text and R are of exactly that:
  detokenized samples in one fixed shuffle, cut at the token where the smallest set ends. `ratio` is
  raw ÷ compressed bytes by zstd with a window of 128 MiB (`set_redundancy`), `deflate_ratio` by
  zlib 9.
- **Loss** is the mean over the learnt tokens of the one pass, nats per token; `loss_x` up to x per
  cent of its tokens.
- **Performance**, higher is better: negated bits per byte of 400 held-out rows, all sources evenly
  (everything in `entropy_law.csv`, answers in `entropy_law_answers.csv`), and of 200 answers of
  GSM8K's test (`entropy_law_gsm8k.csv`), cut at 256 tokens like all that is read. BM25's target is
  GSM8K's validation set, which is not judged. The first table is the one that the verdict is of.
- **Unit.** A set is the unit; its three runs (weights and order) say how much of it is noise. The
  four random draws are one family, the doses belong to it and stand in a table of their own; the
  two ends of `compression` are one family.
- `similarity` to the held-out rows is `likeness` of the two texts as the model reads them: the
  cosine of how often they use words and pairs of words, rare ones weighing most.
- No run is left out of the table but one that was not done; the table of fewer runs is the same
  with fewer lines.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import didact
from didact import Budget
from didact.core.arrays import Int1D
from didact.core.atomic import write_text
from didact.core.scores import Selection, TrainingOrder
from didact.core.statistics import best_first
from didact.models.encode import encode
from didact.models.language_model import open_tokenizer
from didact.text.compression import set_redundancy
from didact.text.likeness import likeness
from didact.training.foresight import encoding
from didact.training.settings import Seeds, TrainSettings
from main_job import machine
from trainings import (
    BASE_RATE,
    BATCH,
    RATE,
    RESULTS,
    Ground,
    Recorded,
    Row,
    Sizes,
    arguments,
    bill,
    first_epoch,
    judged,
    performance,
    prefix,
    prepare,
    read_lines,
    record,
    removed,
    run_all,
    run_base,
    write_json,
)

SIZES: Final = Sizes(params="1M")
DRAWS: Final = 4
COPIES: Final = (2, 4, 8)
SWAPPED: Final = (10, 30, 60)
COLUMNS: Final = (
    "run", "set", "family", "dose", "seed", "backbone", "stage", "ratio", "deflate_ratio",
    "first_epoch_loss", "loss_5", "loss_10", "loss_25", "loss_50", "performance", "tokens",
    "bytes", "mean_length", "similarity",
)  # fmt: skip
# file's ending → what is its performance
TABLES: Final = {
    "": "performance", "_answers": "performance_answers", "_gsm8k": "performance_gsm8k"
}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("-o", "--output", default=str(RESULTS / "entropy_law"))
    options = parser.parse_args()
    ground = prepare(options.data, options.work, SIZES.changed(options))
    write_sets(ground)
    about = facts(ground)
    owed = bill(ground, dict.fromkeys(about, ground.sizes.inits), {})
    owed.show()
    if options.bill:
        return
    folder = options.work / "runs"
    bases = {}
    for init in range(ground.sizes.inits):
        bases[f"base-{init}"] = record(folder / f"base-{init}.json", partial(base, ground, init))
    runs: dict[str, Recorded] = {
        f"{name}-{init}": partial(run, ground, name, init)
        for init in range(ground.sizes.inits)
        for name in about
    }
    done: list[Row] = []
    for name, row in run_all(runs, folder, options):
        done.append({"run": name, **row, **about[row["set"]]})
        for ending, by in TABLES.items():
            write_text(Path(f"{options.output}{ending}.csv"), table(done, by))
        told = {
            "sizes": json.loads((options.work / "sizes.json").read_text()),
            "learning_rates": {"base": BASE_RATE, "run": RATE}, "batch_size": BATCH,
            "runs_done": len(done), "runs_in_all": len(runs), "owed_flops": owed.flops,
            "done_flops": sum(r["flops"] for r in [*bases.values(), *done]),
            "seconds": round(sum(r["wall_seconds"] for r in [*bases.values(), *done])),
            "bases": bases, "runs": [{k: v for k, v in r.items() if k != "steps"} for r in done],
            "machine": machine(),
        }  # fmt: skip
        write_json(f"{options.output}.json", told)
    print(f"{len(done)} of {len(runs)} runs: {options.output}.csv")


# -- sets ------------------------------------------------------------------------------------------


def write_sets(ground: Ground) -> None:
    """The sets as files of samples, in the order of the pool."""
    folder = ground.work / "sets"
    folder.mkdir(exist_ok=True)
    lines = ground.lines()
    for name, ranked in rankings().items():
        if not (file := folder / f"{name}.jsonl").exists():
            rows = prefix(ranked(ground), ground.lengths, ground.sizes.tokens)
            write_text(file, "".join(lines[row] for row in np.sort(rows)))
    first = read_lines(folder / "random-0.jsonl")
    lengths = dict(zip(lines, ground.lengths.tolist(), strict=True))
    sizes = np.array([lengths[line] for line in first])
    for times in COPIES:
        rows = np.random.default_rng([2, times]).permutation(len(first))
        rows = np.sort(prefix(rows, sizes, ground.sizes.tokens // times))
        copied = [renamed(first[row], f"~{n}") for n in range(times) for row in rows]
        write_text(folder / f"copies-{times}.jsonl", "".join(copied))
    for share in SWAPPED:
        write_text(folder / f"swapped-{share}.jsonl", "".join(swapped(first, share)))


def rankings() -> dict[str, Callable[[Ground], Int1D]]:
    """Natural set → rows of the pool, the first choice first."""
    random = {
        f"random-{draw}": partial(by_score, method="random", seed=draw) for draw in range(DRAWS)
    }
    return {
        **random,
        "zip": partial(by_selection, method="zip"),
        "feature_based": partial(by_selection, method="feature_based"),
        "bm25": partial(by_score, method="bm25", target="target.jsonl"),
        "compression-low": partial(by_score, method="compression"),
        "compression-high": partial(by_score, method="compression", lowest=True),
        "longest": partial(by_score, method="length"),
    }


def by_score(
    ground: Ground, *, method: str, seed: int = 0, target: str | None = None, lowest: bool = False
) -> Int1D:
    """Rows by a score, the best first, or the worst."""
    aimed = None if target is None else ground.read(ground.work / target)
    scores = didact.score(ground.pool, method, target=aimed, ctx=ground.ctx(seed))
    return best_first(-scores.utility if lowest else scores.utility)


def by_selection(ground: Ground, *, method: str) -> Int1D:
    """Rows by a selector's rank: of three times the tokens in the pool's count, to be cut."""
    budget = Budget(tokens=3 * ground.sizes.tokens)
    chosen: Selection = didact.select(ground.pool, None, method, budget=budget, ctx=ground.ctx())
    return chosen.rows[np.argsort(chosen.rank)]


def renamed(line: str, suffix: str) -> str:
    """A row with another id."""
    row = json.loads(line)
    return json.dumps({**row, "id": f"{row['id']}{suffix}"}, ensure_ascii=False) + "\n"


def swapped(lines: list[str], percent: int) -> list[str]:
    """Rows of which some have another's last answer: the answers go round among them."""
    rng = np.random.default_rng([3, percent])
    rows = rng.permutation(len(lines))[: round(len(lines) * percent / 100)]
    out = list(lines)
    for row, giver in zip(rows, np.roll(rows, 1), strict=True):
        told, other = json.loads(lines[row]), json.loads(lines[giver])
        told["messages"][-1]["content"] = other["messages"][-1]["content"]
        out[row] = json.dumps(told, ensure_ascii=False) + "\n"
    return out


# -- what the sets are -----------------------------------------------------------------------------


def facts(ground: Ground) -> dict[str, Row]:
    """Set → family, dose, R, size, likeness to the held-out rows; texts as the model reads them."""
    names = [*rankings(), *(f"copies-{n}" for n in COPIES), *(f"swapped-{n}" for n in SWAPPED)]
    model = open_tokenizer(ground.work / "proxy-0")
    target = [model.decode(ids) for ids in as_read(ground, "held_out", model)]
    found = {name: as_read(ground, f"sets/{name}", model) for name in names}
    least = min(sum(map(len, samples)) for samples in found.values())
    told: dict[str, Row] = {}
    for name, samples in found.items():
        texts = [model.decode(ids) for ids in samples]
        text = model.decode([i for ids in samples for i in ids][:least]).encode()
        told[name] = {
            **kind(name),
            "ratio": set_redundancy([text]),
            "deflate_ratio": len(text) / len(zlib.compress(text, 9)),
            "bytes": sum(len(t.encode()) for t in texts),
            "mean_length": sum(map(len, samples)) / len(samples),
            "similarity": likeness(texts, target),
            "rows": len(samples),
        }
    return told


def kind(name: str) -> Row:
    """Family and dose of a set."""
    family, _, rest = name.partition("-")
    if family in {"copies", "swapped"}:
        return {"family": "random", "dose": f"{family} {rest}"}
    return {"family": family, "dose": ""}


def as_read(ground: Ground, name: str, tokenizer: Any) -> list[list[int]]:
    """Samples of a file as the model reads them, in one fixed shuffle: their tokens."""
    pool = ground.read(ground.work / f"{name}.jsonl")
    rows = np.random.default_rng(0).permutation(len(pool))
    how = encoding(pool, TrainSettings(), ground.sizes.context)
    tokens = encode(pool.read(rows, ["turns"]).column("turns"), tokenizer, how)
    return [tokens.sample(row)[0].tolist() for row in tokens.scored]


# -- runs ------------------------------------------------------------------------------------------


def base(ground: Ground, init: int) -> Row:
    """The record of a base: what it knows before any set."""
    trained = run_base(ground, init)
    found = judged(ground, trained.path, f"base-{init}")
    told = {**performance(found), "tokens": trained.cost.tokens, "flops": trained.cost.flops}
    return {**told, "n_params": trained.about["n_params"], "notes": list(found.notes)}


def run(ground: Ground, name: str, init: int) -> Row:
    """A base goes on with a set, in an order of its own, and is judged."""
    pool = ground.read(ground.work / "sets" / f"{name}.jsonl")
    rows = np.random.default_rng([init, 1, zlib.crc32(name.encode())]).permutation(len(pool))
    trained = didact.train(
        pool, TrainingOrder(rows, pool.fingerprint, "random"), model=ground.base(init),
        out=ground.work / "models" / f"{name}-{init}", seeds=Seeds(init=init, order=init),
        learning_rate=RATE, batch_size=BATCH, device="cpu", ctx=ground.ctx(),
    )  # fmt: skip
    found = judged(ground, trained.path, f"{name}-{init}")
    told: Row = {
        "set": name, "seed": init, "backbone": ground.sizes.params, "stage": "continued",
        **first_epoch(trained.steps), **performance(found),
        "tokens": trained.cost.tokens, "flops": trained.cost.flops,
        "judged": len(found.table), "notes": list(found.notes),
        "steps": [[s.loss, s.learnt, s.tokens, s.grad_norm] for s in trained.steps],
    }  # fmt: skip
    removed(trained.path)
    return told


def table(done: list[Row], performance_by: str) -> str:
    """The runs as a CSV for `didact law`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in done:
        told = {**row, "performance": row[performance_by]}
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in told.items()})
    return out.getvalue()


if __name__ == "__main__":
    main()
