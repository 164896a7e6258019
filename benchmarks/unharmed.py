"""Runs that are killed, and files that are damaged: the same bytes and the same value cost?

    python benchmarks/unharmed.py kills [--tries 150]
    python benchmarks/unharmed.py damage [--tries 200]
    python benchmarks/unharmed.py costs

`kills` starts each of some runs and kills it (SIGKILL) at a random moment, once or twice, then lets
it finish. `damage` flips a bit of a random file of the cache or of the run folder, cuts the file,
empties it or deletes it, and runs again. `costs` tells, for every scorer, what was charged and what
the value takes, cold, warm, with another budget, and killed half way. Each compares every data file
with those of a run that nobody harmed, and FLOPs and tokens of the value with its. Results go to
benchmarks/results/unharmed.json; a try that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import didact
import goldens
from didact.core.protocols import Progress
from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "unharmed.json"
Config = dict[str, Any]
TOP = {"select": {"method": "top_k", "budget": {"samples": 12}}, "order": {"method": "fold"}}
SMALL = {"data": {"path": "messages.jsonl", "tokenizer": "judge/tokenizer.json"}, **TOP}
MANY = {"data": {"path": "many.jsonl", "validation": 0.05, "batch_rows": 16}}
INNER = {**goldens.INNER, "steps": 9, "every": 3}
LESS = {**goldens.LESS, "epochs": 2}
SCORES: dict[str, Config] = {
    "bm25": {"method": "bm25", **goldens.AIM},
    "bits_per_byte": {"method": "bits_per_byte", **goldens.JUDGE},
    "classifier": {"method": "classifier", **goldens.AIM},
    "column": goldens.GRADED,
    "compression": {"method": "compression"},
    "embedding": {"method": "embedding", **goldens.ENCODER},
    "ifd": {"method": "ifd", **goldens.JUDGE, "above_one": "keep"},
    "learned_grade": {"method": "learned_grade", "grade": "meta.score"},
    "length": {"method": "length"},
    "less": {"method": "less", **LESS},
    "less, projected": {"method": "less", **LESS, **goldens.PROJECTED},
    "lqs": {"method": "lqs", **INNER},
    "lqs, data scorer": {"method": "lqs", **INNER, "proxy": 20},
    "pds": {"method": "pds", **INNER},
    "perplexity": {"method": "perplexity", **goldens.JUDGE},
    "random": {"method": "random"},
    "rds": {"method": "rds", **goldens.JUDGE, **goldens.AIM},
    "static_embedding": {"method": "static_embedding", **goldens.STATIC},
}
NEAR = {"near_duplicates": {"similarity": 0.6, "ngram": 2}}
SETS: dict[str, Config] = {
    "zip": {"method": "zip", "budget": {"samples": 90}, "k1": 60, "k2": 20, "k3": 10, **NEAR},
    "feature_based": {"method": "feature_based", "budget": {"samples": 90}, **NEAR},
    "shingle_novelty": {"method": "shingle_novelty", "budget": {"samples": 90}},
}
RUNS: dict[str, Config] = {
    **{f"score {name}": {**SMALL, "score": score} for name, score in SCORES.items()},
    **{
        f"select {name}": {**MANY, "select": part, "order": {"method": "shuffle"}}
        for name, part in SETS.items()
    },
    "both": {
        **SMALL, "score": SCORES["perplexity"], "export": {"for": "trl", "shards": 3},
        "order": {"method": "fold", "score": SCORES["rds"]},
    },
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every data file of a run folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.parent.name != "stages"
        and path.name not in {"manifest.json", "report.html", ".lock"}
    }


def told(folder: Path) -> dict[str, Any]:
    """FLOPs and tokens of the value, by stage and in all; and what was charged."""
    manifest = json.loads((folder / "manifest.json").read_text())
    values = {s["name"]: s["measured"]["value"] for s in manifest["stages"]}
    values["in all"] = manifest["cost"]["value"]
    return {
        "value": {k: (v["flops"], v["tokens"]) for k, v in values.items()},
        "charged": manifest["cost"]["charged"], "whole": manifest["cost"]["value"],
    }  # fmt: skip


def forked(work: Callable[[], object]) -> int:
    """Do it in a process of its own; its number."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told by the exit code and on stderr
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return child


