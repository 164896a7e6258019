"""Does the order of the samples matter, and does it where the learning rate decays?

    python benchmarks/orders.py DATA --work DIR [--limit MINUTES] [--only NAME …] [--bill]

Rules, written before the first run:

- **Seeds.** Five pairs of a base (weights and order of its own, 0.2M tokens of random rows) and a
  draw of 0.2M tokens of other rows; no two draws share a row. Within a seed everything but what is
  compared is the same, and every order is compared with `shuffle` of its own seed.
- **Scores** are `lqs` with the seed's base as its model, all samples annotated, towards 200 chats
  of all sources (validation).
- **Orders**, ascending in the score as everywhere: `shuffle`, `sort`, `fold` of 3 layers, `zigzag`,
  `saw`; each with the learning rate falling to 0 by a cosine, and with a constant one and the
  average of the last checkpoints (the averaged weights are judged). The best half of the samples by
  the score, shuffled and folded, under the cosine.
- **The best** pair of an order other than `shuffle` and a schedule is the one with the fewest bits
  per byte of the validation chats, averaged over all seeds. It and `shuffle` under its schedule
  then read the draw three times over, and draws of `text_pool` (scored towards 200 rows of it,
  judged on 200 others).
- **Told** on 400 held-out chats of all sources (everything, bits per byte, samples cut at 256
  tokens): mean difference from `shuffle` over the seeds, with a 95 % interval by Student's t.
  *Forgetting*: nats per token that the trained model takes for the samples of each tenth of the
  order.

Learning rates as in `entropy_law.py`; nothing is chosen by them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import didact
from didact import Budget
from didact.core.atomic import write_text
from didact.core.scores import Scores
from didact.evaluation.results import Evaluation
from didact.training.settings import Seeds
from didact.verbs import estimate_evaluation, estimate_training, everything
from main_job import machine
from trainings import (
    BASE_RATE,
    BATCH,
    RATE,
    RESULTS,
    Bill,
    Ground,
    Recorded,
    Row,
    Sizes,
    arguments,
    distinct,
    prefix,
    prepare,
    removed,
    run_all,
    run_base,
    write_json,
)

SIZES: Final = Sizes(
    params="272k", vocab=1024, base_tokens=200_000, tokens=200_000, inits=5, answers=10
)
ORDERS: Final[dict[str, dict[str, Any]]] = {
    "shuffle": {}, "sort": {}, "fold": {"layers": 3}, "zigzag": {}, "saw": {}
}  # fmt: skip
SCHEDULES: Final[dict[str, dict[str, Any]]] = {
    "cosine": {"schedule": "cosine"},
    "constant": {"schedule": "constant", "average": "last"},
}
TEXTS: Final = 200  # rows of `text_pool` to score towards, and as many to judge on
TENTHS: Final = 10


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("-o", "--output", default=str(RESULTS / "orders.json"))
    parser.add_argument("--steps", type=int, default=100, help="inner steps of lqs")
    parser.add_argument("--every", type=int, default=10, help="steps between annotated ones")
    options = parser.parse_args()
    annotation = {"steps": options.steps, "every": options.every}
    ground = prepare(options.data, options.work, SIZES.changed(options))
    write_draws(ground)
    owed = bill(ground)
    owed.show()
    if options.bill:
        return
    folder, seeds = options.work / "runs", range(ground.sizes.inits)
    begun = time.monotonic()
    done = dict(run_all(first_runs(ground, seeds, annotation), folder, options))
    about = {"owed_flops": owed.flops, "lqs": annotation}
    keep(options.output, ground, about, done)
    best = best_of(done, len(seeds))
    if best is None:
        print(f"{len(done)} runs; the best order is known when every seed has every order")
        return
    later = best_runs(ground, seeds, annotation, *best)
    done.update(run_all(later, folder, options, begun=begun))
    keep(options.output, ground, {**about, "best": best}, done)
    print(f"{len(done)} runs: {options.output}")


def first_runs(
    ground: Ground, seeds: Sequence[int], annotation: Mapping[str, int]
) -> dict[str, Recorded]:
    """Every order under every schedule, and the best half; seed after seed."""
    runs: dict[str, Recorded] = {}
    for seed in seeds:
        for schedule in SCHEDULES:
            for order in ORDERS:
                about = {"order": order, "schedule": schedule}
                runs[f"{order}-{schedule}-{seed}"] = partial(run, ground, seed, annotation, **about)
        for order in ("shuffle", "fold"):
            about = {"order": order, "schedule": "cosine"}
            runs[f"half-{order}-{seed}"] = partial(
                run, ground, seed, annotation, **about, half=True
            )
    return runs


def best_runs(
    ground: Ground, seeds: Sequence[int], annotation: Mapping[str, int], order: str, schedule: str
) -> dict[str, Recorded]:
    """Shuffle and the best order, three times over and on text."""
    runs: dict[str, Recorded] = {}
    for seed in seeds:
        for name in ("shuffle", order):
            about = {"order": name, "schedule": schedule}
            runs[f"text-{name}-{seed}"] = partial(
                run, ground, seed, annotation, **about, material="text"
            )
            runs[f"epochs-{name}-{seed}"] = partial(
                run, ground, seed, annotation, **about, epochs=3
            )
    return runs


def bill(ground: Ground) -> Bill:
    """FLOPs of bases, runs, judging, foretold; scores are not foretold here, but measured."""
    model, sizes, n = ground.work / "proxy-0", ground.sizes, ground.sizes.inits
    settings = {"batch_size": BATCH, "device": "cpu"}
    pool = ground.read(draw_file(ground, "chats", 0))
    one = estimate_training(pool, model, settings, samples=len(pool)).flops
    judging = estimate_evaluation(
        model, [ground.work / "held_out.jsonl", ground.work / "val.jsonl"],
        max_length=sizes.context, device="cpu", ctx=ground.ctx(),
    ).flops + one / 3  # fmt: skip
    return Bill(
        {
            "bases": (n, one * sizes.base_tokens / sizes.tokens),
            "orders and schedules": (n * len(ORDERS) * len(SCHEDULES), one),
            "best half": (2 * n, one / 2),
            "three times over": (2 * n, 3 * one),
            "text": (2 * n, one),
            "judging": (n * (len(ORDERS) * len(SCHEDULES) + 6), judging),
        }
    )  # fmt: skip


# -- what is read ----------------------------------------------------------------------------------


def draw_file(ground: Ground, material: str, seed: int) -> Path:
    """A draw's file of samples."""
    return ground.work / "draws" / f"{material}-{seed}.jsonl"


