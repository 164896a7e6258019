"""Selectors that lower redundancy, judged at equal bytes by what none of them optimises.

    python benchmarks/redundancy.py POOL [--rows 40000] [--budgets 0.2] [--methods ...] [-o RESULT]
    python benchmarks/redundancy.py POOL --growth [--sizes 10000 50000 ...] [-o RESULT]

A method is `NAME[:setting=value[;setting=value]][+refuse[=similarity]]`: a selector of didact, its
settings, and whether near-duplicates are refused. Every selection is cut at the same share of the
pool's bytes and set beside random rows, beside random rows of its own lengths, and of its own
lengths and sources. Noise is planted in the pool first and counted in what was taken; 1,600 rows
are held out.

Stops and starts again where it was: what is in RESULT is not done again unless the selectors'
code has changed since (growth: unless --redo); sets that were measured are found by content in
--work, where pools of noise, rankings and growth lie too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

import didact
import instruments
from didact import Budget
from didact.core.cache import default_cache_dir
from didact.core.pool import Pool
from didact.selection.around.budget import candidates
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results"
METHODS = ("zip", "zip+refuse", "feature_based", "feature_based+refuse",
           "shingle_novelty", "shingle_novelty+refuse")  # fmt: skip
HELD_OUT, FOREIGN = 1600, 1500  # rows held out; rows that noise takes its words and letters from
LESS_XZ, FEWER_DUPLICATES, ENTROPY_BITS = 0.8, 0.25, 0.2  # what is aimed at
Record = dict[str, Any]


# -- the pool --------------------------------------------------------------------------------------


def texts_of(pool: Pool) -> list[bytes]:
    return [
        text.encode()
        for rows in pool.batches()
        for text in pool.read(rows, ["text"]).column("text").to_pylist()
    ]


def noisy(record: Record, make: instruments.Make, rng: np.random.Generator) -> Record:
    """A row with the turns, lengths and source of another, its words replaced by noise."""

    def noise(text: str) -> str:
        n = len(text.encode())
        return instruments.cut(make(n, rng), n)

    out: Record = {"source": record.get("source", "")}
    if "messages" in record:
        turns = record["messages"]
        out["messages"] = [{"role": m["role"], "content": noise(m["content"])} for m in turns]
    else:
        out["text"] = noise(record["text"])
    return out


def write_pool(whole: Pool, folder: Path, *, n_rows: int, noise: float, seed: int) -> Path:
    """Draw rows, plant noise among them, hold others out; into `folder`, once.

    Every kind of noise has as many rows; each is the size, turn by turn, of a row of the pool.
    """
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    n_rows = min(n_rows, len(whole) - HELD_OUT - FOREIGN)
    inside, held, foreign = np.split(
        rng.permutation(len(whole))[: n_rows + HELD_OUT + FOREIGN], [n_rows, n_rows + HELD_OUT]
    )
    records = [orjson.loads(line) for line in whole.records(np.sort(inside))]
    makers = instruments.kinds(
        " ".join(text_of(r) for r in records[:: max(1, len(records) // 5000)]).split(),
        [text_of(orjson.loads(line)) for line in whole.records(np.sort(foreign))],
    )
    each = round(noise * n_rows / len(makers))
    planted = [
        {"id": f"noise:{kind}:{i}", **noisy(records[rng.integers(len(records))], make, rng)}
        for kind, make in makers.items()
        for i in range(each)
    ]
    lines = [orjson.dumps(r) for r in (*records, *planted)]
    order = rng.permutation(len(lines))
    (folder / "pool.jsonl").write_bytes(b"".join(lines[i] + b"\n" for i in order))
    held_lines = [line + b"\n" for line in whole.records(np.sort(held))]
    (folder / "held_out.jsonl").write_bytes(b"".join(held_lines))
    (folder / "done").touch()
    return folder


def text_of(record: Record) -> str:
    if "messages" in record:
        return "\n".join(m["content"] for m in record["messages"])
    return str(record["text"])


@dataclass(frozen=True)
class Bench:
    """The pool under judgement and what every arm needs of it."""

    pool: Pool
    held_out: list[bytes]
    cache: Path

    @cached_property
    def texts(self) -> list[bytes]:
        """Every row's text."""
        return texts_of(self.pool)

    @cached_property
    def kind_of(self) -> np.ndarray:
        """The kind of noise of each row, "" for real ones."""
        ids = self.pool.ids.to_pylist()
        return np.array([i.split(":")[1] if i.startswith("noise:") else "" for i in ids])

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows that may be chosen."""
        return candidates(self.pool, None)

    @cached_property
    def cells(self) -> np.ndarray:
        """Source and quarter-octave of length of each row; -1 where it may not be chosen."""
        cells = self.pool.source_codes * (int(self.lengths.max()) + 1) + self.lengths
        return np.where(self.lengths < 0, -1, cells)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Quarter-octave of length of each row; -1 where it may not be chosen."""
        out = np.full(len(self.pool), -1)
        out[self.rows] = instruments.quarter_octaves(self.pool.n_bytes[self.rows])
        return out

    def limit(self, share: float) -> int:
        """A share of the pool in bytes."""
        return int(share * int(self.pool.n_bytes.sum()))

    def prefix(self, ranking: np.ndarray, share: float) -> np.ndarray:
        """The longest prefix of a ranking within a share of the pool's bytes."""
        filled = np.cumsum(self.pool.n_bytes[ranking])
        return ranking[: int(np.searchsorted(filled, self.limit(share), side="right"))]

    def read(self, rows: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """A set's texts, in an order of its own, and which of them are noise."""
        chosen = np.random.default_rng(0).permutation(np.sort(rows))
        return [self.texts[i] for i in chosen], self.kind_of[chosen] != ""

    def xz(self, rows: np.ndarray) -> Record:
        """The two xz ratios of one set of rows."""
        return instruments.xz_ratios(*self.read(rows))

    def judge(self, rows: np.ndarray) -> Record:
        """All numbers of one set of rows."""
        out: Record = instruments.measure(*self.read(rows), self.held_out, self.cache)
        n_sources = len(self.pool.source_names)
        sources, all_ = (
            np.bincount(self.pool.source_codes[r], minlength=n_sources) for r in (rows, self.rows)
        )
        out["sources"] = int((sources > 0).sum())
        out["source_entropy_bits"] = instruments.entropy_bits(sources)
        moved = np.abs(sources / sources.sum() - all_ / all_.sum()).sum() / 2
        out["source_shift"] = float(moved)  # total variation: entropy alone does not see a swap
        kinds = self.kind_of[rows]
        out["noise"] = {
            kind: int((kinds == kind).sum()) for kind in np.unique(self.kind_of).tolist() if kind
        }
        out["noise_rows"] = int((kinds != "").sum())
        out["noise_bytes_share"] = float(
            self.pool.n_bytes[rows[kinds != ""]].sum() / self.pool.n_bytes[rows].sum()
        )
        return out


# -- the arms --------------------------------------------------------------------------------------


def parsed(method: str) -> tuple[str, Record]:
    """`NAME[:setting=value;…][+refuse[=similarity]]` → the selector's name and its settings."""
    head, _, option = method.partition("+")
    name, _, text = head.partition(":")
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    settings = {key: yaml.safe_load(value) for key, _, value in pairs}
    refuse, _, similarity = option.partition("=")
    if refuse not in {"", "refuse"}:
        raise SystemExit(f"method {method!r}: after '+' expected 'refuse'")
    if refuse:
        settings["near_duplicates"] = {"similarity": float(similarity or 0.8)}
    return name, settings


def ranked(bench: Bench, method: str, share: float, work: Path) -> tuple[np.ndarray, Record]:
    """Rows best first that reach a share of the pool's bytes, and what choosing them took.

    The longest ranking so far is kept: a prefix of it is the answer to a smaller budget, unless
    quotas are shares of the budget.
    """
    name, settings = parsed(method)
    what = [method, code(), bench.pool.fingerprint, share if "quotas" in settings else ""]
    key = hashlib.blake2b(json.dumps(what).encode(), digest_size=12).hexdigest()
    file = work / "rankings" / f"{key}.npz"
    if file.exists():
        with np.load(file) as kept:
            facts = json.loads(str(kept["facts"]))
            if facts["share"] >= share:
                return kept["rows"], facts
    tokens, more = bench.pool.n_tokens[bench.rows].sum(), 1.03
    while True:
        goal = int(min(tokens, share * bench.pool.n_tokens.sum() * more))
        cpu, wall = time.process_time(), time.perf_counter()
        chosen = didact.select(bench.pool, None, name, budget=Budget(tokens=goal), **settings)
        facts = {
            "share": share,
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "wall_seconds": round(time.perf_counter() - wall, 2),
            "notes": list(chosen.notes),
        }
        rows = chosen.best_first()
        if bench.pool.n_bytes[rows].sum() >= bench.limit(share) or goal == tokens:
            break
        if bench.pool.n_tokens[rows].sum() < 0.98 * goal:
            facts["notes"].append("nobody was left before the budget was reached")
            break
        more *= 1.1
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, rows=rows, facts=json.dumps(facts))
    return rows, facts


