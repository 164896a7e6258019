"""Does `didact monitor` warn of faults in a series of data versions, and how early?

    python benchmarks/monitor.py DATA --work DIR [--limit MINUTES] [--only NAME …] [--bill]

Rules, written before the first run:

- **Versions.** A base has read 0.5M tokens of random rows. Each version is 1,600 other rows that no
  other version holds, and a training that goes on from the base with them: 200 steps of 8 samples
  cut at 256 tokens, in random order (learning rate 0.001, cosine to 0). The first version only
  opens the series; 24 clean ones follow, each judged by those before it.
- Exact copies are kept (`dedup: none`), as trainers that read files as they are keep them.
- **Faults.** Ten more versions, each judged as the one after the last clean version: five faults
  in 5 % and in 20 % of the rows. *Copied*: rows of the version stand in place of others a second
  time. *Swapped*: answers go round among the rows. *Foreign*: passages of reviews in the form of
  chats, a source that no version has. *Cut*: the last answer ends after a fifth of its characters.
  *Noise*: the last answer is random letters and runs of keys, as long.
- **Judged** with the monitor's own limits, none of them set by these runs: before training, and
  when 5, 10, 25, 50 and 100 % of the epoch have been read. A version is flagged when anything
  about it is.
- A held-out sample that stands whole in a version is told apart: it is there, whatever was planted,
  and no false alarm.
- **Two tables** of counts with exact 95 % intervals (Clopper and Pearson). *Fault present*: what
  was planted. *Harm*: a version whose held-out rows (400, all sources evenly) take more bits per
  byte than the clean versions' mean by two of their standard deviations.
- 24 clean versions without a false alarm bound their rate at 12 % (one-sided, 95 %): no more than
  that is shown here.

Telemetry, texts and models of every version stay in DIR, so that they can be judged again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import didact
from didact.core.atomic import write_text
from didact.evaluation.results import read_evaluation
from didact.training.trained import read_trained
from didact.verbs import estimate_evaluation, estimate_training
from instruments import cut as cut_bytes
from instruments import keyboard_mash
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
    performance,
    prepare,
    record,
    run_all,
    run_base,
    write_json,
)

SIZES: Final = Sizes(params="272k", vocab=1024, pool_rows=80_000, tokens=1_600, inits=1, answers=50)
CLEAN: Final = 24
LEAST: Final = 5  # versions that there must be to judge by
SHARES: Final = (5, 20)
SEEN: Final = (5, 10, 25, 50, 100)  # per cent of the epoch
FOREIGN: Final = "movie_reviews"


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("-o", "--output", default=str(RESULTS / "monitor.json"))
    parser.add_argument("--train-only", action="store_true", help="leave the judging for later")
    options = parser.parse_args()
    ground = prepare(options.data, options.work, SIZES.changed(options))
    versions = write_versions(ground)
    owed = bill(ground, len(versions))
    owed.show()
    if options.bill:
        return
    base = run_base(ground, 0)
    runs: dict[str, Recorded] = {
        name: partial(run, ground, name, planted) for name, planted in versions.items()
    }
    done = []
    for name, row in run_all(runs, options.work / "records", options):
        done.append({"version": name, **row})
        told = {
            "sizes": json.loads((options.work / "sizes.json").read_text()),
            "learning_rates": {"base": BASE_RATE, "run": RATE}, "batch_size": BATCH,
            "runs_done": len(done), "runs": len(runs), "owed_flops": owed.flops,
            "done_flops": base.cost.flops + sum(r["flops"] for r in done),
            "seconds": round(sum(r["wall_seconds"] for r in done)), "versions": done,
            "machine": machine(),
        }  # fmt: skip
        write_json(options.output, told)
    print(f"{len(done)} of {len(runs)} versions: {options.output}", flush=True)
    if len(done) > LEAST and not options.train_only:
        looked = judge(ground, [row["version"] for row in done])
        write_json(options.output, {**told, **tables(done, looked), "judged": looked})


def bill(ground: Ground, n: int) -> Bill:
    """FLOPs of the base, of the versions' trainings and their judging, foretold."""
    model, pool = ground.work / "proxy-0", ground.pool
    settings = {"batch_size": BATCH, "device": "cpu"}
    base, version = (
        estimate_training(pool, model, settings, samples=size).flops
        for size in (len(ground.base_rows), ground.sizes.tokens)
    )
    judging = estimate_evaluation(
        model, ground.held_out, max_length=ground.sizes.context, device="cpu", ctx=ground.ctx()
    ).flops
    return Bill(
        {
            "base": (1, base), "versions": (n, version), "held-out rows": (n, judging),
            "passes of the previous model": (n - 1, version / 3),
        }
    )  # fmt: skip