def write_draws(ground: Ground) -> None:
    """The draws of every seed, no two with a row in common, and the files of text."""
    (ground.work / "draws").mkdir(exist_ok=True)
    sizes = ground.sizes
    rows = np.random.default_rng(7).permutation(len(ground.pool))
    lines = ground.lines()
    for seed in range(sizes.inits):
        drawn = prefix(rows, ground.lengths, sizes.tokens)
        rows = np.setdiff1d(rows, drawn, assume_unique=True)
        write_text(draw_file(ground, "chats", seed), "".join(lines[row] for row in drawn))
    files = [ground.work / name for name in ("text_val.jsonl", "text_held_out.jsonl")]
    texts = distinct(ground.data / "text_pool.jsonl.zst", "text")
    for at, file in enumerate(files):
        write_text(file, "".join(texts[at * TEXTS : (at + 1) * TEXTS]))
    # nearly every row of text is longer than a sample may be
    n = sizes.tokens // sizes.context
    for seed in range(sizes.inits):
        first = 2 * TEXTS + seed * n
        write_text(draw_file(ground, "text", seed), "".join(texts[first : first + n]))


def scored(ground: Ground, seed: int, material: str, annotation: Mapping[str, int]) -> Scores:
    """LQS of a draw by the seed's base, kept in the cache."""
    target = "val.jsonl" if material == "chats" else "text_val.jsonl"
    return didact.score(
        ground.read(draw_file(ground, material, seed)), "lqs", model=str(ground.base(seed)),
        target=ground.read(ground.work / target), proxy="all", max_length=ground.sizes.context,
        device="cpu", ctx=ground.ctx(seed), **annotation,
    )  # fmt: skip


# -- runs ------------------------------------------------------------------------------------------


