"""`static_embedding` beside the loop that one would write with model2vec itself.

python benchmarks/static_embedding.py POOL TARGET FOLDER [--rows 40000] [--rounds 3]

Both read the same JSON lines, embed every text whole with the model2vec model in FOLDER, take the
mean cosine to the target's rows, use one thread, and run in a process of their own; rounds take
turns. The loop is what model2vec's README shows, with `max_length=None`, and a product with the
target's mean vector.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import didact

RESULTS = Path(__file__).parent / "results" / "static_embedding.json"
MEASURED = """
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""
BY_DIDACT = """
import sys
import numpy as np
import didact
pool, target, folder, work = sys.argv[1:]
ctx = didact.context(cache_dir=work, workers=1)
pool, target = (didact.read(path, cache_dir=work) for path in (pool, target))
scores = didact.score(pool, "static_embedding", target=target, ctx=ctx, model=folder)
np.save(work + "/scores.npy", scores.values)
"""
BY_LOOP = """
import json, sys
import numpy as np
from model2vec import StaticModel
pool, target, folder, work = sys.argv[1:]
model = StaticModel.from_pretrained(folder)
def vectors(path):
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    found = model.encode(texts, max_length=None, batch_size=1024, use_multiprocessing=False)
    found = found.astype(np.float32)  # the folder may hold float16
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(norms == 0, 1, norms)
np.save(work + "/scores.npy", vectors(pool) @ vectors(target).mean(axis=0))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("target")
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = [texts(options.pool, folder / "pool.jsonl", options.rows)]
        files.append(texts(options.target, folder / "target.jsonl", None))
        rounds = [
            {
                name: run(code, [*files, options.folder], folder / f"{name}{i}")
                for name, code in ARMS
            }
            for i in range(options.rounds)
        ]
        scores = [np.load(folder / f"{name}0" / "scores.npy") for name, _ in ARMS]
    result = {
        "rows": len(scores[0]),
        "largest difference": float(np.nanmax(np.abs(scores[0] - scores[1]))),
        **{
            name: {
                key: round(statistics.median(r[name][key] for r in rounds), 2)
                for key in ("cpu_s", "peak_mib")
            }
            for name, _ in ARMS
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


ARMS = (("didact", BY_DIDACT), ("model2vec", BY_LOOP))


def texts(source: str, path: Path, rows: int | None) -> str:
    """The judged texts of a pool, as lines of JSON."""
    pool = didact.read(source)
    wanted = np.arange(len(pool))[:rows]
    with path.open("w", encoding="utf-8") as file:
        for _, some in pool.texts(wanted):
            file.writelines(json.dumps({"text": text}) + "\n" for text in some.to_pylist())
    return str(path)


def run(code: str, arguments: list[str], work: Path) -> dict[str, Any]:
    work.mkdir()
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", code + MEASURED, *arguments, str(work)],
        env={**os.environ, **one, "TOKENIZERS_PARALLELISM": "false"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