# -- versions --------------------------------------------------------------------------------------


def write_versions(ground: Ground) -> dict[str, Row]:
    """Version → what was planted; its rows as a file of samples."""
    folder = ground.work / "versions"
    folder.mkdir(exist_ok=True)
    n, lines = ground.sizes.tokens, ground.lines()
    usable = np.flatnonzero(ground.lengths > 0)
    rows = ground.sizes.rng(5).permutation(usable)
    versions: dict[str, Row] = {
        f"{at:02d}-clean": {"fault": "", "percent": 0} for at in range(CLEAN + 1)
    }
    makers = faults(ground)
    for share in SHARES:
        for fault in makers:
            versions[f"{len(versions)}-{fault}-{share}"] = {"fault": fault, "percent": share}
    if len(rows) < n * len(versions):
        raise SystemExit(f"{len(rows)} rows for {len(versions)} versions of {n}: raise --pool-rows")
    for at, (name, planted) in enumerate(versions.items()):
        file = folder / f"{name}.jsonl"
        if file.exists():
            continue
        drawn = [lines[row] for row in rows[at * n : (at + 1) * n]]
        if planted["fault"]:
            rng = np.random.default_rng([6, at])
            places = rng.permutation(n)[: round(n * planted["percent"] / 100)]
            new = makers[planted["fault"]](drawn, places, rng)
            for place, line in zip(places, new, strict=True):
                drawn[place] = line
        write_text(file, "".join(drawn))
    return versions


Plant = Callable[[list[str], Any, np.random.Generator], list[str]]