def run(
    ground: Ground, seed: int, annotation: Mapping[str, int], *, order: str, schedule: str,
    material: str = "chats", half: bool = False, epochs: int = 1,
) -> Row:  # fmt: skip
    """A base reads a draw in an order, and is judged; its record."""
    run_base(ground, seed)
    pool = ground.read(draw_file(ground, material, seed))
    scores = scored(ground, seed, material, annotation)
    chosen = everything(pool, scores)
    if half:
        chosen = didact.select(pool, scores, "top_k", budget=Budget(ratio=0.5), ctx=ground.ctx())
    ordered = didact.order(
        pool, chosen, scores, order, epochs=epochs, batch_size=BATCH, ctx=ground.ctx(seed),
        **ORDERS[order],
    )  # fmt: skip
    name = f"{material}-{order}-{schedule}-{epochs}-{half}-{seed}"
    trained = didact.train(
        pool, ordered, model=ground.base(seed), out=ground.work / "models" / name,
        seeds=Seeds(init=seed, draw=seed, order=seed), learning_rate=RATE, device="cpu",
        ctx=ground.ctx(), **SCHEDULES[schedule],
    )  # fmt: skip
    files = ["held_out.jsonl", "val.jsonl"] if material == "chats" else ["text_held_out.jsonl"]
    own = ground.work / "draws" / f"{material}-{seed}.jsonl"
    found = didact.evaluate(
        trained.averaged or trained.path, [*(ground.work / file for file in files), own],
        name=name, max_length=ground.sizes.context, on_overlap="keep", device="cpu",
        ctx=ground.ctx(),
    )  # fmt: skip
    values = {
        r["file"]: r["value"]
        for r in found.summary()
        if r["metric"] == "bits_per_byte_all" and not r["source"] and not r["task"]
    }
    told: Row = {
        "seed": seed, "order": order, "schedule": schedule, "material": material, "half": half,
        "epochs": epochs, "held_out": values[files[0]], "val": values.get("val.jsonl"),
        "tenths": tenths(found, own.name, ordered.rows[: len(chosen)]),
        "tokens": trained.cost.tokens, "flops": trained.cost.flops, "score_flops": scores.flops,
    }  # fmt: skip
    removed(trained.path)
    return told


def tenths(found: Evaluation, file: str, rows: Sequence[int]) -> list[float]:
    """Nats per token of the answers in each tenth of an order, by the model after it."""
    table = found.table.filter(np.asarray(found.table.column("file").to_pylist()) == file)
    n = int(table.column("row").to_numpy().max()) + 1
    nats, tokens = np.zeros(n), np.zeros(n)
    place = table.column("row").to_numpy()
    nats[place] = table.column("answer_nats").to_numpy()
    tokens[place] = table.column("answer_tokens").to_numpy()
    parts = np.array_split(np.asarray(rows), TENTHS)
    return [float(nats[part].sum() / max(tokens[part].sum(), 1)) for part in parts]


# -- what it comes to ------------------------------------------------------------------------------


def best_of(done: Mapping[str, Row], n: int) -> tuple[str, str] | None:
    """Order and schedule with the fewest bits of the validation chats, once all seeds are done."""
    means = {}
    for order in ORDERS:
        for schedule in SCHEDULES:
            rows = [done.get(f"{order}-{schedule}-{seed}") for seed in range(n)]
            if any(row is None for row in rows):
                return None
            if order != "shuffle":
                means[order, schedule] = statistics.fmean(row["val"] for row in rows if row)
    return min(means, key=lambda pair: means[pair])


def differences(done: Mapping[str, Row]) -> list[Row]:
    """Every arm beside `shuffle` of the same seeds: bits per byte of held-out rows, interval."""
    from scipy.stats import t

    arms: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in done.values():
        key = (row["material"], row["half"], row["epochs"], row["schedule"], row["order"])
        arms.setdefault(key, {})[row["seed"]] = row["held_out"]
    out = []
    for key, values in arms.items():
        shuffled = arms.get((*key[:-1], "shuffle"), {})
        names = ("material", "half", "epochs", "schedule", "order")
        told: Row = dict(zip(names, key, strict=True))
        told |= {"mean": statistics.fmean(values.values()), "seeds": sorted(values)}
        off = [values[seed] - shuffled[seed] for seed in values if seed in shuffled]
        if key[-1] != "shuffle" and len(off) > 1:
            sd = statistics.stdev(off)
            half = float(t.ppf(0.975, len(off) - 1)) * sd / len(off) ** 0.5
            mean = statistics.fmean(off)
            told |= {"difference": mean, "sd": sd, "low": mean - half, "high": mean + half}
        out.append(told)
    return out


def keep(output: str, ground: Ground, about: Mapping[str, Any], done: Mapping[str, Row]) -> None:
    """Write what there is."""
    told = {
        "sizes": json.loads((ground.work / "sizes.json").read_text()),
        "learning_rates": {"base": BASE_RATE, "run": RATE}, "batch_size": BATCH, **about,
        "done_flops": sum(row["flops"] for row in done.values()),
        "seconds": round(sum(row["wall_seconds"] for row in done.values())),
        "differences": differences(done), "runs": dict(done), "machine": machine(),
    }  # fmt: skip
    write_json(output, told)


if __name__ == "__main__":
    main()
