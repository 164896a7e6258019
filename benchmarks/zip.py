"""ZIP: time and memory beside the same algorithm with copies of zlib's compressor, and growth.

    python benchmarks/zip.py POOL.jsonl.zst [ARM ...] --work DIR [--again] [--small]

Arms, each in processes of its own, all of them by default:

    main       52,000 rows → 10,000 at 10000/200/100, numba and zlib backends, picks compared
    threads    a smaller setting, one and two threads in turn, best of five
    growth     time by rounds and by rows up to ten times the pool, with peak memory
    released   the released algorithm by full recompression where it can finish, and what follows
    compile    compilation on first use

What an arm found is kept in benchmarks/results/zip.json and not done again unless asked. `--small`
rehearses on a twentieth of everything and writes beside the work, not to the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

import didact
from didact.core.pieces import Pieces
from didact.core.pool import Pool
from didact.selection.around.grow import grow
from didact.selection.zip.partial_sort import smallest
from didact.selection.zip.rounds import Rounds, alone, sample_texts
from didact.text.deflate.sizes import DeflateSizes, Texts
from didact.verbs import context

RESULTS = Path(__file__).resolve().parent / "results" / "zip.json"
STAGES = (10_000, 200, 100)


# -- pools -----------------------------------------------------------------------------------------


def opened(options: dict[str, Any]) -> Pool:
    """The first rows as a pool of their own; copies differ by a word in the first turn.

    Read in a process of its own: what reading takes is no part of what selecting takes.
    """
    found = apart("prepare", **{k: options[k] for k in ("pool", "rows", "work", "copies")})
    return Pool(Path(found["path"]), found["fingerprint"])


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Write and read the rows, once."""
    path, n, copies = Path(options["pool"]), options["rows"], options["copies"]
    work = Path(options["work"])
    out = work / f"rows-{n}-{copies}.jsonl"
    if not out.exists():
        with path.open("rb") as raw:
            stream = zstandard.ZstdDecompressor().stream_reader(raw)
            lines = stream.read().split(b"\n")[:n]
        with out.open("wb") as file:
            for copy in range(copies):
                for line in filter(None, lines):
                    row = orjson.loads(line)
                    if copy:
                        row["id"] = f"{row['id']}-{copy}"
                        row["messages"][0]["content"] += f" {copy}"
                    file.write(orjson.dumps(row) + b"\n")
    pool = didact.read(out, cache_dir=work / "cache", dedup="none")
    return {"path": str(pool.path), "fingerprint": pool.fingerprint}


# -- measured in a process of its own --------------------------------------------------------------


def warm_up(**how: Any) -> None:
    """What is compiled is compiled, or read from the cache."""
    texts = Texts(np.frombuffer(b"abcabcabc", np.uint8), np.array([0, 3, 9]))
    with DeflateSizes(texts, **how) as sizes:
        sizes.feed(texts[0])
        sizes.sizes(np.arange(2))


class Counted(DeflateSizes):
    """Adds up what is evaluated."""

    def __init__(self, texts: Texts, **settings: Any) -> None:
        super().__init__(texts, **settings)
        self.lengths = texts.lengths
        self.evaluations = self.bytes = 0

    def sizes(self, rows: Any) -> Any:
        """As in the class below."""
        self.evaluations += len(rows)
        self.bytes += int(self.lengths[rows].sum())
        return super().sizes(rows)


def select(options: dict[str, Any]) -> dict[str, Any]:
    """One selection by the exact mode's own parts, timed after the text is in memory."""
    pool = opened(options)
    texts = sample_texts(pool, np.arange(len(pool)))
    ctx = context(cache_dir=Path(options["work"]) / "cache")
    how = {"workers": options["workers"], "backend": options["backend"]}
    warm_up(**how)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    before -= int(texts.offsets[-1])
    began, cpu = time.perf_counter(), time.process_time()
    with Counted(texts, **how) as whole, Counted(texts, **how) as fresh:
        first = alone(texts, whole, ctx)
        growth = Rounds(texts, whole, fresh, first, tuple(options["stages"]), Pieces())
        picks = grow(growth, np.ones(len(pool), np.int64), options["picks"], ctx)
        evaluations, evaluated = (
            getattr(whole, name) + getattr(fresh, name) for name in ("evaluations", "bytes")
        )
    seconds = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - began,
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": len(pool),
        "picks": len(picks),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "evaluations": evaluations,
        "bytes": evaluated,
        "microseconds an evaluation": round(seconds["cpu"] / evaluations * 1e6, 2),
        "text bytes": int(texts.offsets[-1]),
        "bytes a row beside the text": round((peak - before - int(texts.offsets[-1])) / len(pool)),
        "peak MiB": peak // 2**20,
        "chosen bytes": int(texts.lengths[picks].sum()),
        "sha1": hashlib.sha1(picks.tobytes()).hexdigest()[:12],
    }