def run(name: str, folder: Path, watch: Callable[[Progress], None] | None = None) -> list[str]:
    """One run in a folder that has its cache, in this process."""
    done = didact.run(
        RUNS[name], folder / "out", cache_dir=folder / "cache", workers=1,
        **({} if watch is None else {"progress": watch}),
    )  # fmt: skip
    return list(done.changes)


def finish(name: str, folder: Path) -> None:
    """The same, in a process of its own, which must end well."""
    _, status = os.waitpid(forked(partial(run, name, folder)), 0)
    if status:
        raise SystemExit(f"{name}: ended with {status} after it was harmed")


def unharmed(names: list[str], home: Path) -> dict[str, tuple[Path, dict[str, bytes], Any, float]]:
    """Each run once, to compare with: its folder, files, costs, seconds."""
    out = {}
    for name in names:
        folder = home / name.replace(" ", "-")
        began = time.perf_counter()
        finish(name, folder)
        seconds = time.perf_counter() - began
        out[name] = (folder, contents(folder / "out"), told(folder / "out"), seconds)
        print(f"{name}: {seconds:.2f} s", flush=True)
    return out


def kills(tries: int, home: Path, done: list[Any], keep: Callable[[], None]) -> None:
    """Kill each run at random moments, in turn."""
    names = list(RUNS)
    whole = unharmed(names, home)
    for number in range(len(done), tries):
        name = names[number % len(names)]
        rng = random.Random(number)
        _, files, costs, seconds = whole[name]
        folder = home / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        moments = [rng.random() * seconds for _ in range(1 + number % 2)]
        alive = 0
        for moment in moments:
            child = forked(partial(run, name, folder))
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            alive += status == 0
        left = sum(1 for p in (folder / "cache").rglob("*.tmp")) if folder.exists() else 0
        finish(name, folder)
        after = told(folder / "out")
        record = {
            "run": name, "killed_after": [round(m, 3) for m in moments], "was_done": alive,
            "left_half_written": left,
            "bytes_equal": contents(folder / "out") == files,
            "value_equal": after["value"] == costs["value"],
            "unfinished_left": sum(1 for _ in (folder / "cache" / "unfinished").glob("*")),
        }  # fmt: skip
        done.append(record)
        keep()
        print(number, record, flush=True)


def damage(tries: int, home: Path, done: list[Any], keep: Callable[[], None]) -> None:
    """Harm one file at a time."""
    names = [n for n in RUNS if n not in {"score random", "score column", "score length"}]
    whole = unharmed(names, home)
    for number in range(len(done), tries):
        name = names[number % len(names)]
        rng = random.Random(1000 + number)
        origin, files, costs, _ = whole[name]
        folder = home / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(origin, folder)
        in_cache = bool(number // len(names) % 2)
        if in_cache:  # a new run folder, so that everything is asked of the cache
            shutil.rmtree(folder / "out")
            if number // len(names) % 4 == 3:  # and what lies deeper is asked for, too
                for kind in ("scores", "annotations", "selections"):
                    shutil.rmtree(folder / "cache" / kind, ignore_errors=True)
        place = folder / ("cache" if in_cache else "out")
        candidates = sorted(p for p in place.rglob("*") if p.is_file() and p.name != ".lock")
        path = rng.choice(candidates)
        how = ("flip", "cut", "empty", "delete")[number % 4]
        data = path.read_bytes()
        harm(path, data, how, rng)
        changes: list[str] = []
        outcome = "mended"
        try:
            changes = run(name, folder)
            same = contents(folder / "out") == files
            equal = told(folder / "out")["value"] == costs["value"]
            if not (same and equal):
                outcome = "WRONG"
            elif not (path.exists() and (path.read_bytes() == data or told_anew(path))):
                outcome = "mended elsewhere" if changes else "not read"
        except Exception as error:  # noqa: BLE001 - it is the result
            outcome = f"ERROR {type(error).__name__}: {error}"
        record = {
            "run": name, "file": kind_of(path.relative_to(folder)), "how": how,
            "outcome": outcome, "told": [c.replace(str(folder), "") for c in changes][:3],
        }  # fmt: skip
        done.append(record)
        keep()
        print(number, record, flush=True)


def harm(path: Path, data: bytes, how: str, rng: random.Random) -> None:
    """Damage a file."""
    if how == "delete" or not data:
        path.unlink()
    elif how == "flip":
        at = rng.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(changed))
    else:
        path.write_bytes(data[: rng.randrange(len(data))] if how == "cut" else b"")