def faults(ground: Ground) -> dict[str, Plant]:
    """Fault → lines in place of those at some places."""
    file = ground.work / "foreign.jsonl"
    if not file.exists():
        write_text(file, "".join(foreign(ground.data)))
    reviews = file.read_text("utf-8").split("\n")[:-1]

    def copied(lines: list[str], places: Any, rng: np.random.Generator) -> list[str]:
        others = rng.permutation(np.setdiff1d(np.arange(len(lines)), places))[: len(places)]
        return [told(lines[row], suffix="~copy") for row in others]

    def swapped(lines: list[str], places: Any, _: np.random.Generator) -> list[str]:
        givers = np.roll(places, 1)
        return [
            told(lines[row], answer(lines[giver]))
            for row, giver in zip(places, givers, strict=True)
        ]

    def from_elsewhere(_: list[str], places: Any, rng: np.random.Generator) -> list[str]:
        return [f"{reviews[row]}\n" for row in rng.permutation(len(reviews))[: len(places)]]

    def cut(lines: list[str], places: Any, _: np.random.Generator) -> list[str]:
        answers = [answer(lines[row]) for row in places]
        short = [text[: max(1, len(text) // 5)] for text in answers]
        return [told(lines[row], text) for row, text in zip(places, short, strict=True)]

    def noise(lines: list[str], places: Any, rng: np.random.Generator) -> list[str]:
        sizes = [max(1, len(answer(lines[row]).encode())) for row in places]
        texts = [cut_bytes(keyboard_mash(size, rng), size) for size in sizes]
        return [told(lines[row], text) for row, text in zip(places, texts, strict=True)]

    return {
        "copied": copied, "swapped": swapped, "foreign": from_elsewhere, "cut": cut, "noise": noise
    }  # fmt: skip


def foreign(data: Path) -> list[str]:
    """Passages of a source that the pool does not have, in the form of chats."""
    out = []
    for line in distinct(data / "text_pool.jsonl.zst", "text"):
        row = json.loads(line)
        if row["source"] == FOREIGN:
            turns = [("user", row["text"][:200]), ("assistant", row["text"][200:800])]
            messages = [{"role": role, "content": text} for role, text in turns]
            chat = {"id": row["id"], "messages": messages, "source": FOREIGN}
            out.append(json.dumps(chat, ensure_ascii=False) + "\n")
    return out


def answer(line: str) -> str:
    """The last turn."""
    return str(json.loads(line)["messages"][-1]["content"])


def told(line: str, text: str | None = None, *, suffix: str = "") -> str:
    """A row with another last turn, or another id."""
    row = json.loads(line)
    row["id"] = f"{row['id']}{suffix}"
    if text is not None:
        row["messages"][-1]["content"] = text
    return json.dumps(row, ensure_ascii=False) + "\n"


# -- runs ------------------------------------------------------------------------------------------


def run(ground: Ground, name: str, planted: Row) -> Row:
    """A `didact run` on a version: random order, training from the base, held-out rows."""
    at = int(name.partition("-")[0])
    out = ground.work / "runs" / name
    config = {
        "data": {"path": str(ground.work / "versions" / f"{name}.jsonl"),
                 "tokenizer": ground.tokenizer, "dedup": "none"},
        "seeds": {"draw": at, "order": at},
        "score": {"method": "random"},
        "select": {"method": "top_k", "budget": {"ratio": 1.0}},
        "order": {"method": "shuffle", "batch_size": BATCH},
        "train": {"model": str(ground.base(0)), "learning_rate": RATE, "batch_size": BATCH,
                  "device": "cpu"},
        "evaluate": {"files": [str(file) for file in ground.held_out],
                     "max_length": ground.sizes.context, "device": "cpu"},
    }  # fmt: skip
    didact.run(config, out, cache_dir=ground.work / "cache")
    trained = read_trained(out / "model")
    return {
        **planted, **performance(read_evaluation(out)), "steps": len(trained.steps),
        "tokens": trained.cost.tokens, "flops": trained.cost.flops,
    }  # fmt: skip


# -- judging ---------------------------------------------------------------------------------------


def judge(ground: Ground, names: Sequence[str]) -> list[Row]:
    """What the monitor flags: clean versions by those before them, the others after all of them."""
    clean = [name for name in names if name.endswith("-clean")]
    others = [name for name in names if name not in clean]
    out: list[Row] = []
    for seen in SEEN:
        place = ground.work / "judged" / str(seen)
        told = record(place / "clean.json", partial(watch, ground, clean, seen, 1))
        out += told["versions"]
        for name in others:
            make = partial(watch, ground, [*clean, name], seen, len(clean))
            out += record(place / f"{name}.json", make)["versions"]
        print(f"judged at {seen} %", flush=True)
    return out


def watch(ground: Ground, names: Sequence[str], seen: int, first: int) -> Row:
    """The monitor's flags of the versions of a series, from one on."""
    from didact.analysis.risk.flags import BEFORE
    from didact.monitoring.monitor import monitor

    folders = [ground.work / "runs" / name for name in names]
    held_out = [str(ground.work / "held_out.jsonl")]
    found = monitor(folders, held_out=held_out, seen=seen / 100, ctx=ground.ctx())
    versions = [
        {
            "version": one.version, "seen": seen,
            "before": sorted({f.kind for f in one.flags if f.kind in BEFORE} - {"held_out"}),
            "held_out": sum(f.rows.count for f in one.flags if f.kind == "held_out"),
            "during": sorted({f.kind for f in one.flags if f.kind not in BEFORE}),
            "flags": [
                [f.kind, f.source, round(f.z, 2), f.rows.count, f.seen, f.expected]
                for f in one.flags
            ],
            "cannot": list(one.cannot),
        }
        for one in found[first:]
    ]  # fmt: skip
    return {"versions": versions}


def tables(done: Sequence[Row], looked: Sequence[Row]) -> Row:
    """Hits and false alarms with exact intervals, by what was planted and by what did harm."""
    clean = [row["performance"] for row in done[1:] if not row["fault"]]
    least = statistics.fmean(clean) - 2 * statistics.stdev(clean)
    fault = {row["version"] for row in done if row["fault"]}
    harm = {row["version"] for row in done[1:] if row["performance"] < least}
    out: Row = {"harmful": sorted(harm), "held_out_sd": statistics.stdev(clean)}
    for what, bad in (("fault_present", fault), ("harm", harm)):
        out[what] = [
            {"when": when, **counted(looked, seen, kinds, bad)}
            for when, seen, kinds in [
                ("before training", SEEN[-1], ("before",)),
                *((f"at {seen} %", seen, ("during",)) for seen in SEEN),
                *((f"before or at {seen} %", seen, ("before", "during")) for seen in SEEN),
            ]
        ]
    return out


def counted(looked: Sequence[Row], seen: int, kinds: Sequence[str], bad: set[str]) -> Row:
    """How many bad versions are flagged, and how many others."""
    flagged = {
        row["version"]: any(row[kind] for kind in kinds) for row in looked if row["seen"] == seen
    }
    hits = [name for name, yes in flagged.items() if yes and name in bad]
    alarms = [name for name, yes in flagged.items() if yes and name not in bad]
    n_bad = sum(name in bad for name in flagged)
    n_good = len(flagged) - n_bad
    return {
        "hits": len(hits), "of": n_bad, "interval": exact_interval(len(hits), n_bad),
        "false_alarms": len(alarms), "of_others": n_good,
        "interval_of_others": exact_interval(len(alarms), n_good),
        "missed": sorted(set(bad) & set(flagged) - set(hits)), "alarms": alarms,
    }  # fmt: skip


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson."""
    from scipy.stats import beta

    if not n:
        return 0.0, 1.0
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


if __name__ == "__main__":
    main()