def stream(options: dict[str, Any]) -> dict[str, Any]:
    """Throughput of zlib 9 over all the texts as one stream, and each text alone."""
    pool = opened(options)
    texts = sample_texts(pool, np.arange(len(pool)))
    data = texts.data[: 30 * 2**20].tobytes()
    each = [texts[i].tobytes() for i in range(min(len(texts), 30_000))]
    best = {"one stream": 1e9, "each alone": 1e9}
    for _ in range(3):
        began = time.process_time()
        zlib.compress(data, 9)
        best["one stream"] = min(best["one stream"], (time.process_time() - began) / len(data))
        began = time.process_time()
        for text in each:
            zlib.compress(text, 9)
        best["each alone"] = min(
            best["each alone"], (time.process_time() - began) / sum(map(len, each))
        )
    return {f"MB/s, {name}": round(1e-6 / value, 1) for name, value in best.items()}


def recompress(options: dict[str, Any]) -> dict[str, Any]:
    """The released algorithm, everything compressed anew: `str()` of lists, float32 ratios."""
    pool = opened(options)
    rows = [json.loads(record) for record in pool.records(range(len(pool)))]
    k1, k2, k3 = options["stages"]
    compressed = 0

    def ratio(of: list[Any]) -> np.float32:
        nonlocal compressed
        data = str(of).encode()
        compressed += len(data)
        return np.float32(len(data) / len(zlib.compress(data, 9)))

    smallest(np.ones(100, np.float32), 1)
    smallest(np.ones(100, np.float32), 9)
    began = time.process_time()
    state = np.array([ratio([row]) for row in rows])
    chosen: list[int] = []
    table = []
    while len(chosen) < options["picks"]:
        current = smallest(state, k1)
        everything = [rows[j] for j in chosen]
        state[current] = [ratio([*everything, rows[i]]) for i in current.tolist()]
        near = current[smallest(state[current], k2)]
        state[near] = 1e6
        fresh: list[int] = []
        for _ in range(k3):
            found = [ratio([*(rows[j] for j in fresh), rows[i]]) for i in near.tolist()]
            for at, i in enumerate(near.tolist()):
                if i in fresh:
                    found[at] = np.float32(1e6)
            fresh.append(int(near[int(np.argmin(found))]))
        chosen += fresh
        table.append(
            {
                "picks": len(chosen),
                "cpu seconds": round(time.process_time() - began, 2),
                "bytes compressed": compressed,
            }
        )
        print(table[-1], file=sys.stderr, flush=True)
    return {"rounds": table, "sha1": hashlib.sha1(np.array(chosen).tobytes()).hexdigest()[:12]}


def released(options: dict[str, Any]) -> dict[str, Any]:
    """Our released mode, and how many bytes full recompression of the same picks compresses."""
    pool = opened(options)
    k1, k2, k3 = options["stages"]
    ctx = context(cache_dir=tempfile.mkdtemp(dir=options["work"]))  # nothing is found done
    warm_up()
    smallest(np.ones(100, np.float32), 1)
    smallest(np.ones(100, np.float32), 9)
    began, cpu = time.perf_counter(), time.process_time()
    chosen = didact.select(
        pool, None, "zip", budget=didact.Budget(samples=options["picks"]), ctx=ctx,
        mode="released", k1=k1, k2=k2, k3=k3,
    )  # fmt: skip
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - began}
    picks = chosen.best_first()
    lengths = np.array(
        [len(str(json.loads(r)).encode()) + 2 for r in pool.records(range(len(pool)))]
    )
    rounds = len(picks) // k3
    by_round = lengths[picks].reshape(rounds, k3)
    before = np.cumsum(by_round.sum(axis=1)) - by_round.sum(axis=1)  # |S| at each round
    mean = float(lengths.mean())
    inside = (np.cumsum(by_round, axis=1) - by_round).sum(axis=1)  # |T| over its picks
    total = lengths.sum() + k1 * (before.sum() + rounds * mean)
    total += k2 * (inside.sum() + rounds * k3 * mean)
    return {
        "rows": len(pool),
        "picks": len(picks),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "chosen bytes": int(lengths[picks].sum()),
        "bytes that full recompression compresses, nearly": int(total),
        "sha1": hashlib.sha1(picks.tobytes()).hexdigest()[:12],
    }


def compilation(options: dict[str, Any]) -> dict[str, Any]:
    """First use in a process: import, compile or read the cache, one count."""
    del options
    began, cpu = time.perf_counter(), time.process_time()
    warm_up(backend="numba")
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - began}
    return {"seconds": {name: round(value, 2) for name, value in seconds.items()}}


TASKS = {
    task.__name__: task for task in (prepare, select, stream, recompress, released, compilation)
}


def apart(task: str, environment: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """A task in a process of its own."""
    print(
        task,
        {k: v for k, v in options.items() if k not in {"pool", "work"}},
        flush=True,
        file=sys.stderr,
    )
    command = [sys.executable, __file__, "--task", task, json.dumps(options)]
    child = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
    )
    out: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    print("  ", out, flush=True, file=sys.stderr)
    return out