def code() -> str:
    """Identity of the code that chooses."""
    source = Path(didact.__file__).parent
    files = sorted([*(source / "selection").glob("*.py"), *(source / "text").glob("*.py")])
    return hashlib.blake2b(b"".join(f.read_bytes() for f in files), digest_size=6).hexdigest()


class Store:
    """The result file: rewritten whole after every arm, read when there is one."""

    def __init__(self, path: Path, setup: Record) -> None:
        self.path = path
        self.content: Record = {"machine": machine(), "setup": setup, "arms": {}}
        if path.exists():
            self.content = json.loads(path.read_text())
            if self.content["setup"] != setup:
                raise SystemExit(
                    f"{path} is of another set-up:\n{self.content['setup']}\nhere:\n{setup}\n"
                    "move it away or name another file with -o"
                )

    def drop(self, methods: Sequence[str]) -> None:
        """Forget these methods."""
        for key in [k for k, arm in self.arms.items() if arm.get("method") in methods]:
            del self.arms[key]

    @property
    def arms(self) -> Record:
        """What is done, by name."""
        return self.content["arms"]

    def put(self, key: str, record: Record) -> None:
        """Add an arm and write the file."""
        self.arms[key] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n")
        part.replace(self.path)


def run_arms(bench: Bench, store: Store, options: argparse.Namespace) -> None:
    """Every arm that is not there yet; selectors from the largest budget to the smallest."""
    budgets = sorted(options.budgets, reverse=True)
    for share in budgets:
        for seed in range(options.seeds):
            if (key := f"random {share} {seed}") not in store.arms:
                rows = np.random.default_rng([seed, 1]).permutation(bench.rows)
                store.put(key, bench.judge(bench.prefix(rows, share)))
                print(key, flush=True)
    for method in options.methods:
        for share in budgets:
            key = f"{method} {share}"
            if key not in store.arms or store.arms[key]["code"] != code():
                ranking, facts = ranked(bench, method, share, options.work)
                rows = bench.prefix(ranking, share)
                digest = hashlib.blake2b(np.sort(rows).tobytes(), digest_size=8).hexdigest()
                here = {"method": method, "of": digest, "code": code(), "selecting": facts}
                store.put(key, {**bench.judge(rows), **here})
                print(key, flush=True)
                np.save(options.work / f"{digest}.npy", rows)
            digest = store.arms[key]["of"]
            for seed in range(options.seeds):
                for control, cells in (("like", bench.cells), ("long", bench.lengths)):
                    like = f"{control} {method} {share} {seed}"
                    if like in store.arms and store.arms[like]["of"] == digest:
                        continue
                    rows = np.load(options.work / f"{digest}.npy")
                    drawn = instruments.matched(cells, rows, np.random.default_rng([seed, 2]))
                    drawn = bench.prefix(drawn, share)
                    found = bench.judge(drawn) if control == "like" else bench.xz(drawn)
                    store.put(like, {**found, "of": digest})
                    print(like, flush=True)


