"""The main job on a pool larger than memory: what a row takes, at a tenth of the rows and at all.

    python benchmarks/scale.py POOL.jsonl.zst [--rows 15400000] [--folder DIR] [--zst]

Makes two pools of POOL's rows over and over, each with a word changed and an id of its own, and
runs `compression` → `top_k` → `fold` → sixteen shards → report on both, from nothing; then `order`,
`export` and `report` again with `shuffle`, which reads the store at random. Memory is the largest
resident sum over all processes, as `execution/measure` takes it; times are processor seconds.

A size whose runs are done is not done again: results are written after each to
benchmarks/results/scale.json, with a description of the machine; a pool that was made stays in DIR
until its runs are done. A row takes 0.75 kB of DIR as the pool (less with --zst) and 1.5 kB as the
store.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

from main_job import machine, peak_of, rows, text_of

RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"
ORDERS = {"fold": "{method: fold, layers: 3}", "shuffle": "{method: shuffle}"}
CONFIG = """\
seed: 17
data: {{path: "{pool}"}}
score: {{method: compression}}
select: {{method: top_k, budget: {{ratio: {ratio}}}}}
order: {order}
export: {{shards: 16}}
"""
BYTES_A_ROW, MIB = 140, 300  # the limit on memory
CPU_GROWTH, SHUFFLE = 11, 2  # limits: whole ÷ tenth, shuffle ÷ fold
_WORD = re.compile(rb"[^\s\"\\]+")


def varied(pool: Path, n: int) -> Iterator[bytes]:
    """The rows of a pool over and over; after the first time, each with a word changed.

    A row without a word between two spaces keeps its words.
    """
    records = [orjson.loads(line) for line in rows(pool)]
    words = " ".join(text_of(r) for r in records[:: max(1, len(records) // 5000)]).encode()
    vocabulary = list(dict.fromkeys(w for w in words.split() if _WORD.fullmatch(w)))
    lines = [orjson.dumps({"id": "", **{k: r[k] for k in r if k != "id"}}) for r in records]
    ids = [str(r.get("id", i)) for i, r in enumerate(records)]
    del records
    for copy in range(-(-n // len(lines))):
        rng = np.random.default_rng([0, copy])
        places = rng.random(len(lines)).tolist()
        drawn = rng.integers(len(vocabulary), size=len(lines)).tolist()
        for i, line in enumerate(lines[: n - copy * len(lines)]):
            name = orjson.dumps(ids[i] if copy == 0 else f"{ids[i]}~{copy}")
            changed = line if copy == 0 else _changed(line, places[i], vocabulary[drawn[i]])
            yield b'{"id":' + name + changed[len(b'{"id":""') :] + b"\n"


def _changed(line: bytes, place: float, word: bytes) -> bytes:
    """A row as JSON, with spaces in its texts alone, with a word between two of them changed."""
    for first in (int(place * len(line)), 0):
        begin = line.find(b" ", first)
        while begin >= 0:
            end = line.find(b" ", begin + 1)
            if end > 0 and _WORD.fullmatch(line, begin + 1, end):
                return line[: begin + 1] + word + line[end:]
            begin = end
    return line


def made(pool: Path, n: int, folder: Path, *, zst: bool) -> Path:
    """The pool of n rows, streamed to the disk; made once."""
    out = folder / f"pool-{n}.jsonl{'.zst' if zst else ''}"
    if not out.exists():
        part = out.with_name(out.name + ".part")
        with part.open("wb") as raw:
            file: Any = zstandard.ZstdCompressor(3).stream_writer(raw) if zst else raw
            for line in varied(pool, n):
                file.write(line)
            if zst:
                file.close()
        part.rename(out)
    return out


def run(config: Path, out: Path, cache: Path) -> dict[str, Any]:
    """Processor and wall seconds and peak memory of `didact run`, all of its processes together."""
    command = [sys.executable, "-m", "didact.cli", "run", str(config), "-o", str(out),
               "--cache-dir", str(cache), "--workers", "2"]  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = peak_of(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    manifest = json.loads((out / "manifest.json").read_text())
    return {
        "cpu_seconds": round(spent, 2),
        "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_memory_mib": peak // 2**20,
        "stages": {
            s["name"]: {
                "cpu_seconds": round(s["measured"]["value"]["cpu_seconds"], 2),
                "peak_memory_mib": s["measured"]["peak_memory_bytes"] // 2**20,
            }
            for s in manifest["stages"]
        },
    }


def of_rows(pool: Path, n: int, ratio: float, folder: Path) -> dict[str, Any]:
    """A run from nothing that folds, then one with everything up to the choice kept that shuffles.

    Of the second only `order`, `export` and `report` are told: the rest was there.
    """
    cache, found = folder / f"cache-{n}", {}
    shutil.rmtree(cache, ignore_errors=True)
    for name, order in ORDERS.items():
        config, out = folder / f"{n}-{name}.yaml", folder / f"out-{n}-{name}"
        config.write_text(CONFIG.format(pool=pool, ratio=ratio, order=order))
        shutil.rmtree(out, ignore_errors=True)
        found[name] = run(config, out, cache)
        stages = found[name]["stages"]
        if name == "fold":
            size = sum(f.stat().st_size for f in (cache / "pools").rglob("*") if f.is_file())
            found["store_bytes_a_row"] = round(size / n)
        else:
            found[name]["stages"] = {s: stages[s] for s in ("order", "export", "report")}
        shutil.rmtree(out)
    shutil.rmtree(cache)
    return found


def judged(tenth: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The numbers that have a limit, and what a row takes by stage, from the difference."""
    a, b = tenth["fold"], whole["fold"]
    n, more = whole["rows"], whole["rows"] - tenth["rows"]
    memory = max(whole[name]["peak_memory_mib"] for name in ORDERS)
    written = [
        sum(whole[name]["stages"][s]["cpu_seconds"] for s in ("order", "export"))
        for name in ("shuffle", "fold")
    ]
    return {
        "peak_memory_mib": memory,
        "peak_memory_limit_mib": BYTES_A_ROW * n // 2**20 + MIB,
        "bytes_a_row_over_300_mib": round((memory - MIB) * 2**20 / n),
        "cpu_growth": round(b["cpu_seconds"] / a["cpu_seconds"], 2),
        "cpu_growth_limit": CPU_GROWTH * n / tenth["rows"] / 10,
        "shuffle_to_fold": round(written[0] / written[1], 2),
        "shuffle_to_fold_limit": SHUFFLE,
        "a_row_more": {
            s: {
                "cpu_microseconds": round(
                    1e6 * (b["stages"][s]["cpu_seconds"] - a["stages"][s]["cpu_seconds"]) / more, 2
                ),
                "bytes_at_the_peak": round(
                    2**20
                    * (b["stages"][s]["peak_memory_mib"] - a["stages"][s]["peak_memory_mib"])
                    / more
                ),
            }
            for s in b["stages"]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rows", type=int, default=15_400_000)
    parser.add_argument("--ratio", type=float, default=0.2, help="share of the rows that is chosen")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "didact-scale")
    parser.add_argument("--zst", action="store_true", help="compress the pools")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    what = {"of": arguments.pool.name, "ratio": arguments.ratio, "zst": arguments.zst}
    result: dict[str, Any] = {"machine": machine(), "what": what, "runs": {}}
    if arguments.output.exists():
        before = json.loads(arguments.output.read_text())
        if before["what"] == what:
            result["runs"] = before["runs"]
    sizes = [str(arguments.rows // 10), str(arguments.rows)]
    for n in sizes:
        if n not in result["runs"]:
            pool = made(arguments.pool, int(n), arguments.folder, zst=arguments.zst)
            found = of_rows(pool, int(n), arguments.ratio, arguments.folder)
            size = pool.stat().st_size
            result["runs"][n] = {"rows": int(n), "pool_bytes_a_row": round(size / int(n)), **found}
            pool.unlink()
        tenth, whole = (result["runs"].get(size) for size in sizes)
        if tenth and whole:
            result["judged"] = judged(tenth, whole)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        print(n, json.dumps(result["runs"][n]["fold"]["stages"]), flush=True)
    print(json.dumps(result["judged"], indent=1))


if __name__ == "__main__":
    main()