# -- arms ------------------------------------------------------------------------------------------


def main_arm(common: dict[str, Any], small: int) -> dict[str, Any]:
    task = {
        **common, "rows": 52_000 // small, "picks": 10_000 // small,
        "stages": [k // small for k in STAGES],
    }  # fmt: skip
    out: dict[str, Any] = {"zlib 9": apart("stream", **common, rows=task["rows"])}
    for backend, workers in (("numba", 1), ("numba", 2), ("zlib", 1)):
        out[f"{backend}, {workers}"] = apart("select", **task, backend=backend, workers=workers)
    numba, oracle = out["numba, 1"], out["zlib, 1"]
    assert len({out[k]["sha1"] for k in ("numba, 1", "numba, 2", "zlib, 1")}) == 1
    assert numba["evaluations"] == oracle["evaluations"]
    out["cpu, numba / zlib"] = round(numba["seconds"]["cpu"] / oracle["seconds"]["cpu"], 3)
    floor = numba["bytes"] / 1e6 / out["zlib 9"]["MB/s, one stream"]
    out["floor, seconds"] = round(floor, 1)
    out["cpu / floor"] = round(numba["seconds"]["cpu"] / floor, 3)
    return out


def threads_arm(common: dict[str, Any], small: int) -> dict[str, Any]:
    task = {
        **common, "rows": 20_000 // small, "picks": 1_000 // small,
        "stages": [k // small for k in STAGES], "backend": "numba",
    }  # fmt: skip
    runs = [
        [apart("select", **task, workers=workers)["seconds"]["wall"] for workers in (1, 2)]
        for _ in range(5)
    ]
    best = [min(column) for column in zip(*runs, strict=True)]
    return {"wall, one and two": runs, "best": best, "speed-up": round(best[0] / best[1], 3)}


def growth_arm(common: dict[str, Any], small: int) -> dict[str, Any]:
    stages = [k // small for k in STAGES]
    task = {**common, "stages": stages, "backend": "numba", "workers": 1}
    by_rounds = [
        apart("select", **task, rows=50_000 // small, picks=picks // small)
        for picks in (1_000, 2_000, 5_000, 10_000, 20_000)
    ]
    by_rows = [
        apart("select", **{**task, "copies": copies}, rows=rows // small, picks=1_000 // small)
        for rows, copies in ((10_000, 1), (50_000, 1), (150_000, 1), (150_000, 10))
    ]
    return {"by rounds": by_rounds, "by rows": by_rows}


def released_arm(common: dict[str, Any], small: int) -> dict[str, Any]:
    short = {**common, "rows": 4_000 // small, "picks": 400 // small}
    slow = apart("recompress", **short, stages=[1_000 // small, 100 // small, 50 // small])
    ours = apart("released", **short, stages=[1_000 // small, 100 // small, 50 // small])
    assert slow["sha1"] == ours["sha1"]
    table = slow["rounds"][len(slow["rounds"]) // 2 :]
    logs = np.log([[row["picks"], row["cpu seconds"]] for row in table])
    power = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    full = apart(
        "released", **common, rows=52_000 // small, picks=10_000 // small,
        stages=[k // small for k in STAGES],
    )  # fmt: skip
    last = slow["rounds"][-1]
    seconds = last["cpu seconds"] / last["bytes compressed"]
    hours = seconds * full["bytes that full recompression compresses, nearly"] / 3600
    return {
        "full recompression": slow,
        "cpu seconds grow with picks to the power": round(power, 2),
        "MB/s": round(1e-6 / seconds, 1),
        "ours, same picks": ours,
        "ours, large": full,
        "EXTRAPOLATED, not run: cpu hours of full recompression, large": round(hours, 1),
        "EXTRAPOLATED: times slower than ours": round(hours * 3600 / full["seconds"]["cpu"]),
    }


def compile_arm(common: dict[str, Any], small: int) -> dict[str, Any]:
    del common, small
    with tempfile.TemporaryDirectory() as folder:
        cache = {"NUMBA_CACHE_DIR": folder}
        first, again = apart("compilation", cache), apart("compilation", cache)
    return {"first use": first["seconds"], "cached": again["seconds"]}


ARMS = {
    "main": main_arm,
    "threads": threads_arm,
    "growth": growth_arm,
    "released": released_arm,
    "compile": compile_arm,
}


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    import numba

    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "didact": didact.__version__,
    }


def main() -> None:
    if sys.argv[1:2] == ["--task"]:
        print(json.dumps(TASKS[sys.argv[2]](json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("arms", nargs="*", choices=[[], *ARMS])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / "small.json" if arguments.small else RESULTS
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found["machine"] = machine()
    common = {"pool": str(arguments.pool), "work": str(arguments.work), "copies": 1}
    for name in arguments.arms or ARMS:
        if name in found and not arguments.again:
            print(f"{name}: there already")
            continue
        found[name] = ARMS[name](common, 20 if arguments.small else 1)
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({name: found[name]}, indent=1))


if __name__ == "__main__":
    main()