# -- the tables ------------------------------------------------------------------------------------


def median(records: Sequence[Record], name: str) -> float:
    return float(statistics.median(r[name] for r in records))


def middle(records: Sequence[Record]) -> Record:
    """Medians of several seeds, number by number."""
    out = {k: median(records, k) for k, v in records[0].items() if isinstance(v, int | float)}
    noise = [r["noise"] for r in records if "noise" in r]
    return {**out, "noise": {k: median(noise, k) for k in noise[0]}} if noise else out


def aims(arm: Record, random: Record, like: Record, long: Record) -> dict[str, tuple[bool, str]]:
    """The four aims: met or not, and by how much.

    Args:
        arm: The selection.
        random: Random rows.
        like: Random rows of the selection's lengths and sources.
        long: Random rows of the selection's lengths.
    """
    xz, of_length = (arm["xz_ratio"] / control["xz_ratio"] - 1 for control in (like, long))
    clean, clean_length = (
        arm["xz_ratio_clean"] / control["xz_ratio_clean"] - 1 for control in (like, long)
    )
    rows = arm["near_duplicate_rows"], random["near_duplicate_rows"]
    over = [k for k, n in arm["noise"].items() if n > random["noise"][k]]
    entropy = arm["source_entropy_bits"] - random["source_entropy_bits"]
    return {
        "xz, lengths": (
            1 + of_length <= LESS_XZ, f"{100 * of_length:+.1f} % ({100 * clean_length:+.1f} %)"
        ),
        "xz": (1 + xz <= LESS_XZ, f"{100 * xz:+.1f} % ({100 * clean:+.1f} %)"),
        "near-duplicates": (
            rows[0] < FEWER_DUPLICATES * rows[1], f"{rows[0] / max(rows[1], 1):.2f} ×"
        ),
        "noise": (
            not over and arm["noise_rows"] <= random["noise_rows"],
            f"{arm['noise_rows']:.0f} of {random['noise_rows']:.0f}"
            + (f"; over in {', '.join(over)}" if over else ""),
        ),
        "sources": (abs(entropy) <= ENTROPY_BITS, f"{entropy:+.2f} bits"),
    }  # fmt: skip