def told_anew(path: Path) -> bool:
    """Whether a file tells seconds, and so is whole again though its bytes differ."""
    run, seal = path.parent.name == "stages", path.name in {"manifest.json", "entry.json"}
    return (run or seal or path.suffix == ".html") and path.stat().st_size > 0


def kind_of(path: Path) -> str:
    """A file's place without keys and numbers."""
    parts = ["<key>" if len(p) == 32 else p for p in path.parts]
    return "/".join(parts)


def costs(home: Path, done: list[Any], keep: Callable[[], None]) -> None:
    """What each scorer is charged and takes: cold, warm, another budget, killed."""
    known = {r["scorer"] for r in done}
    for name in (n for n in SCORES if n not in known):
        folder = home / "costs"
        shutil.rmtree(folder, ignore_errors=True)
        key = f"score {name}"
        row: dict[str, Any] = {"scorer": name}
        began = time.perf_counter()
        finish(key, folder)
        seconds = time.perf_counter() - began
        row["cold"] = stage_cost(folder / "out")
        files = contents(folder / "out")
        shutil.rmtree(folder / "out")
        finish(key, folder)
        row["warm"] = stage_cost(folder / "out")
        RUNS["other"] = {**RUNS[key], "select": {"method": "top_k", "budget": {"samples": 7}}}
        finish("other", folder)
        row["another budget"] = stage_cost(folder / "out")
        shutil.rmtree(folder)
        child = forked(partial(run, key, folder))
        time.sleep(0.6 * seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finish(key, folder)
        row["killed at 0.6"] = stage_cost(folder / "out")
        row["bytes_equal"] = contents(folder / "out") == files
        done.append(row)
        keep()
        print(json.dumps(row), flush=True)


def stage_cost(folder: Path) -> dict[str, float]:
    """Of the stage `score`."""
    manifest = json.loads((folder / "manifest.json").read_text())
    measured = next(s["measured"] for s in manifest["stages"] if s["name"] == "score")
    return {
        f"{kind} {what}": round(measured[kind][what], 4)
        for kind in ("charged", "value")
        for what in ("flops", "tokens", "cpu_seconds")
    }


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Counts over the tries."""
    out: dict[str, Any] = {}
    if result.get("kills"):
        rows = result["kills"]
        out["kills"] = {
            "tries": len(rows), "kills": sum(len(r["killed_after"]) for r in rows),
            "bytes_equal": sum(r["bytes_equal"] for r in rows),
            "value_equal": sum(r["value_equal"] for r in rows),
        }  # fmt: skip
    if result.get("damage"):
        table = Counter((r["how"], r["outcome"].split(" ")[0]) for r in result["damage"])
        out["damage"] = {f"{how}: {outcome}": n for (how, outcome), n in sorted(table.items())}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("kills", "damage", "costs"))
    parser.add_argument("--tries", type=int)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    import peft  # noqa: F401 - loaded once, before any fork
    import sentence_transformers  # noqa: F401
    import transformers  # noqa: F401

    result: dict[str, Any] = {}
    if arguments.output.exists():
        result = json.loads(arguments.output.read_text())
    rows = result.setdefault(arguments.what, [])

    def keep() -> None:
        result["machine"] = machine()
        result["summary"] = summary(result)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory(prefix="didact-unharmed-") as name:
        os.chdir(name)
        goldens.write_data()
        goldens.write_models()
        home = Path(name) / "runs"
        if arguments.what == "kills":
            kills(arguments.tries or 150, home, rows, keep)
        elif arguments.what == "damage":
            damage(arguments.tries or 200, home, rows, keep)
        else:
            costs(home, rows, keep)
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