def group(arms: Record, name: str, share: float, of: str | None = None) -> list[Record]:
    """The seeds of a control; only those made for the selection `of`, where it is named."""
    found = (arms.get(f"{name} {share} {seed}") for seed in range(1000))
    return [arm for arm in found if arm and arm.get("of") == of]


def tables(arms: Record, methods: Sequence[str], budgets: Sequence[float]) -> Iterator[str]:
    """Markdown: for every budget the numbers, the noise, the aims."""
    for share in budgets:
        free = group(arms, "random", share)
        if not free:
            continue
        random = middle(free)
        made = {m: arms[f"{m} {share}"]["of"] for m in methods if f"{m} {share}" in arms}
        done = [m for m, of in made.items() if group(arms, f"long {m}", share, of)]
        likes = {m: middle(group(arms, f"like {m}", share, made[m])) for m in done}
        yield f"\n### {100 * share:g} % of the bytes, {len(free)} seeds of random (medians)\n"
        yield (
            "| | samples | mean B | xz | matched | xz less noise | matched | zstd | zlib "
            "| 3-grams k/MB | near-dup rows (pairs) | matched | held-out xz kB | matched "
            "| sources, bits | moved | CPU s |"
        )
        yield "|---|" + "---|" * 16
        yield _line("random", random, None)
        yield from (_line(m, arms[f"{m} {share}"], likes[m]) for m in done)
        kinds = list(random["noise"])
        yield "\nNoise taken, rows:\n"
        yield "| | " + " | ".join(kinds) + " | all | share of bytes |"
        yield "|---|" + "---|" * (len(kinds) + 2)
        for name, arm in [("random", random), *((m, arms[f"{m} {share}"]) for m in done)]:
            counts = " | ".join(f"{arm['noise'][kind]:.0f}" for kind in kinds)
            bytes_ = f"{100 * arm['noise_bytes_share']:.2f} %"
            yield f"| {name} | {counts} | {arm['noise_rows']:.0f} | {bytes_} |"
        yield (
            "\nAims. xz against random rows of the same lengths, and of the same lengths and "
            "sources (with the noise left out of both); the others against random rows:\n"
        )
        yield (
            "| | xz ≥ 20 % lower, lengths | lengths and sources | near-dup rows < ¼ "
            "| noise ≤ random | sources ± 0.2 bits |"
        )
        yield "|---|---|---|---|---|---|"
        for m in done:
            long = middle(group(arms, f"long {m}", share, made[m]))
            reached = aims(arms[f"{m} {share}"], random, likes[m], long)
            cells = (f"{'yes' if met else '**no**'}: {by}" for met, by in reached.values())
            yield f"| {m} | " + " | ".join(cells) + " |"


def _line(name: str, arm: Record, like: Record | None) -> str:
    def beside(key: str, form: str, scale: float = 1) -> str:
        return "" if like is None else format(like[key] / scale, form)

    return " | ".join(
        (
            f"| {name}",
            f"{arm['samples']:.0f}",
            f"{arm['mean_bytes']:.0f}",
            f"{arm['xz_ratio']:.2f}",
            beside("xz_ratio", ".2f"),
            f"{arm['xz_ratio_clean']:.2f}",
            beside("xz_ratio_clean", ".2f"),
            f"{arm['zstd_ratio']:.2f}",
            f"{arm['zlib_ratio']:.2f}",
            f"{arm['trigrams_k_per_mb']:.0f}",
            f"{arm['near_duplicate_rows']:.0f} ({arm['near_duplicate_pairs']:.0f})",
            beside("near_duplicate_rows", ".0f"),
            f"{arm['held_out_xz_bytes'] / 1e3:.0f}",
            beside("held_out_xz_bytes", ".0f", 1e3),
            f"{arm['sources']:.0f}, {arm['source_entropy_bits']:.2f}",
            f"{100 * arm['source_shift']:.0f} %",
            f"{arm['selecting']['cpu_seconds']:.1f} |" if "selecting" in arm else "|",
        )
    )


# -- growth ----------------------------------------------------------------------------------------

GROWTH_SHARE = 0.2  # of the tokens, for selectors whose time grows with the pool
ZIP_SAMPLES, ZIP_SHARE = 5000, 0.05  # a fixed number, and a growing one


def varied(records: Sequence[Record], n: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Rows drawn from `records`, one word in ten replaced by a word of the pool's running text.

    The first `len(records)` are the rows themselves; after them no row is an exact duplicate.
    """
    vocabulary = " ".join(text_of(r) for r in records[:: max(1, len(records) // 5000)]).split()

    def vary(text: str) -> str:
        words = text.split(" ")
        for at in np.flatnonzero(rng.random(len(words)) < 0.1):
            words[at] = vocabulary[rng.integers(len(vocabulary))]
        return " ".join(words)

    for i in range(n):
        if i < len(records):
            yield orjson.dumps(records[i]) + b"\n"
            continue
        record = records[rng.integers(len(records))]
        new: Record = {"id": f"{record['id']}~{i}", "source": record.get("source", "")}
        if "messages" in record:
            turns = record["messages"]
            new["messages"] = [{**m, "content": vary(m["content"])} for m in turns]
            new["messages"][-1]["content"] += f" {i}"
        else:
            new["text"] = f"{vary(record['text'])} {i}"
        yield orjson.dumps(new) + b"\n"


def growth_budgets(method: str, pool: Pool) -> dict[str, Record]:
    """Budgets of a method for one pool, by name."""
    if parsed(method)[0] != "zip":
        name = f"{100 * GROWTH_SHARE:g} % of the tokens"
        return {name: {"tokens": int(GROWTH_SHARE * pool.n_tokens.sum())}}
    return {
        f"{ZIP_SAMPLES} samples": {"samples": min(ZIP_SAMPLES, len(pool))},
        f"{100 * ZIP_SHARE:g} % of the samples": {"samples": int(ZIP_SHARE * len(pool))},
    }


def peak_mib() -> int:
    """Most memory this process had; `ru_maxrss` would count what its parent had at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise SystemExit("peak memory is read from /proc/self/status, which Linux has")


def measure_one(store: Path, fingerprint: str, method: str, budget: str, workers: int) -> Record:
    """Time and memory of one selection; to be called in a process of its own."""
    pool = Pool(store, fingerprint)
    ctx = didact.context(workers=workers, cache_dir=tempfile.mkdtemp(dir=store.parent.parent))
    pool.n_tokens.sum()
    name, settings = parsed(method)
    before = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    chosen = didact.select(pool, None, name, budget=Budget(**json.loads(budget)), ctx=ctx,
                           **settings)  # fmt: skip
    return {
        "samples": len(chosen),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
        "notes": list(chosen.notes),
    }


def run_growth(whole: Pool, store: Store, options: argparse.Namespace) -> None:
    """Every method at every size, each in a fresh process, after one that compiles."""
    rng = np.random.default_rng(options.seed)
    records: list[Record] = []
    for size in sorted(options.sizes):
        todo = [m for m in options.methods if not _grown(store, m, size)]
        if not todo:
            continue
        if not records:
            order = rng.permutation(len(whole))
            records = [orjson.loads(line) for line in whole.records(order)]
        file = options.work / f"growth-{whole.fingerprint[:12]}-{size}.jsonl"
        if not file.exists():
            part = file.with_suffix(".part")
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as out:
                out.writelines(varied(records, size, np.random.default_rng([options.seed, size])))
            part.replace(file)
        pool = didact.read(file, cache_dir=options.work / "pools", dedup=options.dedup)
        for method in todo:
            for name, budget in growth_budgets(method, pool).items():
                key = f"{method} {size} {name}"
                what = (pool.path, pool.fingerprint, method, json.dumps(budget), options.workers)
                command = [sys.executable, __file__, "--measure-one", *map(str, what)]
                if size == min(options.sizes):  # what is compiled and cached on first use
                    subprocess.run(command, check=True, stdout=subprocess.PIPE)
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                record = {
                    "method": method,
                    "rows": size,
                    "bytes": int(pool.n_bytes.sum()),
                    "budget": name,
                    "code": code(),
                    **json.loads(done.stdout),
                }
                store.put(key, record)
                print(key, record["cpu_seconds"], "s,", record["peak_mib"], "MiB", flush=True)


def _grown(store: Store, method: str, size: int) -> bool:
    done = [r for r in store.arms.values() if r["method"] == method and r["rows"] == size]
    return len(done) == (2 if parsed(method)[0] == "zip" else 1)


def growth_table(arms: Record) -> Iterator[str]:
    """Markdown; the exponent is of CPU seconds in rows, from the size before."""
    yield "| method, budget | rows | MB | samples | CPU s | exponent | wall s | peak MiB |"
    yield "|---|" + "---|" * 7
    before: Record = {}
    for r in sorted(arms.values(), key=lambda r: (r["method"], r["budget"], r["rows"])):
        exponent = ""
        same = before and all(before[k] == r[k] for k in ("method", "budget"))
        if same and min(before["cpu_seconds"], r["cpu_seconds"]) > 0:
            times = np.log(r["cpu_seconds"] / before["cpu_seconds"])
            exponent = f"{times / np.log(r['rows'] / before['rows']):.2f}"
        before = r
        yield (
            f"| {r['method']}, {r['budget']} | {r['rows']:,} | {r['bytes'] / 1e6:.0f} "
            f"| {r['samples']:,} | {r['cpu_seconds']:.1f} | {exponent} "
            f"| {r['wall_seconds']:.1f} | {r['peak_mib']:,} |"
        )


# -- the command -----------------------------------------------------------------------------------


def main() -> None:
    if sys.argv[1:2] == ["--measure-one"]:
        store, fingerprint, method, budget, workers = sys.argv[2:]
        print(json.dumps(measure_one(Path(store), fingerprint, method, budget, int(workers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.2])
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="draws the rows and the noise")
    parser.add_argument("--noise", type=float, default=0.02, help="share of rows, planted")
    parser.add_argument("--dedup", choices=["exact", "none"], default="exact")
    parser.add_argument("--chunk", type=int, help="cut long texts into this many tokens")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+",
                        default=[10_000, 50_000, 150_000, 1_500_000])  # fmt: skip
    parser.add_argument("--redo", nargs="*", default=[], help="methods to run again")
    parser.add_argument("--workers", type=int, default=1, help="threads of a selection, growth")
    parser.add_argument("--work", type=Path, default=default_cache_dir() / "benchmark-redundancy")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    cut = {"unit": "chunk", "chunk": {"max_tokens": options.chunk}} if options.chunk else {}
    whole = didact.read(options.pool, cache_dir=options.work / "pools", dedup="none", **cut)
    setup = {"pool": options.pool.name, "dedup": options.dedup, "chunk": options.chunk,
             "seed": options.seed}  # fmt: skip
    if options.growth:
        output = options.output or RESULTS / "redundancy_growth.json"
        store = Store(output, setup | {"workers": options.workers})
        store.drop(options.redo)
        run_growth(whole, store, options)
        print("\n".join(growth_table(store.arms)))
        return
    setup |= {"rows": options.rows, "noise": options.noise, "instruments": instruments.VERSION}
    key = hashlib.blake2b(json.dumps([whole.fingerprint, setup]).encode(), digest_size=8)
    folder = write_pool(whole, options.work / key.hexdigest(), n_rows=options.rows,
                        noise=options.noise, seed=options.seed)  # fmt: skip
    pools = options.work / "pools"
    pool = didact.read(folder / "pool.jsonl", cache_dir=pools, dedup=options.dedup)
    held_out = texts_of(didact.read(folder / "held_out.jsonl", cache_dir=pools, dedup="none"))
    bench = Bench(pool, held_out, options.work / "measured")
    setup |= {
        "samples": len(pool),
        "bytes": int(pool.n_bytes.sum()),
        "noise_rows": int((bench.kind_of != "").sum()),
        "held_out": len(held_out),
    }
    store = Store(options.output or RESULTS / "redundancy.json", setup)
    store.drop(options.redo)
    run_arms(bench, store, options)
    print("\n".join(tables(store.arms, options.methods, options.budgets)))


if __name__ == "__main__":
    main()
